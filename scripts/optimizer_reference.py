"""Reference values of optimizers in float64, on the parameters and gradients of optimizers.json, which torch's Adam has:

    python3 scripts/optimizer_reference.py test/fixtures/optim/optimizers.json > test/fixtures/optim/sgd_lion.json

SGD is torch.optim.SGD. Lion is written in numpy after algorithm 2 of Chen et al. 2023 (arXiv 2302.06675), with the betas
of lucidrains' lion-pytorch. Each case has the parameters after each of ten steps, w, b and s one after the other.
"""
import json
import sys

import numpy as np
import torch

given = json.load(open(sys.argv[1]))
NAMES = ("w", "b", "s")


def flat(tensors):
    return np.concatenate([np.asarray(tensors[name], dtype=np.float64).reshape(-1) for name in NAMES])


start = flat(given["init"])
gradients = [flat(tensors) for tensors in given["grads"]]


def clipped(gradient, norm):
    """torch.nn.utils.clip_grad_norm_"""
    return gradient if norm is None else gradient * min(1.0, norm / (np.linalg.norm(gradient) + 1e-6))


def sgd(clip, **settings):
    parameter = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], **settings)
    after = []
    for gradient in gradients:
        parameter.grad = torch.tensor(clipped(gradient, clip))
        optimizer.step()
        after.append(parameter.detach().tolist())
    return after


def lion(clip, lr, betas=(0.9, 0.99), weight_decay=0.0):
    parameter, moment, after = start.copy(), np.zeros_like(start), []
    for gradient in gradients:
        gradient = clipped(gradient, clip)
        update = np.sign(betas[0] * moment + (1 - betas[0]) * gradient)
        parameter = parameter - lr * (update + weight_decay * parameter)
        moment = betas[1] * moment + (1 - betas[1]) * gradient
        after.append(parameter.tolist())
    return after


cases = [
    {"name": name, "optim": optim.__name__, "clip_norm": clip, "settings": settings, "params_after": optim(clip, **settings)}
    for name, optim, clip, settings in [
        ("sgd", sgd, None, {"lr": 1e-3}),
        ("sgd with weight decay", sgd, None, {"lr": 1e-3, "weight_decay": 0.1}),
        ("sgd with momentum", sgd, None, {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.1}),
        ("sgd with Nesterov's momentum, clipped", sgd, 1.0, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
        ("lion", lion, None, {"lr": 1e-3}),
        ("lion with weight decay, clipped", lion, 1.0, {"lr": 3e-3, "betas": [0.95, 0.98], "weight_decay": 0.1}),
    ]
]
print(json.dumps(cases))
