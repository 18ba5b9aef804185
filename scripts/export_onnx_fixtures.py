"""Makes test/fixtures/onnx-in: small diffusion U-Nets as torch.onnx.export writes them, with torch's own output, Iso loss
and gradients. Run from the repository root with torch 1.13 and onnx 1.12 (Debian: python3-torch, python3-onnx):
    /usr/bin/python3 scripts/export_onnx_fixtures.py
Each <name>.onnx comes with <name>.safetensors: `sample`, `timestep`, `noise`, `output`, `loss` and `grad/<initializer>`."""

import json
import math
import os
import struct
import sys

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "bench"))
from unet_reference import UNet  # noqa: E402

FOLDER = os.path.join(os.path.dirname(__file__), "..", "test", "fixtures", "onnx-in")
LAMBDA = 0.1
CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "sample_size": 8,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "norm_eps": 1e-5,
    "attention_head_dim": 8,
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "downsample_padding": 0,
}


class PerSample(nn.Module):
    """timestep int64 [batch]."""

    def __init__(self):
        super().__init__()
        self.unet = UNet(CONFIG)

    def forward(self, sample, timestep):
        return self.unet(sample, timestep)


class Scalar(PerSample):
    """timestep of rank 0, as diffusers takes it: one for the batch."""

    def forward(self, sample, timestep):
        return self.unet(sample, timestep[None].expand(sample.shape[0]))


class OneFloat(PerSample):
    """timestep float32 [1], broadcast over the batch by a product."""

    def forward(self, sample, timestep):
        return self.unet(sample, timestep * torch.ones(sample.shape[0], dtype=timestep.dtype))


class Odd(nn.Module):
    """What other U-Nets are made of: LayerNorm, GELU, einsum, chunk, ConvTranspose2d, groups and dilation, replicated time
    embeddings, sizes taken from other tensors, bilinear Resize, masks, two outputs."""

    def __init__(self, width=8):
        super().__init__()
        self.inp = nn.Conv2d(1, width, 3, padding=2, dilation=2)
        self.time = nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Dropout(0.1), nn.Linear(width, 2 * width))
        self.embedding = nn.Parameter(torch.randn(5, 4))
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.down = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.prelu = nn.PReLU(width)
        self.out = nn.Conv1d(width, 1, 1)

    def forward(self, sample, timestep):
        batch, _, height, width = sample.shape
        waves = timestep[:, None].float() * torch.exp(-math.log(100.0) * torch.arange(2) / 2)[None]
        time = torch.cat([waves.sin(), waves.cos()], -1) + self.embedding[timestep.long() % 5]
        scale, shift = self.time(time).chunk(2, dim=1)
        x = self.inp(sample)
        x = x * (1 + scale[:, :, None, None]) + shift.view(batch, -1, 1, 1).repeat(1, 1, height, width)
        skip = x
        tokens = self.norm(F.avg_pool2d(x, 2).flatten(2).permute(0, 2, 1))
        q, k, v = self.qkv(tokens).split(tokens.shape[-1], dim=-1)
        mask = torch.arange(q.shape[1])[:, None] >= torch.arange(q.shape[1])[None] - 7
        logits = torch.einsum("bic,bjc->bij", q, k) / math.sqrt(q.shape[-1])
        weights = logits.masked_fill(~mask, -1e4).softmax(-1)
        mixed = torch.einsum("bij,bjc->bci", weights, v).reshape(batch, -1, height // 2, width // 2)
        x = skip + F.interpolate(mixed, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        h = F.hardswish(self.down(F.elu(x)))
        h = F.interpolate(h[:, :, ::2, :], size=h.shape[-2:], mode="nearest")
        x = self.prelu(self.up(h)) + x.clamp(-2, 2) * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-3)
        x = self.out(x.flatten(2)).view(batch, 1, height, width)
        return x, skip


def write_safetensors(path, tensors):
    header, body = {}, b""
    for name, tensor in tensors.items():
        data = tensor.detach().contiguous().numpy().tobytes()
        kind = {torch.float32: "F32", torch.int64: "I64", torch.float64: "F64"}[tensor.dtype]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + body)


def randomise(model):
    """Non-trivial values everywhere, norms and biases too."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def gradients_by_initializer(path, model):
    """The exporter keeps parameter names, but transposes the weights of some products and renames them."""
    left = {name: parameter for name, parameter in model.named_parameters()}
    found = {}
    initializers = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in onnx.load(path).graph.initializer}
    for name in list(initializers):
        if name in left:
            found[name] = left.pop(name).grad
            del initializers[name]
    for name, value in initializers.items():
        for source, parameter in list(left.items()):
            if value.dim() == 2 and value.shape == parameter.T.shape and torch.equal(value, parameter.T):
                found[name] = left.pop(source).grad.T
            elif value.numel() == parameter.numel() and torch.equal(value.flatten(), parameter.flatten()):
                found[name] = left.pop(source).grad.reshape(value.shape)
    if left:
        raise SystemExit(f"{path}: no initializer for {list(left)}")
    return found


def make(name, model, sample_shape, timestep, opset, dynamic):
    randomise(model)
    model.eval()
    generator = torch.Generator().manual_seed(2)
    sample = torch.randn(sample_shape, generator=generator)
    noise = torch.randn(sample_shape, generator=generator)
    result = model(sample, timestep)
    output = result[0] if isinstance(result, tuple) else result
    loss = F.mse_loss(output, noise) + LAMBDA * ((output**2).mean() - 1) ** 2
    loss.backward()
    path = os.path.join(FOLDER, f"{name}.onnx")
    outputs = ["out_sample", "features"] if isinstance(result, tuple) else ["out_sample"]
    axes = {key: {0: "batch"} for key in ["sample", *outputs, *dynamic]}
    torch.onnx.export(
        model, (sample, timestep), path, input_names=["sample", "timestep"], output_names=outputs, opset_version=opset, dynamic_axes=axes
    )
    reference = {"sample": sample, "timestep": timestep.reshape(-1), "noise": noise, "output": output, "loss": loss.reshape(1)}
    for key, gradient in gradients_by_initializer(path, model).items():
        reference[f"grad/{key}"] = gradient
    write_safetensors(path.replace(".onnx", ".safetensors"), reference)
    print(name, os.path.getsize(path), sorted({node.op_type for node in onnx.load(path).graph.node}))


def main():
    torch.manual_seed(0)
    os.makedirs(FOLDER, exist_ok=True)
    image = (2, 3, 8, 8)
    make("unet-opset11", PerSample(), image, torch.tensor([3, 977]), 11, ["timestep"])
    make("unet-opset14-scalar", Scalar(), image, torch.tensor(421), 14, [])
    make("unet-opset17-float", OneFloat(), image, torch.tensor([250.0]), 17, [])
    make("odd-opset16", Odd(), (2, 1, 6, 8), torch.tensor([3, 977]), 16, ["timestep"])


main()
