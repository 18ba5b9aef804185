"""Losses and gradients of the VQModel in test/fixtures/vae/vq-small, written with torch 1.13 alone, in float64.

Usage: /usr/bin/python3 scripts/vq_reference.py

Checks its indices and decoded images against those of diffusers, and writes gradients.safetensors there: the terms and, for every parameter, grad/<name> of
    mean|decoded - sample| + mean (sg[z] - e)^2 + 0.25 mean (z - sg[e])^2        (van den Oord et al. 2017, eq. 3)
"""
import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

here = Path(__file__).parent.parent / 'test/fixtures/vae/vq-small'
kinds = {'F32': np.float32, 'I64': np.int64, 'I32': np.int32}


def read(name):
    data = (here / name).read_bytes()
    length = struct.unpack('<Q', data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header.pop('__metadata__', None)
    body = data[8 + length :]
    return {
        key: np.frombuffer(body[slice(*info['data_offsets'])], kinds[info['dtype']]).reshape(info['shape'])
        for key, info in header.items()
    }


def write(name, tensors):
    header, offset, chunks = {}, 0, []
    for key, value in tensors.items():
        chunk = np.ascontiguousarray(value, np.float32).tobytes()
        header[key] = {'dtype': 'F32', 'shape': list(np.shape(value)), 'data_offsets': [offset, offset + len(chunk)]}
        offset += len(chunk)
        chunks.append(chunk)
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    (here / name).write_bytes(struct.pack('<Q', len(text)) + text + b''.join(chunks))


weights = {k: torch.tensor(v, dtype=torch.float64).requires_grad_() for k, v in read('diffusion_pytorch_model.safetensors').items()}
case = read('case.safetensors')
GROUPS = 4


def conv(x, name, **options):
    return F.conv2d(x, weights[name + '.weight'], weights[name + '.bias'], **options)


def norm(x, name):
    return F.group_norm(x, GROUPS, weights[name + '.weight'], weights[name + '.bias'], 1e-6)


def linear(x, name):
    return x @ weights[name + '.weight'].T + weights[name + '.bias']


def resnet(x, name):
    h = conv(F.silu(norm(x, name + '.norm1')), name + '.conv1', padding=1)
    h = conv(F.silu(norm(h, name + '.norm2')), name + '.conv2', padding=1)
    return h + (conv(x, name + '.conv_shortcut') if name + '.conv_shortcut.weight' in weights else x)


def attention(x, name):
    b, c, h, w = x.shape
    rows = norm(x, name + '.group_norm').reshape(b, c, h * w).transpose(1, 2)
    q, k, v = (linear(rows, f'{name}.to_{part}') for part in 'qkv')
    mixed = torch.softmax(q @ k.transpose(1, 2) / c**0.5, dim=-1) @ v
    return x + linear(mixed, name + '.to_out.0').transpose(1, 2).reshape(b, c, h, w)


def middle(x, name):
    return resnet(attention(resnet(x, name + '.resnets.0'), name + '.attentions.0'), name + '.resnets.1')


def encode(x):
    x = conv(x, 'encoder.conv_in', padding=1)
    x = resnet(x, 'encoder.down_blocks.0.resnets.0')
    x = conv(F.pad(x, (0, 1, 0, 1)), 'encoder.down_blocks.0.downsamplers.0.conv', stride=2)
    x = attention(resnet(x, 'encoder.down_blocks.1.resnets.0'), 'encoder.down_blocks.1.attentions.0')
    x = middle(x, 'encoder.mid_block')
    return conv(conv(F.silu(norm(x, 'encoder.conv_norm_out')), 'encoder.conv_out', padding=1), 'quant_conv')


def decode(z):
    x = conv(conv(z, 'post_quant_conv'), 'decoder.conv_in', padding=1)
    x = middle(x, 'decoder.mid_block')
    for i in (0, 1):
        x = attention(resnet(x, f'decoder.up_blocks.0.resnets.{i}'), f'decoder.up_blocks.0.attentions.{i}')
    x = conv(F.interpolate(x, scale_factor=2.0), 'decoder.up_blocks.0.upsamplers.0.conv', padding=1)
    for i in (0, 1):
        x = resnet(x, f'decoder.up_blocks.1.resnets.{i}')
    return conv(F.silu(norm(x, 'decoder.conv_norm_out')), 'decoder.conv_out', padding=1)


sample = torch.tensor(case['sample'], dtype=torch.float64)
z = encode(sample)
table = weights['quantize.embedding.weight']
rows = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
indices = torch.argmin(((rows[:, None] - table[None]) ** 2).sum(-1), 1)
e = table[indices].reshape(z.shape[0], z.shape[2], z.shape[3], -1).permute(0, 3, 1, 2)
decoded = decode(z + (e - z).detach())
assert (indices.numpy() == case['indices'].reshape(-1)).all()
assert np.abs(decoded.detach().numpy() - case['decoded']).max() < 1e-4, np.abs(decoded.detach().numpy() - case['decoded']).max()
reconstruction = (decoded - sample).abs().mean()
codebook = ((e - z.detach()) ** 2).mean()
commitment = ((z - e.detach()) ** 2).mean()
loss = reconstruction + codebook + 0.25 * commitment
loss.backward()
share = torch.bincount(indices, minlength=len(table)).double() / len(indices)
perplexity = torch.exp(-(share[share > 0] * share[share > 0].log()).sum())
terms = {'loss': loss, 'reconstruction': reconstruction, 'codebook': codebook, 'commitment': commitment, 'perplexity': perplexity}
found = {k: v.detach().reshape(1).numpy() for k, v in terms.items()}
found.update({f'grad/{k}': v.grad.numpy() for k, v in weights.items()})
write('gradients.safetensors', found)
print({k: float(v) for k, v in terms.items()}, file=sys.stderr)
