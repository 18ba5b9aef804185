"""Features of Inception v3 by torch and torchvision, from a folder of images. The network is torchvision's, with the three pools in
which that of the FID differs (pytorch-fid), and with random weights. Driven over JSON lines: {"command": "weights", "path"} writes
the state dict, {"command": "extract", "folder", "batch_size", "workers", "path"} answers the seconds, those of the processor, of all
its processes, and writes the features, float32, to the path."""

import glob
import json
import os
import resource
import sys
import time
import types

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import inception


def avg_pool2d(x, kernel_size, stride, padding):
    return F.avg_pool2d(x, kernel_size, stride, padding, count_include_pad=False)


class LastBlock(inception.InceptionE):
    def forward(self, x):
        a, b = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(a),
            self.branch3x3_2b(a),
            self.branch3x3dbl_3a(b),
            self.branch3x3dbl_3b(b),
            self.branch_pool(F.max_pool2d(x, 3, 1, 1)),
        ]
        return torch.cat(branches, 1)


def random_network():
    inception.F = types.SimpleNamespace(**{**vars(F), "avg_pool2d": avg_pool2d})
    torch.manual_seed(0)
    network = inception.Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    network.Mixed_7c = LastBlock(2048)
    for module in network.modules():
        # Activations keep their size from layer to layer.
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
    return network.eval()


class Images(Dataset):
    transform = transforms.Compose(
        [
            transforms.Resize(299),
            transforms.CenterCrop(299),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )

    def __init__(self, folder):
        self.files = sorted(glob.glob(os.path.join(folder, "*")))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return self.transform(Image.open(self.files[index]).convert("RGB"))


def processor_seconds():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def extract(network, message):
    start, processor = time.perf_counter(), processor_seconds()
    loader = DataLoader(Images(message["folder"]), message["batch_size"], num_workers=message["workers"])
    with torch.inference_mode():
        features = torch.cat([network(batch) for batch in loader])
    answer = {"seconds": time.perf_counter() - start}
    del loader
    answer["processorSeconds"] = processor_seconds() - processor
    features.numpy().tofile(message["path"])
    return answer


def main():
    # By itself torch takes one thread a physical core.
    torch.set_num_threads(os.cpu_count())
    network = random_network()
    for line in sys.stdin:
        message = json.loads(line)
        if message["command"] == "weights":
            torch.save(network.state_dict(), message["path"])
            network.fc = torch.nn.Identity()
            answer = {}
        else:
            answer = extract(network, message)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
