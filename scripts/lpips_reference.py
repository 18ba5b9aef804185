"""Reference values of LPIPS on VGG16 and of the perceptual path length, from torch.

    python3 scripts/lpips_reference.py test/fixtures/extractors/lpips.json

Needs torch (made with 1.13) and numpy, nothing of this package. The formulas are those of torch-fidelity
(https://github.com/toshas/torch-fidelity: sample_similarity_lpips.py, metric_ppl.py, noise.py). Weights and images follow the
rules that test/evaluation/extractors/networks/reference.ts repeats, as in extractor_reference.py; the heads are absolute values.
"""
import json
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F

STAGES = [[64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]]


def hashed(index, seed):
    h = index.astype(np.uint32) * np.uint32(2654435761) + np.uint32(seed)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return h.astype(np.float64) / 2**32


def by_rule(name, *shape):
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x01000193) % 2**32
    u = hashed(np.arange(math.prod(shape)), seed)
    values = (2 * u - 1) * math.sqrt(6 / math.prod(shape[1:])) if len(shape) > 1 else 0.4 * u - 0.2
    return torch.from_numpy(values.reshape(shape).astype(np.float32))


def images(count, height, width):
    n, c, y, x = np.meshgrid(*map(np.arange, (count, 3, height, width)), indexing='ij')
    noise = np.floor(32 * hashed(((n * 3 + c) * height + y) * width + x, 7))
    wave = (3 * x + 5 * y + (2 * x * y) // 7 + 61 * c + 97 * n) % 224
    return torch.from_numpy((wave + noise).astype(np.float32))


def slices(x, narrow):
    index, channels, found = 0, 3, []
    for number, stage in enumerate(STAGES):
        if number > 0:
            x, index = F.max_pool2d(x, 2), index + 1
        for filters in stage:
            name, filters = f'features.{index}', filters // narrow
            x = F.conv2d(x, by_rule(f'{name}.weight', filters, channels, 3, 3), by_rule(f'{name}.bias', filters), padding=1)
            x, channels, index = F.relu(x), filters, index + 2
        found.append(x)
    return found


def normalize(x):
    mean = (1 + torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]) * 255 / 2
    inv_std = 2 / (torch.tensor([0.458, 0.448, 0.450])[None, :, None, None] * 255)
    return (x - mean) * inv_std


def resize(x, size):
    if x.shape[-1] > size and x.shape[-2] > size:
        return F.interpolate(x, (size, size), mode='area')
    return F.interpolate(x, (size, size), mode='bilinear', align_corners=False)


def unit(x):
    return x / (torch.sqrt(torch.sum(x**2, dim=1, keepdim=True)) + 1e-10)


def lpips(a, b, size, narrow=1):
    total = 0
    for k, (f, g) in enumerate(zip(*(slices(resize(normalize(x), size), narrow) for x in (a, b)))):
        head = by_rule(f'lin{k}.model.1.weight', 1, f.shape[1], 1, 1).abs()
        total = total + F.conv2d((unit(f) - unit(g)) ** 2, head).mean([2, 3]).squeeze(1)
    return total


def path_length(distances, lower, higher):
    """numpy's `interpolation`, now `method`."""
    low = np.percentile(distances, lower, method='lower')
    high = np.percentile(distances, higher, method='higher')
    kept = np.extract((low <= distances) & (distances <= high), distances)
    return {'mean': float(kept.mean()), 'std': float(kept.std()), 'raw': kept.tolist()}


def norm(v, eps=1e-7):
    return v / (v**2).sum(dim=-1, keepdim=True).sqrt().clamp_min(eps)


def lerp(a, b, t):
    return a + (b - a) * t


def slerp_any(a, b, t, eps=1e-7):
    a_1, b_1 = norm(a), norm(b)
    d = (a_1 * b_1).sum(dim=-1, keepdim=True)
    zero = (a_1.norm(dim=-1, keepdim=True) < eps) | (b_1.norm(dim=-1, keepdim=True) < eps)
    on_a_line = (zero | (d > 1 - eps) | (d < -1 + eps)).repeat(1, a.shape[-1])
    omega = d.acos()
    denominator = omega.sin().clamp_min(eps)
    out = ((1 - t) * omega).sin() / denominator * a + (t * omega).sin() / denominator * b
    out[on_a_line] = lerp(a, b, t)[on_a_line]
    return out


def main(target):
    torch.manual_seed(0)
    out = {'torch': torch.__version__, 'distances': []}
    with torch.no_grad():
        for height, width in [(16, 16), (40, 24), (33, 64), (12, 20), (12, 40)]:
            shown = images(4, height, width)
            pair = lpips(shown[:2], shown[2:], 16, narrow=16)
            out['distances'].append({'height': height, 'width': width, 'values': pair.tolist()})
        epsilon, count = 0.01, 8
        shown = images(2 * count, 20, 18)
        out['path'] = {'epsilon': epsilon, 'count': count, 'height': 20, 'width': 18}
        for dtype, offset in [('uint8', 0), ('float32', 0.4)]:
            distances = lpips(shown[:count] + offset, shown[count:] + 2 * offset, 16).numpy() / epsilon**2
            out['path'][dtype] = path_length(distances.astype(np.float64), 1, 99)
            out['path'][f'{dtype}_inner'] = path_length(distances.astype(np.float64), 30, 60)
    # In double precision: the sine of a small angle and its arc cosine lose digits in float32.
    a = torch.tensor([[1, 2, 3], [0, 0, 0], [1, -1, 2], [1, 0, 0], [0.5, -2, 0.25]], dtype=torch.float64)
    b = torch.tensor([[-2, 0.5, 1], [1, 2, 3], [2, -2, 4], [-3, 0, 0], [1, 1, -4]], dtype=torch.float64)
    out['steps'] = {'from': a.tolist(), 'to': b.tolist(), 't': 0.25}
    out['steps'].update(lerp=lerp(a, b, 0.25).tolist(), slerp_any=slerp_any(a, b, 0.25).tolist())
    with open(target, 'w') as file:
        file.write(json.dumps(out, indent=1) + '\n')


main(sys.argv[1])
