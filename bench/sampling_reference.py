"""Samples ConditionalDense with DDPM in eager torch (float32, no_grad), driven over JSON lines:
{"command": "load", "config", "weights"} with base64 float32 tensors by name, {"command": "predict", "sample",
"timestep"} for a check of the network, and {"command": "sample", "count", "steps", "threads"} as often as wanted,
which answers the seconds. The timestep is embedded once a step, as [1], and broadcast over the samples."""

import base64
import json
import sys
import time

import numpy as np
import torch


def to_tensor(text, shape):
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype=np.float32).copy()).reshape(shape)


def sinusoidal_table(rows, dim):
    angle = np.arange(1, rows + 1)[:, None] * 10000.0 ** (-(np.arange(dim) // 2 * 2) / dim)[None, :]
    table = np.where(np.arange(dim) % 2 == 0, np.sin(angle), np.cos(angle))
    return torch.from_numpy(table.astype(np.float32))


class Layer(torch.nn.Module):
    def __init__(self, inputs, outputs, time_dim):
        super().__init__()
        self.linear = torch.nn.Linear(inputs, outputs)
        self.time_embedding = torch.nn.Sequential(
            torch.nn.Linear(time_dim, outputs), torch.nn.ReLU(), torch.nn.Linear(outputs, outputs)
        )

    def forward(self, x, encoding):
        return self.linear(x) + self.time_embedding(encoding)


class ConditionalDense(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, time_dim = config["hidden_features"], config["time_embedding_dim"]
        widths = [config["in_features"], *[hidden] * config["num_hidden_layers"], config["in_features"]]
        self.layers = torch.nn.ModuleList(Layer(i, o, time_dim) for i, o in zip(widths, widths[1:]))
        self.table = sinusoidal_table(config["num_train_timesteps"], time_dim)

    def forward(self, x, timestep):
        encoding = self.table[timestep]
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x, encoding))
        return self.layers[-1](x, encoding)


class Sampler:
    """The reverse process with linear betas and the posterior variance ("fixed_small")."""

    def __init__(self, message):
        config = message["config"]
        self.dims, self.steps = config["in_features"], config["num_train_timesteps"]
        self.model = ConditionalDense(config)
        shapes = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        weights = {name: to_tensor(message["weights"][name], shape) for name, shape in shapes.items()}
        self.model.load_state_dict(weights)
        self.betas = np.linspace(message["beta_start"], message["beta_end"], self.steps)
        self.alphas_cumprod = np.cumprod(1 - self.betas)

    def sample(self, count, steps):
        """The last `steps` steps of the reverse process, which all cost the same."""
        x = torch.randn(count, self.dims)
        for t in range(steps - 1, -1, -1):
            x = self.step(x, self.model(x, torch.tensor([t])), t)
        return x

    def step(self, x, noise_prediction, t):
        alpha_bar = self.alphas_cumprod[t]
        previous = self.alphas_cumprod[t - 1] if t > 0 else 1.0
        beta = self.betas[t]
        clean = (x - (1 - alpha_bar) ** 0.5 * noise_prediction) / alpha_bar**0.5
        mean = previous**0.5 * beta / (1 - alpha_bar) * clean + (1 - beta) ** 0.5 * (1 - previous) / (1 - alpha_bar) * x
        if t == 0:
            return mean
        return mean + ((1 - previous) / (1 - alpha_bar) * beta) ** 0.5 * torch.randn(x.shape)


@torch.no_grad()
def main():
    sampler = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if message["command"] == "load":
                sampler = Sampler(message)
                answer = {"torch": torch.__version__}
            elif message["command"] == "predict":
                sample = to_tensor(message["sample"], (-1, sampler.dims))
                output = sampler.model(sample, torch.tensor([message["timestep"]]))
                answer = {"output": output.flatten().tolist()}
            else:
                torch.set_num_threads(message["threads"])
                start = time.perf_counter()
                points = sampler.sample(message["count"], message["steps"])
                answer = {"seconds": time.perf_counter() - start}
                answer["mean"], answer["std"] = points.mean().item(), points.std().item()
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
