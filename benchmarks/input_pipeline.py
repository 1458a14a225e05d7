"""Augmented images per second on one core: batches of a tensor against one image at a time.

    python -m benchmarks.input_pipeline [--device cuda] [--output FILE]

    batched   trainer.data.TrainLoader with PadCrop or ResizedCrop, as the trainer uses it
    pil       torchvision.transforms on a Pillow image, in a DataLoader without workers
    v2        torchvision.transforms.v2 on a uint8 tensor, in the same DataLoader

All give shuffled float32 batches (B, 3, 32, 32) in [0, 1] from made-up pixels, whose values cost nothing.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from benchmarks import machine, tables
from trainer.config import RECIPES, TrainConfig
from trainer.data import TrainLoader
from trainer.fit import resolve_device

CROPS = {"pad": RECIPES["default"], "resized": RECIPES["report"]}

PARSER = machine.parser(__doc__, repeats=5)
PARSER.add_argument("--device", default="cpu", help="where to measure the batched pipeline too")
PARSER.add_argument("--images", type=int, default=45_000, help="of the batched pipelines (default: %(default)s)")
PARSER.add_argument("--images-one-by-one", type=int, default=5_000, help="of the others (default: %(default)s)")


class Images(Dataset):
    """Like torchvision's CIFAR10: an image is transformed when it is asked for."""

    def __init__(self, images: Any, labels: Any, transform: Callable[[Any], Tensor]):
        self.images, self.labels, self.transform = images, labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def augmentation(library: Any, config: TrainConfig) -> list[Callable]:
    """Of one image with torchvision's `transforms` or `transforms.v2`."""
    if config.crop == "pad":
        crop = library.RandomCrop(32, padding=config.crop_padding)
    else:
        crop = library.RandomResizedCrop(32, config.crop_scale, config.crop_ratio)
    return [crop, library.RandomHorizontalFlip()]


def pipelines(config: TrainConfig, images: int, few: int, device: str) -> dict[str, Iterable]:
    """Name -> something whose every iteration is one epoch of batches. The slow ones get `few` images."""
    pixels, labels = torch.randint(256, (images, 32, 32, 3), dtype=torch.uint8), torch.randint(10, (images,))
    pil = transforms.Compose([Image.fromarray, *augmentation(transforms, config), transforms.ToTensor()])
    on_tensors = v2.Compose([*augmentation(v2, config), v2.ToDtype(torch.float32, scale=True)])
    tensors = pixels[:few].permute(0, 3, 1, 2).contiguous()
    found = {
        "batched": TrainLoader(config, pixels, labels, (0.5, 0.5, 0.5)),
        "pil": DataLoader(Images(pixels[:few].numpy(), labels[:few], pil), config.batch_size, shuffle=True),
        "v2": DataLoader(Images(tensors, labels[:few], on_tensors), config.batch_size, shuffle=True),
    }
    if device != "cpu":
        found[f"batched on {device}"] = TrainLoader(config, pixels.to(device), labels.to(device), (0.5, 0.5, 0.5))
    return found


def images_per_second(loader: Iterable, device: str) -> float:
    machine.wait_for(device)
    started = time.perf_counter()
    images = sum(len(batch) for batch, _ in loader)
    machine.wait_for(device)
    return images / (time.perf_counter() - started)


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    device = resolve_device(args.device)
    settings = {"images": args.images, "images_one_by_one": args.images_one_by_one}
    result = machine.describe("input_pipeline", settings, device=device) | {"crops": {}}
    torch.set_num_threads(1)
    for crop, config in CROPS.items():
        loaders = pipelines(config, args.images, args.images_one_by_one, device)
        sides = result["crops"][crop] = {side: {"runs": []} for side in loaders}
        for number, side in machine.in_turn(list(sides), args.repeats):
            sides[side]["runs"].append(images_per_second(loaders[side], device))
            result["rounds"] = number
        machine.write(result, args)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    main()
