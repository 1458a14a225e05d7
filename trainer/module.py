"""The LightningModule: how a ResNet is trained. The network itself knows nothing of Lightning."""

import copy
import math
import time
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from torch.optim.swa_utils import get_ema_multi_avg_fn

from model.resnet import ResNet
from trainer.config import TrainConfig
from trainer.errors import NonFiniteLoss


def cosine_with_warmup(step: int, total_steps: int, warmup_fraction: float) -> float:
    """Factor on the peak learning rate: rises linearly to 1, then falls along half a cosine to 0."""
    warmup_steps = int(total_steps * warmup_fraction)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def steps_factor(step: int, total_steps: int, milestones: tuple[float, float], factor: float) -> float:
    """Factor on the learning rate: 1, then `factor` times less from each milestone (a part of all steps) on."""
    return factor ** sum(step >= int(total_steps * milestone) for milestone in milestones)


def parameter_groups(network: nn.Module, weight_decay: float, on: str) -> list[dict[str, Any]]:
    """SGD's groups. Biases and batch normalization have one dimension, all other weights more."""
    parameters = list(network.parameters())
    if on == "all":
        return [{"params": parameters, "weight_decay": weight_decay}]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]


def float_tensors(network: nn.Module) -> list[Tensor]:
    """Parameters and statistics, themselves."""
    return [value for value in network.state_dict().values() if value.is_floating_point()]


def update_ema(average: list[Tensor], current: list[Tensor], decay: float, step: int) -> None:
    """Moves the averages a little towards what is `current` after `step` steps. They keep less of themselves in the
    first steps, lest they stay at the random weights that they began with: the rule of TensorFlow's
    `tf.train.ExponentialMovingAverage` with `num_updates`."""
    move = get_ema_multi_avg_fn(min(decay, (1 + step) / (10 + step)))  # in one kernel for all tensors
    move(average, current, step)


def distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """How far softmax(logits / T) is from the teacher's, both (N, classes): mean Kullback-Leibler divergence times T^2,
    which keeps the size of its gradients as T grows (Hinton et al. 2015, arXiv 1503.02531, section 2)."""
    own, taught = (F.log_softmax(each / temperature, 1) for each in (logits, teacher_logits))
    return temperature**2 * F.kl_div(own, taught, reduction="batchmean", log_target=True)


def _add(sums: Tensor, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
    """Adds loss, correct answers and images of a batch to `sums`. Of a mixed batch, `labels` are the images' own."""
    with torch.no_grad():
        correct = (logits.argmax(1) == labels).sum()
        sums += torch.stack([loss * len(labels), correct, torch.full_like(loss, len(labels))])


def build_network(config: TrainConfig, num_classes: int, mean: tuple[float, ...], std: tuple[float, ...]) -> ResNet:
    """The config's network, with new weights from torch's global generator."""
    return ResNet(config.depth, config.stem_kernel, config.shortcut, num_classes, mean, std)


class TrainingModule(L.LightningModule):
    """Cross-entropy, SGD, a learning-rate schedule, and one row of `history` per epoch.

    network   images (N, 3, S, S) in [0, 1] -> logits (N, classes)
    teacher   a network with the same classes, in eval mode, whose probabilities the loss also asks for

    What is measured stays on the device until the epoch is closed: `self.log` at every step, or a look at the loss,
    would cost as much as a GPU step. Each process sums over its own images; the sums meet at the end of the epoch.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, steps_per_epoch: int, teacher: nn.Module | None = None):
        super().__init__()
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(False) if config.averages else None
        self._teachers = () if teacher is None else (teacher,)  # in a tuple: no part of the module or its checkpoints
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = config.total_steps(steps_per_epoch)
        self.total_epochs = config.total_epochs(steps_per_epoch)
        self.history: list[dict[str, float]] = []
        self.learning_rates: list[float] = []  # of this epoch's steps
        # Not buffers: a distributed network would overwrite those with the first process's before every step.
        self.step_losses = torch.zeros(steps_per_epoch)
        self.train_sums = torch.zeros(3)  # loss, correct answers, images
        self.val_sums = torch.zeros(3)
        self.plateau_state: dict[str, Any] | None = None  # of a checkpoint

    def on_fit_start(self) -> None:
        for name in ("step_losses", "train_sums", "val_sums"):
            setattr(self, name, getattr(self, name).to(self.device))
        for teacher in self._teachers:
            teacher.to(self.device)

    def training_step(self, batch: tuple[Tensor, ...], batch_index: int) -> Tensor:
        images, labels, *mixed = batch
        logits = self.network(images).float()
        loss = self._training_loss(logits, labels, *mixed)
        for teacher in self._teachers:  # after the network: its CUDA graph may be replayed over the teacher's answers
            with torch.no_grad():
                taught = teacher(images).float()
            weight = 1 if mixed else self.config.teacher_weight  # labels of mixed images mislead: arXiv 2012.02909
            loss = (1 - weight) * loss + weight * distillation_loss(logits, taught, self.config.teacher_temperature)
        _add(self.train_sums, loss, logits, labels)
        self.step_losses[batch_index] = loss.detach()
        return loss

    def _training_loss(
        self, logits: Tensor, labels: Tensor, mixed: Tensor | None = None, shares: Tensor | None = None
    ) -> Tensor:
        """Mean cross-entropy of logits (N, classes) with the smoothed labels (N,); of mixed images, with their labels
        (N, K) by the shares (K,)."""
        targets = labels
        if mixed is not None:
            targets = (F.one_hot(mixed, logits.shape[1]) * shares.unsqueeze(1)).sum(1)
        return F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        images, labels = batch
        network = self.network if self.average is None else self.average
        logits = network(images).float()
        if batch_index == 0:
            self.first_val_predictions = logits.argmax(1)  # for the image panel
        _add(self.val_sums, F.cross_entropy(logits, labels), logits, labels)

    def on_train_start(self) -> None:
        if self.average is not None:
            self.average_decay = self.config.average_decay(self.total_steps)
            self._averaged = float_tensors(self.average), float_tensors(self.network)
        for group in self.trainer.optimizers[0].param_groups:
            group["fused"] = self._fused()  # the checkpoint may come from another kind of device

    def on_train_epoch_start(self) -> None:
        self.train_sums.zero_()
        self.step_losses.zero_()
        self.learning_rates = []
        self._epoch_started = time.perf_counter()

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        self.learning_rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        if self.average is not None:
            update_ema(*self._averaged, self.average_decay, self.global_step)
        if self.global_step >= self.total_steps:
            self.trainer.should_stop = True  # in mid-epoch: Lightning still validates, with `max_steps` it would not

    def epoch_seconds(self) -> float:
        """Since the epoch began."""
        return time.perf_counter() - self._epoch_started

    def on_validation_epoch_start(self) -> None:
        self.val_sums.zero_()
        self._train_sums = self._of_all_processes(self.train_sums)  # waits for the device: the clock below is honest
        self._train_seconds = self.epoch_seconds()

    def on_validation_epoch_end(self) -> None:
        """Closes the epoch: Lightning validates when the last training batch is done."""
        train_loss, train_correct, train_images = self._train_sums
        val_loss, val_correct, val_images = self._of_all_processes(self.val_sums)
        row = {
            "epoch": self.current_epoch + 1,
            "learning_rate": self.learning_rates[-1],
            "train_loss": train_loss / train_images,
            "train_accuracy": train_correct / train_images,
            "val_loss": val_loss / val_images,
            "val_accuracy": val_correct / val_images,
            "seconds": self.epoch_seconds(),
            "images_per_second": train_images / self._train_seconds,
        }
        if not math.isfinite(row["val_loss"]):
            raise NonFiniteLoss("validation", row["val_loss"], self.global_step, row["epoch"], row["learning_rate"])
        self.history.append(row)
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            self.log(name.replace("_", "/"), row[name])
        if self.config.schedule == "plateau":
            self.plateau.step(row["val_loss"])

    def _of_all_processes(self, sums: Tensor) -> list[float]:
        return self.trainer.strategy.reduce(sums.clone(), reduce_op="sum").tolist()

    def _fused(self) -> bool | None:
        """One kernel for all parameters, on CUDA; else as PyTorch chooses."""
        return self.device.type == "cuda" or None

    def configure_optimizers(self) -> Any:
        config = self.config
        optimizer = SGD(
            parameter_groups(self.network, config.weight_decay, config.weight_decay_on),
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=config.nesterov,
            fused=self._fused(),
        )
        if config.schedule == "plateau":
            # Not handed to Lightning, which loses one of its steps when a run is resumed
            # (https://github.com/Lightning-AI/pytorch-lightning/issues/14699).
            self.plateau = ReduceLROnPlateau(optimizer, factor=config.plateau_factor, patience=config.plateau_patience)
            if self.plateau_state is not None:
                self.plateau.load_state_dict(self.plateau_state)
            return optimizer
        schedule = LambdaLR(optimizer, self.learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def learning_rate_factor(self, step: int) -> float:
        config = self.config
        if config.schedule == "steps":
            return steps_factor(step, self.total_steps, config.milestones, config.milestone_factor)
        return cosine_with_warmup(step, self.total_steps, config.warmup_fraction)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history
        if self.config.schedule == "plateau":
            checkpoint["plateau"] = self.plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]
        self.plateau_state = checkpoint.get("plateau")
