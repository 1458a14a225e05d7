"""The training loop that people write: Pillow pictures one by one, loader workers, a log call per step.

`python -m benchmarks.classic RUN_DIR` trains with the network, SGD settings and batch size of the run in RUN_DIR and
prints what it measured as JSON.
"""

import argparse
import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import CIFAR10
from torchvision.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToTensor

from benchmarks.machine import wait_for
from model.cifar10 import MEAN, STD
from model.resnet import ResNet
from trainer.config import TrainConfig
from trainer.fit import peak_memory, resolve_device
from trainer.run import read_run

WORKERS = 4


def train_loader(data_dir: Path, train_images: int, batch_size: int) -> DataLoader:
    """float32 (B, 3, 32, 32), normalised, of the first `train_images` of the official training set."""
    transform = Compose([RandomCrop(32, padding=4), RandomHorizontalFlip(), ToTensor(), Normalize(MEAN, STD)])
    images = Subset(CIFAR10(str(data_dir), train=True, transform=transform), range(train_images))
    return DataLoader(images, batch_size=batch_size, shuffle=True, num_workers=WORKERS)


class Classic(L.LightningModule):
    """The normalisation inside our network is switched off (mean 0, std 1): the loader has done it."""

    def __init__(self, config: TrainConfig):
        super().__init__()
        self.network = ResNet(config.depth, config.stem_kernel, config.shortcut, mean=(0, 0, 0), std=(1, 1, 1))
        self.config = config

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
        self.log("train_loss", loss)
        self.log("train_accuracy", (logits.argmax(1) == labels).float().mean())
        return loss

    def configure_optimizers(self) -> SGD:
        config = self.config
        return SGD(
            self.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        )


class Clock(L.Callback):
    """Images per second of every epoch's training part."""

    def __init__(self):
        self.seconds: list[float] = []
        self.images_per_second: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        wait_for(module.device.type)
        self.images, self.started = 0, time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, *_) -> None:
        self.images += len(batch[1])

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        wait_for(module.device.type)
        self.seconds.append(time.perf_counter() - self.started)
        self.images_per_second.append(self.images / self.seconds[-1])


def default_trainer(device: str, max_epochs: int, folder: Path, clock: Clock) -> L.Trainer:
    """Lightning's defaults, in a folder to throw away. The bar is off: it belongs to a terminal."""
    return L.Trainer(
        accelerator=device,
        devices=1,
        max_epochs=max_epochs,
        default_root_dir=folder,
        callbacks=[clock],
        enable_progress_bar=False,
    )


def measure(config: TrainConfig, data_dir: Path, train_images: int) -> dict[str, Any]:
    """Trains `config.max_epochs` epochs; the last one counts."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    device = resolve_device(config.device)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = default_trainer(device, config.max_epochs, Path(folder), clock)
        trainer.fit(Classic(config), train_loader(data_dir, train_images, config.batch_size))
    return {
        "images_per_second": clock.images_per_second[-1],
        "epochs": clock.images_per_second,
        "warmup_seconds": clock.seconds[0],
        "peak_device_bytes": peak_memory(device)[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    arguments = parser.parse_args()
    run = read_run(arguments.run_dir)
    config = TrainConfig.from_hyperparameters(run["hyperparameters"])
    torch.manual_seed(config.seed)
    print(json.dumps(measure(config, arguments.data_dir, run["split"]["train"])))


if __name__ == "__main__":
    main()
