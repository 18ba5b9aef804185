"""One training step of diffusers' UNet2DModel in eager torch (float32): forward, iso loss, backward, gradient clipping,
AdamW and EMA. Driven over JSON lines: {"command": "load", "config", "weights": path of a safetensors file, "batch",
"threads", "lambda", "dtype", "device", "tf32", "channels_last", "compile"}, {"command": "loss"} for a check on fixed inputs,
{"command": "predict", "folder", "sample", "shape", "timestep"} for the output of a saved model, {"command": "steps",
"count"} as often as wanted, which answers the seconds of each step, the processor time of all and the peak of the resident
set in bytes, and
{"command": "run", "count"}, which answers the seconds of all steps together, as a GPU takes them."""

import json
import math
import struct
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        body = file.read()
    dtypes = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "F64": torch.float64}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            flat = torch.frombuffer(bytearray(body[begin:end]), dtype=dtypes[entry["dtype"]])
            tensors[name] = flat.reshape(entry["shape"])
    return tensors


class Resnet(nn.Module):
    def __init__(self, c, inputs, outputs, time):
        super().__init__()
        self.norm1 = nn.GroupNorm(c["norm_num_groups"], inputs, c["norm_eps"])
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time_emb_proj = nn.Linear(time, outputs)
        self.norm2 = nn.GroupNorm(c["norm_num_groups"], outputs, c["norm_eps"])
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class Attention(nn.Module):
    def __init__(self, c, channels):
        super().__init__()
        self.heads = channels // (c["attention_head_dim"] or channels)
        self.group_norm = nn.GroupNorm(c["norm_num_groups"], channels, c["norm_eps"])
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x):
        n, c, height, width = x.shape
        h = self.group_norm(x).view(n, c, -1).transpose(1, 2)
        q, k, v = (f(h).view(n, -1, self.heads, c // self.heads).transpose(1, 2) for f in (self.to_q, self.to_k, self.to_v))
        weights = torch.softmax(q @ k.transpose(2, 3) * (c // self.heads) ** -0.5, -1)
        h = (weights @ v).transpose(1, 2).reshape(n, -1, c)
        return x + self.to_out[0](h).transpose(1, 2).reshape(x.shape)


class Resample(nn.Module):
    def __init__(self, channels, padding):
        super().__init__()
        self.padding = padding
        up = padding is None
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=1 if up else padding)

    def forward(self, x):
        if self.padding is None:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        elif self.padding == 0:
            x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)


class Block(nn.Module):
    def __init__(self, c, widths, outputs, time, attention, resample, padding):
        super().__init__()
        if attention:
            self.attentions = nn.ModuleList(Attention(c, outputs) for _ in widths)
        self.resnets = nn.ModuleList(Resnet(c, width, outputs, time) for width in widths)
        if resample:
            self.add_module(resample, nn.ModuleList([Resample(outputs, padding)]))
        self.resample = resample

    def layer(self, i, x, time):
        x = self.resnets[i](x, time)
        return self.attentions[i](x) if hasattr(self, "attentions") else x


class Mid(nn.Module):
    def __init__(self, c, channels, time):
        super().__init__()
        self.attentions = nn.ModuleList([Attention(c, channels)])
        self.resnets = nn.ModuleList(Resnet(c, channels, channels, time) for _ in range(2))

    def forward(self, x, time):
        return self.resnets[1](self.attentions[0](self.resnets[0](x, time)), time)


class TimeEmbedding(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.linear_1 = nn.Linear(channels, 4 * channels)
        self.linear_2 = nn.Linear(4 * channels, 4 * channels)

    def forward(self, waves):
        return self.linear_2(F.silu(self.linear_1(waves)))


class UNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        channels = c["block_out_channels"]
        time, levels, layers = 4 * channels[0], len(channels), c["layers_per_block"]
        self.conv_in = nn.Conv2d(c["in_channels"], channels[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(channels[0])
        self.down_blocks = nn.ModuleList()
        for i, out in enumerate(channels):
            widths = [channels[max(i - 1, 0)]] + [out] * (layers - 1)
            resample = "downsamplers" if i < levels - 1 else None
            attention = c["down_block_types"][i].startswith("Attn")
            self.down_blocks.append(Block(c, widths, out, time, attention, resample, c["downsample_padding"]))
        self.up_blocks = nn.ModuleList()
        reverse = channels[::-1]
        for i, out in enumerate(reverse):
            skips = [out] * layers + [reverse[min(i + 1, levels - 1)]]
            inputs = [reverse[max(i - 1, 0)]] + [out] * layers
            widths = [a + b for a, b in zip(inputs, skips)]
            resample = "upsamplers" if i < levels - 1 else None
            attention = c["up_block_types"][i].startswith("Attn")
            self.up_blocks.append(Block(c, widths, out, time, attention, resample, None))
        self.mid_block = Mid(c, channels[-1], time)
        self.conv_norm_out = nn.GroupNorm(c["norm_num_groups"], channels[0], c["norm_eps"])
        self.conv_out = nn.Conv2d(channels[0], c["out_channels"], 3, padding=1)

    def waves(self, timestep):
        half = self.c["block_out_channels"][0] // 2
        exponent = -math.log(10000) * torch.arange(half, device=timestep.device) / (half - self.c["freq_shift"])
        angles = timestep[:, None].float() * torch.exp(exponent)
        waves = [torch.sin(angles), torch.cos(angles)]
        return torch.cat(waves[::-1] if self.c["flip_sin_to_cos"] else waves, 1)

    def forward(self, x, timestep):
        time = self.time_embedding(self.waves(timestep).to(x.dtype))
        x = self.conv_in(x)
        skips = [x]
        for block in self.down_blocks:
            for i in range(len(block.resnets)):
                x = block.layer(i, x, time)
                skips.append(x)
            if block.resample:
                x = block.downsamplers[0](x)
                skips.append(x)
        x = self.mid_block(x, time)
        for block in self.up_blocks:
            for i in range(len(block.resnets)):
                x = block.layer(i, torch.cat([x, skips.pop()], 1), time)
            if block.resample:
                x = block.upsamplers[0](x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def peak_bytes():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


class Trainer:
    def __init__(self, message):
        torch.set_num_threads(message["threads"])
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = message.get("tf32", False)
        torch.backends.cudnn.benchmark = True
        self.device = message.get("device", "cpu")
        self.autocast = message.get("dtype", "float32") == "bfloat16"
        self.strength, self.batch, config = message["lambda"], message["batch"], message["config"]
        self.model = UNet(config)
        self.model.load_state_dict(read_safetensors(message["weights"]))
        self.layout = torch.channels_last if message.get("channels_last", False) else torch.contiguous_format
        self.model.to(self.device, memory_format=self.layout)
        self.net = torch.compile(self.model) if message.get("compile", False) else self.model
        self.shape = (self.batch, config["in_channels"], config["sample_size"], config["sample_size"])
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0.01)
        self.average = [p.detach().clone() for p in self.model.parameters()]
        betas = torch.linspace(1e-4, 0.02, 1000, device=self.device)
        self.alphas_cumprod = torch.cumprod(1 - betas, 0)

    def loss(self, clean, noise, timestep):
        alpha = self.alphas_cumprod[timestep].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        kind = "cuda" if self.device == "cuda" else "cpu"
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.autocast):
            predicted = self.net(noisy.to(memory_format=self.layout), timestep)
        predicted = predicted.float()
        return F.mse_loss(predicted, noise) + self.strength * ((predicted**2).mean() - 1) ** 2

    def fixed_inputs(self):
        count = math.prod(self.shape)
        waves = torch.arange(count, dtype=torch.float64)
        clean, noise = torch.sin(waves * 0.1).float(), torch.cos(waves * 0.7).float() * 1.4
        timestep = torch.arange(self.batch) * 97 % 1000
        return [x.to(self.device) for x in (clean.reshape(self.shape), noise.reshape(self.shape), timestep)]

    def step(self):
        clean, noise = torch.rand(self.shape, device=self.device) * 2 - 1, torch.randn(self.shape, device=self.device)
        self.optimizer.zero_grad()
        self.loss(clean, noise, torch.randint(1000, (self.batch,), device=self.device)).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_mul_(self.average, 0.999)
            torch._foreach_add_(self.average, list(self.model.parameters()), alpha=0.001)

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()


def predict(message):
    """The output of the model in a folder of diffusers' layout, its weights loaded strictly, for given inputs."""
    folder, torch_dtype = message["folder"], torch.float32
    with open(f"{folder}/config.json") as file:
        config = json.load(file)
    assert config["_class_name"] == "UNet2DModel" and config["_diffusers_version"], config
    model = UNet(config).eval()
    weights = read_safetensors(f"{folder}/{message.get('weights', 'diffusion_pytorch_model.safetensors')}")
    expected = model.state_dict()
    shapes = {name: list(value.shape) for name, value in weights.items()}
    assert shapes == {name: list(value.shape) for name, value in expected.items()}, "shapes differ"
    model.load_state_dict({name: value.to(torch_dtype) for name, value in weights.items()}, strict=True)
    sample = torch.tensor(message["sample"], dtype=torch_dtype).reshape(message["shape"])
    with torch.no_grad():
        output = model(sample, torch.tensor(message["timestep"]))
    return {"output": output.flatten().tolist(), "dtypes": sorted({str(value.dtype) for value in weights.values()})}


def main():
    trainer = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if message["command"] == "load":
                trainer = Trainer(message)
                answer = {"torch": torch.__version__}
            elif message["command"] == "predict":
                answer = predict(message)
            elif message["command"] == "loss":
                with torch.no_grad():
                    answer = {"loss": trainer.loss(*trainer.fixed_inputs()).item()}
            elif message["command"] == "run":
                start = time.perf_counter()
                for _ in range(message["count"]):
                    trainer.step()
                trainer.wait()
                answer = {"seconds": time.perf_counter() - start}
            else:
                seconds, used = [], time.process_time()
                for _ in range(message["count"]):
                    start = time.perf_counter()
                    trainer.step()
                    trainer.wait()
                    seconds.append(time.perf_counter() - start)
                answer = {"seconds": seconds, "processorSeconds": time.process_time() - used, "peakBytes": peak_bytes()}
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
