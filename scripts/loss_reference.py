"""Reference values of losses, by torch in float64: python3 scripts/loss_reference.py > test/fixtures/losses/torch.json

The weights are written as in diffusers' training scripts (snr_gamma; the SNR of x_0 in train_unconditional.py) and in the
code of P2 weighting. Each case has the loss and its gradient by the model output.
"""
import json

import torch
import torch.nn.functional as F

torch.manual_seed(0)
ROWS, N = 7, 5
# From a nearly clean sample to zero terminal SNR.
alphas_cumprod = torch.tensor([0.9999, 0.97, 0.8, 0.5, 0.1, 4e-5, 0.0], dtype=torch.float64)
clean = torch.randn(ROWS, N, dtype=torch.float64)
epsilon = torch.randn(ROWS, N, dtype=torch.float64)
output = 1.3 * torch.randn(ROWS, N, dtype=torch.float64)
alpha = alphas_cumprod[:, None]
noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * epsilon
targets = {
    "epsilon": epsilon,
    "v_prediction": alpha.sqrt() * epsilon - (1 - alpha).sqrt() * clean,
    "sample": clean,
}
snr = (alphas_cumprod.sqrt() / (1 - alphas_cumprod).sqrt()) ** 2


def weighted(weights):
    return lambda out, target: (F.mse_loss(out, target, reduction="none").mean(dim=1) * weights).mean()


def min_snr(gamma, kind):
    least = torch.stack([snr, gamma * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    if kind == "epsilon":
        # The limit of least / snr without signal; the quotient is 0 / 0 there.
        return torch.where(snr == 0, torch.ones_like(snr), least / snr)
    return least / (snr + 1) if kind == "v_prediction" else least


cases = []


def add(config, kind, loss):
    out = output.clone().requires_grad_(True)
    value = loss(out, targets[kind])
    (gradient,) = torch.autograd.grad(value, out)
    cases.append({"config": config, "prediction_type": kind, "loss": value.item(), "gradient": gradient.flatten().tolist()})


for kind in targets:
    add({"name": "l1"}, kind, F.l1_loss)
    for delta in (0.3, 1.0):
        add({"name": "huber", "delta": delta}, kind, lambda o, t, d=delta: F.huber_loss(o, t, delta=d))
    for gamma in (1.0, 5.0):
        add({"name": "min-snr", "snr_gamma": gamma}, kind, weighted(min_snr(gamma, kind)))
for gamma, k in ((1.0, 1.0), (0.5, 1.0), (1.5, 0.2)):
    add({"name": "p2", "p2_gamma": gamma, "p2_k": k}, "epsilon", weighted(1 / (k + snr) ** gamma))
add({"name": "snr"}, "epsilon", F.mse_loss)
add({"name": "snr"}, "sample", weighted(alphas_cumprod / (1 - alphas_cumprod)))

batch = {
    "n": N,
    "alphas_cumprod": alphas_cumprod.tolist(),
    "clean": clean.flatten().tolist(),
    "epsilon": epsilon.flatten().tolist(),
    "output": output.flatten().tolist(),
}
print(json.dumps({"batch": batch, "cases": cases}))
