"""Draws with each sampler in eager torch (float32, no_grad), with the structure of diffusers' pipelines: for every timestep the
scaled input, the model, and a step whose coefficients are 0-dimensional tensors. Driven over JSON lines:
{"command": "load", "kind": "points" | "images", "config", "weights": path of a safetensors file, "beta_start", "beta_end"},
{"command": "draw", "sampler", "timesteps", "sigmas", "shape", "steps"} which answers the processor seconds of the first `steps`
steps on one thread, and with "start" (values) in place of drawn noise, and no later noise, also the "sample". Predicted noise, no
clipping, and order 2."""

import json
import sys
import time

import torch
from sampling_reference import ConditionalDense
from scipy import integrate
from unet_reference import UNet, read_safetensors


class Sampler:
    def __init__(self, message, alphas_cumprod):
        self.timesteps, self.sigmas = torch.tensor(message["timesteps"]), torch.tensor(message["sigmas"] or [])
        self.bars, self.is_quiet = alphas_cumprod, "start" in message
        self.outputs = []

    def noise_like(self, x):
        return torch.zeros_like(x) if self.is_quiet else torch.randn(x.shape)

    def scaled(self, x, i):
        return x

    def bar(self, t):
        return self.bars[t] if t >= 0 else torch.tensor(1.0)

    def following(self, i):
        return self.timesteps[i + 1] if i + 1 < len(self.timesteps) else torch.tensor(-1)

    def remember(self, output, most):
        self.outputs = [output, *self.outputs][:most]


class DDPM(Sampler):
    def step(self, e, i, x):
        t = self.timesteps[i]
        bar, previous = self.bar(t), self.bar(self.following(i))
        alpha = bar / previous
        beta = 1 - alpha
        clean = (x - (1 - bar) ** 0.5 * e) / bar**0.5
        mean = previous**0.5 * beta / (1 - bar) * clean + alpha**0.5 * (1 - previous) / (1 - bar) * x
        if t == 0:
            return mean
        variance = torch.clamp((1 - previous) / (1 - bar) * beta, min=1e-20)
        return mean + variance**0.5 * self.noise_like(x)


class DDIM(Sampler):
    def step(self, e, i, x):
        bar, previous = self.bar(self.timesteps[i]), self.bar(self.following(i))
        clean = (x - (1 - bar) ** 0.5 * e) / bar**0.5
        return previous**0.5 * clean + (1 - previous) ** 0.5 * e


class PNDM(Sampler):
    """Runge-Kutta for the first three steps of 4 evaluations, then Adams-Bashforth of order 4."""

    weights = {1: [1], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}

    def step(self, e, i, x):
        t = self.timesteps[i]
        if i >= 12:
            self.remember(e, 4)
            slope = sum(w * o for w, o in zip(self.weights[len(self.outputs)], self.outputs))
            return self.transfer(x, t, self.following(i), slope)
        part = i % 4
        if part == 0:
            self.remember(e, 3)
            self.start, self.mean = x, e / 6
        elif part < 3:
            self.mean = self.mean + e / 3
        else:
            self.mean = self.mean + e / 6
        target = t - self.half if part % 2 == 0 else t
        return self.transfer(self.start, self.timesteps[i - part], target, self.mean if part == 3 else e)

    def transfer(self, x, t, previous, e):
        a, b = self.bar(t), self.bars[0] if previous < 0 else self.bar(previous)
        divisor = a * (1 - b) ** 0.5 + (a * (1 - a) * b) ** 0.5
        return (b / a) ** 0.5 * x - (b - a) * e / divisor


class InSigma(Sampler):
    def scaled(self, x, i):
        return x / (self.sigmas[i] ** 2 + 1) ** 0.5


class Euler(InSigma):
    def step(self, e, i, x):
        sigma = self.sigmas[i]
        clean = x - sigma * e
        return x + (x - clean) / sigma * (self.sigmas[i + 1] - sigma)


class EulerAncestral(InSigma):
    def step(self, e, i, x):
        sigma, following = self.sigmas[i], self.sigmas[i + 1]
        clean = x - sigma * e
        up = (following**2 * (sigma**2 - following**2) / sigma**2) ** 0.5
        down = (following**2 - up**2) ** 0.5
        return x + (x - clean) / sigma * (down - sigma) + self.noise_like(x) * up


class Heun(InSigma):
    """Sigmas come twice, as the timesteps do."""

    def step(self, e, i, x):
        if i % 2 == 0:
            sigma, following = self.sigmas[i], self.sigmas[i + 1]
            slope = (x - (x - sigma * e)) / sigma
            self.start, self.slope, self.width = x, slope, following - sigma
            return x + slope * self.width
        sigma = self.sigmas[i]
        slope = (x - (x - sigma * e)) / sigma
        return self.start + (self.slope + slope) / 2 * self.width


class LMS(InSigma):
    def step(self, e, i, x):
        sigma = self.sigmas[i]
        self.remember((x - (x - sigma * e)) / sigma, 4)
        order = len(self.outputs)
        return x + sum(self.coefficient(order, i, k) * output for k, output in enumerate(self.outputs))

    def coefficient(self, order, i, which):
        def polynomial(tau):
            product = 1.0
            for k in range(order):
                if k != which:
                    product *= (tau - self.sigmas[i - k]) / (self.sigmas[i - which] - self.sigmas[i - k])
            return product

        return integrate.quad(polynomial, self.sigmas[i], self.sigmas[i + 1], epsrel=1e-4)[0]


class InLogSnr(Sampler):
    def level(self, i):
        alpha = 1 / (self.sigmas[i] ** 2 + 1) ** 0.5
        sigma = self.sigmas[i] * alpha
        return alpha, sigma, torch.log(alpha) - torch.log(sigma)

    def clean(self, e, i, x):
        alpha, sigma, _ = self.level(i)
        return (x - sigma * e) / alpha

    def first_order(self, i, x, clean):
        _, sigma_s, lambda_s = self.level(i)
        alpha, sigma, lambda_t = self.level(i + 1)
        return sigma / sigma_s * x - alpha * (torch.exp(lambda_s - lambda_t) - 1.0) * clean


class DPMMultistep(InLogSnr):
    def step(self, e, i, x):
        self.remember(self.clean(e, i, x), 2)
        if len(self.outputs) == 1 or i + 1 == len(self.timesteps):
            return self.first_order(i, x, self.outputs[0])
        (m0, m1), (alpha, sigma, lambda_t) = self.outputs, self.level(i + 1)
        (_, sigma_0, lambda_0), (_, _, lambda_1) = self.level(i), self.level(i - 1)
        h = lambda_t - lambda_0
        d1 = (1.0 / ((lambda_0 - lambda_1) / h)) * (m0 - m1)
        factor = alpha * (torch.exp(-h) - 1.0)
        return sigma / sigma_0 * x - factor * m0 - 0.5 * factor * d1


class DPMSinglestep(InLogSnr):
    """Pairs of evaluations; the last two stand alone, since the process ends at sigma 0."""

    def step(self, e, i, x):
        self.remember(self.clean(e, i, x), 2)
        if i % 2 == 0 or i + 1 == len(self.timesteps):
            self.start = x
            return self.first_order(i, x, self.outputs[0])
        (m0, m1), (alpha, sigma, lambda_t) = self.outputs, self.level(i + 1)
        (_, _, lambda_0), (_, sigma_1, lambda_1) = self.level(i), self.level(i - 1)
        h = lambda_t - lambda_1
        d1 = (1.0 / ((lambda_0 - lambda_1) / h)) * (m0 - m1)
        factor = alpha * (torch.exp(-h) - 1.0)
        return sigma / sigma_1 * self.start - factor * m1 - 0.5 * factor * d1


class UniPC(InLogSnr):
    def step(self, e, i, x):
        clean = self.clean(e, i, x)
        if self.outputs:
            x = self.update(i - 1, self.last, self.order, clean)
        self.remember(clean, 2)
        self.last, self.order = x, min(len(self.outputs), len(self.timesteps) - i)
        return self.update(i, x, self.order)

    def update(self, i, x, order, there=None):
        (_, sigma_0, lambda_0), (alpha, sigma, lambda_t) = self.level(i), self.level(i + 1)
        h, m0 = lambda_t - lambda_0, self.outputs[0]
        ratios = [(self.level(i - k)[2] - lambda_0) / h for k in range(1, order)]
        differences = [(m - m0) / r for m, r in zip(self.outputs[1:], ratios)]
        if there is not None:
            ratios, differences = [*ratios, torch.tensor(1.0)], [*differences, there - m0]
        b = torch.expm1(-h)
        result = sigma / sigma_0 * x - alpha * b * m0
        if not differences:
            return result
        if len(ratios) == 1:
            weights = torch.tensor([0.5])
        else:
            phi, factorial, right = torch.expm1(-h) / -h - 1, 1, []
            for k in range(1, len(ratios) + 1):
                right.append(phi * factorial / b)
                factorial *= k + 1
                phi = phi / -h - 1 / factorial
            rows = torch.stack([torch.stack(ratios) ** k for k in range(len(ratios))])
            weights = torch.linalg.solve(rows, torch.stack(right))
        total = torch.einsum("k,k...->...", weights, torch.stack(differences))
        return result - alpha * b * total


class DEIS(InLogSnr):
    def step(self, e, i, x):
        self.remember(e, 2)
        (alpha_0, sigma_0, lambda_0), (alpha, sigma, lambda_t) = self.level(i), self.level(i + 1)
        if len(self.outputs) == 1:
            return alpha / alpha_0 * x - sigma * (torch.exp(lambda_t - lambda_0) - 1.0) * e
        to, here, before = self.sigmas[i + 1], self.sigmas[i], self.sigmas[i - 1]

        def primitive(rho, other, own):
            return rho * (torch.log(rho) - torch.log(other) - 1) / (torch.log(own) - torch.log(other))

        first = primitive(to, before, here) - primitive(here, before, here)
        second = primitive(to, here, before) - primitive(here, here, before)
        return alpha * (x / alpha_0 + first * self.outputs[0] + second * self.outputs[1])


SAMPLERS = {
    "ddpm": DDPM,
    "ddim": DDIM,
    "dpm++": DPMMultistep,
    "dpm++-single": DPMSinglestep,
    "unipc": UniPC,
    "deis": DEIS,
    "euler": Euler,
    "euler-a": EulerAncestral,
    "heun": Heun,
    "lms": LMS,
    "pndm": PNDM,
}


class Models:
    def __init__(self, message):
        self.is_images = message["kind"] == "images"
        self.model = (UNet if self.is_images else ConditionalDense)(message["config"])
        self.model.load_state_dict(read_safetensors(message["weights"]))
        self.model.eval()
        betas = torch.linspace(message["beta_start"], message["beta_end"], 1000)
        self.alphas_cumprod = torch.cumprod(1 - betas, 0)

    def predict(self, x, t):
        if self.is_images:
            return self.model(x, t.expand(len(x)))
        low, high = int(t.floor()), int(t.ceil())
        output = self.model(x, torch.tensor([low]))
        if low == high:
            return output
        return output + (t - low) * (self.model(x, torch.tensor([high])) - output)

    def draw(self, message):
        shape = message["shape"]
        sampler = SAMPLERS[message["sampler"]](message, self.alphas_cumprod)
        sampler.half = message["half"]
        x = torch.tensor(message["start"]).reshape(shape) if "start" in message else torch.randn(shape)
        start = time.process_time()
        x = x * message["init_noise_sigma"]
        for i in range(message["steps"]):
            x = sampler.step(self.predict(sampler.scaled(x, i), sampler.timesteps[i]), i, x)
        answer = {"seconds": time.process_time() - start}
        return {**answer, "sample": x.flatten().tolist()} if "start" in message else answer


@torch.no_grad()
def main():
    models = {}
    torch.set_num_threads(1)
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if message["command"] == "load":
                models[message["kind"]] = Models(message)
                answer = {"torch": torch.__version__}
            else:
                answer = models[message["kind"]].draw(message)
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


main()
