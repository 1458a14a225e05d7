"""The LightningModule: how a ResNet is trained. The network itself knows nothing of Lightning."""

import math
import time
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from model.cifar10 import CLASS_NAMES
from model.resnet import ResNet
from trainer.config import TrainConfig


def cosine_with_warmup(step: int, total_steps: int, warmup_fraction: float) -> float:
    """Factor on the peak learning rate: rises linearly to 1, then falls along half a cosine to 0."""
    warmup_steps = int(total_steps * warmup_fraction)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def build_network(config: TrainConfig, mean: tuple[float, ...], std: tuple[float, ...]) -> ResNet:
    """The config's network for the ten classes, with new weights from torch's global generator."""
    return ResNet(config.depth, config.stem_kernel, config.shortcut, len(CLASS_NAMES), mean, std)


class TrainingModule(L.LightningModule):
    """Cross-entropy, SGD, a learning-rate schedule, and one row of `history` per epoch.

    network   images (N, 3, 32, 32) in [0, 1] -> logits (N, classes)
    steps_per_epoch   of the real loader. Lightning's own estimate drops a resumed loader's position.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, steps_per_epoch: int):
        super().__init__()
        self.network = network
        self.config = config
        self.total_steps = steps_per_epoch * config.max_epochs
        self.history: list[dict[str, float]] = []
        self._plateau_state: dict[str, Any] | None = None
        # Sums over an epoch, kept on the device: loss, correct, images. `self.log` at every step would cost
        # as much as a GPU step.
        self.register_buffer("train_sums", torch.zeros(3), persistent=False)
        self.register_buffer("val_sums", torch.zeros(3), persistent=False)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, labels = batch
        return self._loss(self.network(images).float(), labels, self.train_sums)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        images, labels = batch
        logits = self.network(images).float()
        if batch_index == 0:
            self.first_val_predictions = logits.argmax(1)  # for the image panel
        self._loss(logits, labels, self.val_sums)

    def _loss(self, logits: Tensor, labels: Tensor, sums: Tensor) -> Tensor:
        """Mean cross-entropy of logits (N, classes); adds loss, correct answers and images to `sums`."""
        loss = F.cross_entropy(logits, labels)
        with torch.no_grad():
            correct = (logits.argmax(1) == labels).sum()
            sums += torch.stack([loss * len(labels), correct, torch.full_like(loss, len(labels))])
        return loss

    def on_train_start(self) -> None:
        if self._plateau_state is not None:
            self.plateau.load_state_dict(self._plateau_state)

    def on_train_epoch_start(self) -> None:
        self.train_sums.zero_()
        self._epoch_started = time.perf_counter()

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        self._learning_rate = self.trainer.optimizers[0].param_groups[0]["lr"]

    def on_validation_epoch_start(self) -> None:
        self.val_sums.zero_()
        self._train_sums = self.train_sums.tolist()  # waits for the device, so the clock below is honest
        self._train_ended = time.perf_counter()

    def on_validation_epoch_end(self) -> None:
        """Closes the epoch: Lightning validates when the last training batch is done."""
        train_loss, train_correct, train_images = self._train_sums
        val_loss, val_correct, val_images = self.val_sums.tolist()
        row = {
            "epoch": self.current_epoch + 1,
            "learning_rate": self._learning_rate,  # of the last step
            "train_loss": train_loss / train_images,
            "train_accuracy": train_correct / train_images,
            "val_loss": val_loss / val_images,
            "val_accuracy": val_correct / val_images,
            "seconds": time.perf_counter() - self._epoch_started,
            "images_per_second": train_images / (self._train_ended - self._epoch_started),
        }
        self.history.append(row)
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            self.log(name.replace("_", "/"), row[name], prog_bar=name.startswith("val"))
        if self.config.schedule == "plateau":
            self.plateau.step(row["val_loss"])

    def configure_optimizers(self) -> Any:
        config = self.config
        optimizer = SGD(
            self.network.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        )
        if config.schedule == "plateau":
            # Not handed to Lightning, which loses one of its steps when a run is resumed.
            self.plateau = ReduceLROnPlateau(optimizer, factor=config.plateau_factor, patience=config.plateau_patience)
            return optimizer
        schedule = LambdaLR(optimizer, lambda step: cosine_with_warmup(step, self.total_steps, config.warmup_fraction))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history
        if self.config.schedule == "plateau":
            checkpoint["plateau"] = self.plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]
        self._plateau_state = checkpoint.get("plateau")
