"""Reference values of the feature extractors, from torch and torchvision.

    python3 scripts/extractor_reference.py test/fixtures/extractors

Needs Debian's python3-torchvision (torch 1.13, torchvision 0.14), nothing of this package. Writes
  state-dicts.json        names and shapes of the published networks' tensors
  {inception,vgg16}-{16,1}.json  what the layers give, all channels divided by 16, or at full width

Weights and images follow rules that test/evaluation/extractors/networks/reference.ts repeats, so that no weights need
to be kept. The FID's Inception is torchvision's with its pools changed as in pytorch-fid
(https://github.com/mseitzer/pytorch-fid, src/pytorch_fid/inception.py).
"""
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torchvision.models import inception as tv


def hashed(count, seed):
    """Numbers in [0, 1) from the position and a seed: the finaliser of MurmurHash3."""
    h = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(seed)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return h.astype(np.float64) / 2**32


def fnv1a(text):
    h = 0x811C9DC5
    for byte in text.encode():
        h = ((h ^ byte) * 0x01000193) % 2**32
    return h


def fill(model):
    """Weights that keep the size of activations, so that every layer matters to the result."""
    state = model.state_dict()
    for name, tensor in state.items():
        if name.endswith('num_batches_tracked'):
            continue
        shape = list(tensor.shape)
        u = hashed(tensor.numel(), fnv1a(name))
        if len(shape) > 1:
            bound = math.sqrt(6 / math.prod(shape[1:]))
            values = (2 * u - 1) * bound
        elif name.endswith('running_var') or name.endswith('bn.weight'):
            values = 0.5 + u
        else:
            values = 0.4 * u - 0.2
        state[name] = torch.from_numpy(values.reshape(shape).astype(np.float32))
    model.load_state_dict(state)
    return model.eval()


def images(count, height, width):
    """uint8 [count, 3, height, width]: smooth waves and some noise, different in each image and channel."""
    n, c, y, x = np.meshgrid(*[np.arange(s) for s in (count, 3, height, width)], indexing='ij')
    noise = np.floor(32 * hashed(n.size, 7)).astype(np.int64).reshape(n.shape)
    return ((3 * x + 5 * y + 2 * x * y // 7 + 61 * c + 97 * n) % 224 + noise).astype(np.uint8)


def narrowed(divisor):
    class Narrow(tv.BasicConv2d):
        def __init__(self, inputs, outputs, **kwargs):
            super().__init__(inputs if inputs == 3 else inputs // divisor, outputs // divisor, **kwargs)

    return Narrow


avg_pool2d = F.avg_pool2d


def fid_pool(x):
    return avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)


def patched(block, pool):
    """The block with its pool of neighbours replaced; torchvision's blocks call F.avg_pool2d once."""

    class Patched(block):
        def forward(self, x):
            F.avg_pool2d = lambda value, **kwargs: pool(value)
            try:
                return super().forward(x)
            finally:
                F.avg_pool2d = avg_pool2d

    return Patched


def fid_inception(divisor):
    conv = narrowed(divisor)
    model = tv.Inception3(num_classes=1008, aux_logits=False, init_weights=False,
                          inception_blocks=[conv] + [
                              (lambda b: lambda *a, **k: b(*a, conv_block=conv, **k))(b)
                              for b in (tv.InceptionA, tv.InceptionB, tv.InceptionC, tv.InceptionD, tv.InceptionE)
                          ] + [tv.InceptionAux])
    a, c, e = (patched(b, fid_pool) for b in (tv.InceptionA, tv.InceptionC, tv.InceptionE))
    last = patched(tv.InceptionE, lambda x: F.max_pool2d(x, kernel_size=3, stride=1, padding=1))
    for name, block in {
        'Mixed_5b': a(192, pool_features=32, conv_block=conv),
        'Mixed_5c': a(256, pool_features=64, conv_block=conv),
        'Mixed_5d': a(288, pool_features=64, conv_block=conv),
        'Mixed_6b': c(768, channels_7x7=128, conv_block=conv),
        'Mixed_6c': c(768, channels_7x7=160, conv_block=conv),
        'Mixed_6d': c(768, channels_7x7=160, conv_block=conv),
        'Mixed_6e': c(768, channels_7x7=192, conv_block=conv),
        'Mixed_7b': e(1280, conv_block=conv),
        'Mixed_7c': last(2048, conv_block=conv),
    }.items():
        setattr(model, name, block)
    model.fc = torch.nn.Linear(2048 // divisor, 1008)
    return model


def inception_layers(model, images):
    layers = {}
    x = F.interpolate(images, size=(299, 299), mode='bilinear', align_corners=False)
    x = 2 * x - 1
    steps = ['Conv2d_1a_3x3', 'Conv2d_2a_3x3', 'Conv2d_2b_3x3', 'maxpool1', '64', 'Conv2d_3b_1x1', 'Conv2d_4a_3x3',
             'maxpool2', '192', 'Mixed_5b', 'Mixed_5c', 'Mixed_5d', 'Mixed_6a', 'Mixed_6b', 'Mixed_6c', 'Mixed_6d',
             'Mixed_6e', '768', 'Mixed_7a', 'Mixed_7b', 'Mixed_7c', '2048']
    for step in steps:
        if step.isdigit():
            layers[step] = F.adaptive_avg_pool2d(x, output_size=(1, 1)).flatten(1)
        else:
            x = F.max_pool2d(x, kernel_size=3, stride=2) if step.startswith('maxpool') else getattr(model, step)(x)
            layers[step] = x
    layers['logits_unbiased'] = layers['2048'].mm(model.fc.weight.T)
    layers['logits'] = model.fc(layers['2048'])
    return layers


VGG_FILTERS = [64, 64, 'M', 128, 128, 'M', 256, 256, 256, 'M', 512, 512, 512, 'M', 512, 512, 512, 'M']


def narrow_vgg(divisor):
    features = torchvision.models.vgg.make_layers([f if f == 'M' else f // divisor for f in VGG_FILTERS])
    model = torchvision.models.VGG(features, init_weights=False)
    wide, hidden = 512 // divisor * 49, 4096 // divisor
    for at, layer in {0: torch.nn.Linear(wide, hidden), 3: torch.nn.Linear(hidden, hidden),
                      6: torch.nn.Linear(hidden, 1000)}.items():
        model.classifier[at] = layer
    return model


def vgg_layers(model, images):
    layers = {}
    x = F.interpolate(images, size=(224, 224), mode='bilinear', align_corners=False)
    x = torchvision.transforms.functional.normalize(x, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    layers['normalised'] = x
    relu_of = None
    for index, layer in enumerate(model.features):
        x = layer(x)
        if isinstance(layer, torch.nn.Conv2d):
            relu_of = index
        elif isinstance(layer, torch.nn.ReLU):
            layers[f'features.{relu_of}'] = x
        else:
            layers[f'features.{index}'] = x
    x = model.avgpool(x).flatten(1)
    names = {1: 'fc1_relu', 3: 'fc2', 4: 'fc2_relu', 6: 'logits'}
    for index, layer in enumerate(model.classifier):
        x = layer(x).clone() if index == 3 else layer(x)
        if index in names:
            layers[names[index]] = x.clone()
    return layers


SAMPLES = 32


def summary(value):
    flat = value.double().flatten().numpy()
    at = (np.arange(SAMPLES) * (flat.size - 1)) // (SAMPLES - 1)
    return {'shape': list(value.shape), 'rms': float(np.sqrt(np.mean(flat**2))), 'samples': [float(v) for v in flat[at]]}


def main(folder):
    torch.set_num_threads(2)
    folder.mkdir(parents=True, exist_ok=True)
    published = {'inception': tv.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False),
                 'vgg16': torchvision.models.vgg16(weights=None)}
    shapes = {name: {key: list(t.shape) for key, t in model.state_dict().items()} for name, model in published.items()}
    write(folder / 'state-dicts.json', shapes)
    size = {'count': 2, 'height': 40, 'width': 52}
    images = torch.from_numpy(images(**size)).float() / 255
    for name, make, layers_of in [('inception', fid_inception, inception_layers), ('vgg16', narrow_vgg, vgg_layers)]:
        for divisor in (16, 1):
            model = fill(make(divisor))
            if divisor == 1:
                assert {k: list(t.shape) for k, t in model.state_dict().items()} == shapes[name]
            with torch.no_grad():
                layers = layers_of(model, images)
            write(folder / f'{name}-{divisor}.json', {
                'made_by': f'scripts/extractor_reference.py, torch {torch.__version__}, torchvision {torchvision.__version__}',
                'images': size,
                'layers': {layer: summary(value) for layer, value in layers.items()},
            })


def write(path, value):
    path.write_text(json.dumps(value, indent=None, separators=(',', ':')) + '\n')
    print(path, path.stat().st_size)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
