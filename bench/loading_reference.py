"""An epoch of images by torchvision and PIL: decoded, resized, cropped, mirrored, as tensors. Driven over JSON lines:
{"folder", "side", "batch_size", "workers"} answers the seconds of one epoch, and those of the processor, of all processes."""

import json
import sys
import time

from features_reference import Images, processor_seconds
from torch.utils.data import DataLoader
from torchvision import transforms


def main():
    for line in sys.stdin:
        message = json.loads(line)
        images = Images(message["folder"])
        images.transform = transforms.Compose(
            [
                transforms.Resize(message["side"]),
                transforms.CenterCrop(message["side"]),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )
        start, processor = time.perf_counter(), processor_seconds()
        loader = DataLoader(images, message["batch_size"], shuffle=True, num_workers=message["workers"])
        count = sum(len(batch) for batch in loader)
        answer = {"seconds": time.perf_counter() - start, "count": count}
        del loader
        answer["processorSeconds"] = processor_seconds() - processor
        print(json.dumps(answer), flush=True)


main()
