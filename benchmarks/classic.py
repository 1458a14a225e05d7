"""The training loop that people write: Pillow images one by one, loader workers, a log call per step.

`python -m benchmarks.classic RUN_DIR DATA_DIR` trains with the network, SGD settings and batch size of the run in
RUN_DIR and prints what it measured as JSON.
"""

import json
import logging
import sys
import tempfile
import time
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from PIL import Image
from torch.optim import SGD
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToTensor

from benchmarks.input_pipeline import Images
from benchmarks.machine import peaks, wait_for
from model.cifar10 import MEAN, STD, read_train
from model.resnet import ResNet
from trainer.config import TrainConfig
from trainer.fit import resolve_device
from trainer.run import read_run


def train_loader(data_dir: Path, train_images: int, batch_size: int) -> DataLoader:
    """float32 (B, 3, 32, 32), normalized, of the first `train_images` of the official training set."""
    augmentation = [RandomCrop(32, padding=4), RandomHorizontalFlip()]
    transform = Compose([Image.fromarray, *augmentation, ToTensor(), Normalize(MEAN, STD)])
    images, labels = read_train(data_dir)
    found = Images(images[:train_images], labels[:train_images], transform)
    return DataLoader(found, batch_size, shuffle=True, num_workers=4)


class Classic(L.LightningModule):
    """The normalization inside our network is switched off (mean 0, std 1): the loader has done it. Notes the seconds
    and images of every epoch."""

    def __init__(self, config: TrainConfig):
        super().__init__()
        self.network = ResNet(config.depth, config.stem_kernel, config.shortcut, mean=(0, 0, 0), std=(1, 1, 1))
        self.config = config
        self.seconds: list[float] = []
        self.images: list[int] = []

    def on_train_epoch_start(self) -> None:
        wait_for(self.device.type)
        self.images.append(0)
        self.started = time.perf_counter()

    def training_step(self, batch, batch_index):
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
        self.log("train_loss", loss)
        self.log("train_accuracy", (logits.argmax(1) == labels).float().mean())
        self.images[-1] += len(labels)
        return loss

    def on_train_epoch_end(self) -> None:
        wait_for(self.device.type)
        self.seconds.append(time.perf_counter() - self.started)

    def configure_optimizers(self) -> SGD:
        c = self.config
        return SGD(self.parameters(), c.learning_rate, c.momentum, weight_decay=c.weight_decay, nesterov=c.nesterov)


def main(run_dir: Path, data_dir: Path) -> None:
    """Trains as many epochs as the run has, with Lightning's defaults; the last one counts."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    run = read_run(run_dir)
    config = TrainConfig.from_hyperparameters(run["hyperparameters"])
    torch.manual_seed(config.seed)
    module, device = Classic(config), resolve_device(config.device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator=device,
            devices=1,
            max_epochs=config.max_epochs,
            default_root_dir=folder,
            enable_progress_bar=False,  # it belongs to a terminal
        )
        trainer.fit(module, train_loader(data_dir, run["split"]["train"], config.batch_size))
    speeds = [images / seconds for images, seconds in zip(module.images, module.seconds, strict=True)]
    found = {"images_per_second": speeds[-1], "warmup_seconds": module.seconds[0]}
    print(json.dumps(found | peaks(device)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
