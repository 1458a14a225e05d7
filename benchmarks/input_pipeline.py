"""Augmented images per second on one core: batches of a tensor against one picture at a time.

    python -m benchmarks.input_pipeline [--device cuda] [--output FILE]

    batched   trainer.data.TrainLoader with PadCrop or ResizedCrop, as the trainer uses it
    pil       torchvision.transforms on a Pillow picture, in a DataLoader without workers
    v2        torchvision.transforms.v2 on a uint8 tensor, in the same DataLoader

All give shuffled float32 batches (B, 3, 32, 32) in [0, 1] from made-up pixels, whose values cost nothing. Rounds are
interleaved; medians are stated.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from benchmarks import machine, tables
from trainer.config import RECIPES, TrainConfig
from trainer.data import TrainLoader
from trainer.fit import device_name, resolve_device

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

CROPS = {"pad": RECIPES["default"], "resized": RECIPES["report"]}


@contextmanager
def one_core() -> Iterator[None]:
    """One thread, kept on one core where the system can do that."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if cores:
            os.sched_setaffinity(0, cores)


def pil_transform(config: TrainConfig) -> transforms.Compose:
    """Pillow picture -> float32 (3, 32, 32) in [0, 1]."""
    if config.crop == "pad":
        crop = transforms.RandomCrop(32, padding=config.crop_padding)
    else:
        crop = transforms.RandomResizedCrop(32, config.crop_scale, config.crop_ratio)
    return transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.ToTensor()])


def v2_transform(config: TrainConfig) -> v2.Compose:
    """uint8 (3, 32, 32) -> float32 (3, 32, 32) in [0, 1]."""
    if config.crop == "pad":
        crop = v2.RandomCrop(32, padding=config.crop_padding)
    else:
        crop = v2.RandomResizedCrop(32, config.crop_scale, config.crop_ratio)
    return v2.Compose([crop, v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])


class Pictures(Dataset):
    """Like torchvision's CIFAR10: an array that becomes a Pillow picture when it is asked for."""

    def __init__(self, images: Tensor, labels: Tensor, transform: transforms.Compose):
        self.images, self.labels = images.numpy(), labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class Tensors(Dataset):
    def __init__(self, images: Tensor, labels: Tensor, transform: v2.Compose):
        self.images, self.labels = images.permute(0, 3, 1, 2).contiguous(), labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def pipelines(config: TrainConfig, images: int, images_one_by_one: int, device: str) -> dict[str, Iterable]:
    """Name -> something whose every iteration is one epoch of batches. The slow ones get fewer images."""
    pixels = torch.randint(256, (images, 32, 32, 3), dtype=torch.uint8)
    labels = torch.randint(10, (images,))
    few, few_labels, batch_size = pixels[:images_one_by_one], labels[:images_one_by_one], config.batch_size

    def batched(device: str) -> TrainLoader:
        return TrainLoader(config, pixels.to(device), labels.to(device), (0.5, 0.5, 0.5))

    return {
        "batched": batched("cpu"),
        "pil": DataLoader(Pictures(few, few_labels, pil_transform(config)), batch_size, shuffle=True),
        "v2": DataLoader(Tensors(few, few_labels, v2_transform(config)), batch_size, shuffle=True),
    } | ({f"batched on {device}": batched(device)} if device != "cpu" else {})


def images_per_second(loader: Iterable, device: str) -> float:
    images = 0
    machine.wait_for(device)
    started = time.perf_counter()
    for batch, _ in loader:
        images += len(batch)
    machine.wait_for(device)
    return images / (time.perf_counter() - started)


def measure(images: int, images_one_by_one: int, repeats: int, device: str) -> dict[str, Any]:
    """Crop -> pipeline -> every round's images per second and their median, and batched over the others."""
    crops = {}
    for crop, config in CROPS.items():
        loaders = pipelines(config, images, images_one_by_one, device)
        runs = {name: [] for name in loaders}
        for _ in range(repeats):
            for name, loader in loaders.items():
                runs[name].append(images_per_second(loader, device))
        crops[crop] = {name: {"runs": found, "images_per_second": median(found)} for name, found in runs.items()}
        for name in ("pil", "v2"):
            ratios = [ours / other for ours, other in zip(runs["batched"], runs[name], strict=True)]
            crops[crop][f"batched_over_{name}"] = median(ratios)
    return crops


@app.command()
def main(
    device: Annotated[str, typer.Option(help="Where to measure the batched pipeline beside the CPU.")] = "cpu",
    images: Annotated[int, typer.Option(help="Images of the batched pipelines.")] = 45_000,
    images_one_by_one: Annotated[int, typer.Option(help="Images of the other pipelines.")] = 5_000,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds.")] = 5,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Compare the batched input pipeline with one picture at a time, on one core."""
    device = resolve_device(device)
    result = {
        "benchmark": "input_pipeline",
        "machine": machine.describe(),
        "device": device_name(device),
        "settings": {"images": images, "images_one_by_one": images_one_by_one},
        "rounds": repeats,
    }
    with one_core():
        result["pinned"] = hasattr(os, "sched_setaffinity")
        result["crops"] = measure(images, images_one_by_one, repeats, device)
    machine.write(result, output)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    app()
