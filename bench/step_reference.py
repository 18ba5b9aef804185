"""torch eager counterpart of `npm run bench -- step`: the same network, loss and Adam, answered over JSON lines."""

import json
import math
import sys
import time

import torch
from torch import nn


class ConditionalDense(nn.Module):
    """The paper's 2-D network: at every layer a sinusoidal encoding of t through two dense layers is added."""

    def __init__(self, features=2, hidden=128, layers=3, timesteps=1000):
        super().__init__()
        widths = [hidden] * layers + [features]
        ins = [features] + [hidden] * layers
        self.linears = nn.ModuleList(nn.Linear(i, o) for i, o in zip(ins, widths))
        self.embeddings = nn.ModuleList(nn.Sequential(nn.Linear(hidden, o), nn.ReLU(), nn.Linear(o, o)) for o in widths)
        position = torch.arange(1, timesteps + 1, dtype=torch.float64)[:, None]
        frequency = torch.exp(torch.arange(0, hidden, 2, dtype=torch.float64) * (-math.log(10000.0) / hidden))
        table = torch.zeros(timesteps, hidden, dtype=torch.float64)
        table[:, 0::2] = torch.sin(position * frequency)
        table[:, 1::2] = torch.cos(position * frequency)
        self.register_buffer("table", table.float())

    def forward(self, x, t):
        encoding = self.table[t]
        for index, (linear, embedding) in enumerate(zip(self.linears, self.embeddings)):
            x = linear(x) + embedding(encoding)
            if index + 1 < len(self.linears):
                x = torch.relu(x)
        return x


class Training:
    def __init__(self, batch, foreach):
        torch.manual_seed(0)
        self.batch = batch
        self.model = ConditionalDense()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, foreach=foreach)
        betas = torch.linspace(1e-4, 0.02, 1000)
        self.alphas_cumprod = torch.cumprod(1 - betas, 0)
        self.data = torch.rand(10000, 2) * 2 - 1

    def steps(self, count):
        for _ in range(count):
            x = self.data[torch.randint(0, 10000, (self.batch,))]
            t = torch.randint(0, 1000, (self.batch,))
            noise = torch.randn_like(x)
            alpha = self.alphas_cumprod[t][:, None]
            noisy = alpha.sqrt() * x + (1 - alpha).sqrt() * noise
            predicted = self.model(noisy, t)
            loss = ((noise - predicted) ** 2).mean() + 0.1 * ((predicted**2).mean() - 1) ** 2
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()


def seconds(training, count):
    start = time.perf_counter()
    training.steps(count)
    return time.perf_counter() - start


def best_setting(batch):
    """The fastest of 1 and 2 threads, with the optimizer's for-each and its single-tensor form."""
    results = []
    for threads in (1, 2):
        for foreach in (False, True):
            torch.set_num_threads(threads)
            training = Training(batch, foreach)
            training.steps(30)
            results.append((min(seconds(training, 60) for _ in range(3)), threads, foreach))
    return min(results)[1:]


def main():
    training = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["kind"] == "setup":
            threads, foreach = best_setting(request["batch"])
            torch.set_num_threads(threads)
            training = Training(request["batch"], foreach)
            answer = {"threads": threads, "foreach": foreach, "version": torch.__version__}
        else:
            answer = {"seconds": seconds(training, request["steps"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
