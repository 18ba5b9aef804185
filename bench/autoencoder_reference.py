"""One training step of diffusers' AutoencoderKL in eager torch (float32): forward, L1 and KL loss, backward, gradient
clipping, AdamW and EMA. Driven over JSON lines: {"command": "load", "config", "weights": path of a safetensors file, "batch",
"threads", "kl_weight"}, {"command": "loss", "inputs": path of a safetensors file with images and noise} for a check, and
{"command": "step"} as often as wanted, which answers its seconds and the peak of the resident set in bytes."""

import json
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from unet_reference import peak_bytes, read_safetensors


class Resnet(nn.Module):
    def __init__(self, groups, inputs, outputs):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, 1e-6)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outputs, 1e-6)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        return self.conv_shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    def __init__(self, groups, channels):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, 1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x):
        h = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.to_q(h), self.to_k(h), self.to_v(h)
        weights = torch.softmax(q @ k.transpose(1, 2) * k.shape[-1] ** -0.5, -1)
        return x + self.to_out[0](weights @ v).transpose(1, 2).reshape(x.shape)


class Resample(nn.Module):
    def __init__(self, channels, up):
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=1 if up else 0)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    def __init__(self, groups, inputs, outputs, layers, resample):
        super().__init__()
        widths = [inputs] + [outputs] * (layers - 1)
        self.resnets = nn.ModuleList(Resnet(groups, width, outputs) for width in widths)
        self.resample = resample
        if resample:
            self.add_module(resample, nn.ModuleList([Resample(outputs, resample == "upsamplers")]))

    def forward(self, x):
        for resnet in self.resnets:
            x = resnet(x)
        return getattr(self, self.resample)[0](x) if self.resample else x


class Mid(nn.Module):
    def __init__(self, groups, channels):
        super().__init__()
        self.attentions = nn.ModuleList([Attention(groups, channels)])
        self.resnets = nn.ModuleList(Resnet(groups, channels, channels) for _ in range(2))

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Coder(nn.Module):
    """The encoder with `kind` 'downsamplers', the decoder with 'upsamplers'."""

    def __init__(self, c, inputs, outputs, kind):
        super().__init__()
        self.is_encoder = kind == "downsamplers"
        channels = c["block_out_channels"] if self.is_encoder else c["block_out_channels"][::-1]
        groups, last = c["norm_num_groups"], len(channels) - 1
        layers = c["layers_per_block"] + (0 if self.is_encoder else 1)
        self.conv_in = nn.Conv2d(inputs, channels[0], 3, padding=1)
        blocks = nn.ModuleList(
            Level(groups, channels[max(i - 1, 0)], out, layers, kind if i < last else None)
            for i, out in enumerate(channels)
        )
        self.add_module("down_blocks" if self.is_encoder else "up_blocks", blocks)
        self.mid_block = Mid(groups, channels[-1] if self.is_encoder else channels[0])
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], 1e-6)
        self.conv_out = nn.Conv2d(channels[-1], outputs, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        order = [*self.down_blocks, self.mid_block] if self.is_encoder else [self.mid_block, *self.up_blocks]
        for block in order:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        latents = c["latent_channels"]
        self.encoder = Coder(c, c["in_channels"], 2 * latents, "downsamplers")
        self.decoder = Coder(c, latents, c["out_channels"], "upsamplers")
        self.quant_conv = nn.Conv2d(2 * latents, 2 * latents, 1)
        self.post_quant_conv = nn.Conv2d(latents, latents, 1)

    def forward(self, images, noise):
        mean, logvar = self.quant_conv(self.encoder(images)).chunk(2, 1)
        logvar = logvar.clamp(-30, 20)
        latents = mean + (logvar / 2).exp() * noise
        return self.decoder(self.post_quant_conv(latents)), mean, logvar


class Trainer:
    def __init__(self, message):
        torch.set_num_threads(message["threads"])
        config = message["config"]
        self.kl_weight, size = message["kl_weight"], config["sample_size"]
        self.model = Autoencoder(config)
        self.model.load_state_dict(read_safetensors(message["weights"]))
        self.images = (message["batch"], config["in_channels"], size, size)
        side = size // 2 ** (len(config["block_out_channels"]) - 1)
        self.latents = (message["batch"], config["latent_channels"], side, side)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0.01)
        self.average = [p.detach().clone() for p in self.model.parameters()]

    def loss(self, images, noise):
        decoded, mean, logvar = self.model(images, noise)
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum((1, 2, 3)).mean()
        return F.l1_loss(decoded, images) + self.kl_weight * kl

    def step(self):
        images, noise = torch.rand(self.images) * 2 - 1, torch.randn(self.latents)
        self.optimizer.zero_grad()
        self.loss(images, noise).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_mul_(self.average, 0.999)
            torch._foreach_add_(self.average, list(self.model.parameters()), alpha=0.001)


def main():
    trainer = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if message["command"] == "load":
                trainer = Trainer(message)
                answer = {"torch": torch.__version__}
            elif message["command"] == "loss":
                inputs = read_safetensors(message["inputs"])
                with torch.no_grad():
                    answer = {"loss": trainer.loss(inputs["images"], inputs["noise"]).item()}
            else:
                start, processor = time.perf_counter(), time.process_time()
                trainer.step()
                answer = {
                    "seconds": time.perf_counter() - start,
                    "processorSeconds": time.process_time() - processor,
                    "peakBytes": peak_bytes(),
                }
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
