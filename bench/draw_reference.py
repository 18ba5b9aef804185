"""The forward pass of diffusers' UNet2DModel in eager torch's inference mode. Driven over JSON lines: {"command": "load",
"config", "weights": path of a safetensors file} chooses between 1 and as many threads as there are cores by time, at batch 4,
{"command": "run", "batch"} answers the seconds of one forward pass, the first eight of its outputs and the peak memory."""

import json
import os
import sys
import time

import torch

from unet_reference import UNet, peak_bytes, read_safetensors


def inputs(batch):
    waves = torch.arange(batch * 3072, dtype=torch.float64)
    return torch.sin(waves * 0.1).float().reshape(batch, 3, 32, 32), torch.full((batch,), 500)


def seconds(model, batch):
    sample, timestep = inputs(batch)
    start = time.perf_counter()
    with torch.inference_mode():
        output = model(sample, timestep)
    return time.perf_counter() - start, output


def fastest_threads(model):
    times = {}
    for threads in sorted({1, os.cpu_count()}):
        torch.set_num_threads(threads)
        times[threads] = min(seconds(model, 4)[0] for _ in range(4))
    return min(times, key=times.get)


def main():
    for line in sys.stdin:
        message = json.loads(line)
        if message["command"] == "load":
            start = time.perf_counter()
            model = UNet(message["config"]).eval()
            model.load_state_dict(read_safetensors(message["weights"]))
            loaded = time.perf_counter() - start
            threads = fastest_threads(model)
            torch.set_num_threads(threads)
            answer = {"torch": torch.__version__, "threads": threads, "loadSeconds": loaded}
        else:
            taken, output = seconds(model, message["batch"])
            answer = {"seconds": taken, "output": output.flatten()[:8].tolist(), "peakBytes": peak_bytes()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
