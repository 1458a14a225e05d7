"""CIFAR-10 for training: the split, its statistics, and loaders that augment a whole batch at once.

The images stay one uint8 tensor on the training device; a batch costs one gather (or two small matrix products)
instead of 128 Pillow pictures. Every image still draws its own randomness.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import numpy as np
import torch
from torch import Tensor

from model import cifar10
from trainer.config import ConfigError, TrainConfig
from trainer.download import download_if_missing

SPLIT_SEED = 0
VAL_FRACTION = 0.1
EVAL_BATCH = 500


@dataclass(frozen=True)
class Split:
    """Positions in the official training set, sorted. `train` and `val` are disjoint and stratified."""

    train: np.ndarray
    val: np.ndarray

    def sha256(self) -> str:
        """Of both index lists: two runs with the same digest saw the same split."""
        return _sha256(self.train, self.val)

    def val_sha256(self) -> str:
        """Of the val indices alone: the same for a run on a part of the training images."""
        return _sha256(self.val)


def _sha256(*lists: np.ndarray) -> str:
    digest = hashlib.sha256()
    for indices in lists:
        digest.update(np.asarray(len(indices), "<i8").tobytes() + indices.astype("<i8").tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class TrainingData:
    """uint8 images (N, 32, 32, 3) and int64 labels (N,) of the official training set, split; mean and std per channel
    of the `split.train` images, as parts of 1."""

    images: np.ndarray
    labels: np.ndarray
    split: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_training_data(data_dir: Path, train_images: int | None = None) -> TrainingData:
    """Reads the official training set, downloading it first where files are missing. Raises DatasetError.

    The test file's md5 is checked too, so that a damaged one is not found out only when the training is done.
    """
    download_if_missing(data_dir)
    cifar10.check_files(data_dir, [*cifar10.TEST_BATCHES, "batches.meta"])
    images, labels = cifar10.read_train(data_dir)
    split = split_train_val(labels)
    if train_images is not None:
        split = Split(stratified_part(split.train, labels, train_images), split.val)
    mean, std = channel_statistics(images[split.train])
    return TrainingData(images, labels, split, mean, std)


def split_train_val(labels: np.ndarray) -> Split:
    """Every class gives its tenth to val. Depends on the labels alone, never on the run's seed.

    RandomState, because NumPy guarantees that its stream never changes.
    """
    random = np.random.RandomState(SPLIT_SEED)
    val = []
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        val.append(members[: round(len(members) * VAL_FRACTION)])
    val = np.sort(np.concatenate(val))
    return Split(np.setdiff1d(np.arange(len(labels)), val), val)


def stratified_part(indices: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """`count` of `indices`, the classes in equal proportion (to within one image). Raises ConfigError if too few."""
    if count > len(indices):
        raise ConfigError(f"--train-images is {count}; the training split has only {len(indices)} images")
    random = np.random.RandomState(SPLIT_SEED)
    shuffled = random.permutation(indices)
    rank_in_class = np.empty(len(shuffled), dtype=np.int64)
    for label in np.unique(labels):
        members = labels[shuffled] == label
        rank_in_class[members] = np.arange(members.sum())
    return np.sort(shuffled[np.argsort(rank_in_class, kind="stable")[:count]])


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 images (N, H, W, 3), as parts of 1.

    Exact, through one histogram per channel: 45,000 images as float64 would take 1.1 GB.
    """
    levels = np.arange(256) / 255
    means, stds = [], []
    for channel in range(3):
        weights = np.bincount(images[..., channel].ravel(), minlength=256) / images[..., channel].size
        mean = float(weights @ levels)
        means.append(mean)
        stds.append(float(np.sqrt(weights @ (levels - mean) ** 2)))
    return tuple(means), tuple(stds)


def to_float(images: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [0, 1], channels_last in memory."""
    return images.permute(0, 3, 1, 2).float().div_(255)


class PadCrop:
    """Flip, and a crop of the original size at a random place over a zero border: the paper's augmentation.

    `draw` gives (top, left, flip) per image; `apply` gathers whole lines of pixels. The bordered images lie in one
    flat table, and behind them all of them mirrored, so that a line of any crop, flipped or not, is one stretch of it.
    """

    def __init__(self, images: Tensor, padding: int):
        self.count, self.size = images.shape[:2]
        self.padded_size = self.size + 2 * padding
        self.padding = padding
        table = images.new_zeros(2, self.count, self.padded_size, self.padded_size, 3)
        inside = slice(padding, padding + self.size)
        for half, pictures in zip(table, (images, images.flip(2)), strict=True):
            half[:, inside, inside] = pictures
        self.pixels = table.view(-1, 3)
        # Every stretch of `size` pixels, overlapping: a view of the table, which takes no memory of its own.
        self.stretches = self.pixels.as_strided((len(self.pixels) - self.size + 1, self.size * 3), (3, 1))
        self.offsets = torch.arange(self.size, device=images.device)
        self.by_stretch = images.device.type != "mps"  # which may copy such a view, of 13 GB

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """int64 (count, 3): top and left in [0, 2 * padding], flip in {0, 1}."""
        corners = torch.randint(2 * self.padding + 1, (count, 2), generator=generator)
        return torch.cat([corners, torch.randint(2, (count, 1), generator=generator)], dim=1)

    def apply(self, rows: Tensor, draws: Tensor) -> Tensor:
        """Images `rows` (B,) with their draws (B, 3) -> float32 (B, 3, H, W) in [0, 1]."""
        top, left, flip = draws.unbind(1)
        left = torch.where(flip.bool(), 2 * self.padding - left, left)  # the same window, seen in the mirror
        image = rows + flip * self.count
        corner = (image * self.padded_size + top) * self.padded_size + left  # pixel in the table
        lines = (corner.unsqueeze(1) + self.offsets * self.padded_size).reshape(-1)  # (B * H,)
        if self.by_stretch:
            windows = self.stretches.index_select(0, lines)
        else:
            windows = self.pixels.index_select(0, (lines.unsqueeze(1) + self.offsets).reshape(-1))
        return to_float(windows.view(len(rows), self.size, self.size, 3))


class ResizedCrop:
    """Flip, and torchvision's RandomResizedCrop back to the original size (bilinear).

    Bilinear resizing is separable: a crop is two matrix products with (H, H) interpolation matrices, one per axis.
    """

    ATTEMPTS = 10  # as in torchvision.transforms.RandomResizedCrop.get_params

    def __init__(self, images: Tensor, scale: tuple[float, float], ratio: tuple[float, float]):
        self.size = images.shape[1]
        self.columns = images.transpose(1, 2).reshape(len(images), self.size, -1)  # (N, W, H * 3)
        self.scale = scale
        self.ratio = ratio

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """int64 (count, 5): top, left, height, width in pixels, flip in {0, 1}.

        The rejection sampling of torchvision's get_params, all attempts at once: the first crop that fits is taken.
        """
        uniform = torch.rand((count, self.ATTEMPTS, 2), generator=generator, dtype=torch.float64)
        area = self.size**2 * (self.scale[0] + uniform[..., 0] * (self.scale[1] - self.scale[0]))
        low, high = np.log(self.ratio[0]), np.log(self.ratio[1])
        ratio = torch.exp(low + uniform[..., 1] * (high - low))
        width, height = torch.sqrt(area * ratio).round().long(), torch.sqrt(area / ratio).round().long()
        fits = (width > 0) & (width <= self.size) & (height > 0) & (height <= self.size)
        first = fits.int().argmax(dim=1, keepdim=True)
        whole = torch.full((count,), self.size)  # where no attempt fits: the whole square image
        width = torch.where(fits.any(1), width.gather(1, first).squeeze(1), whole)
        height = torch.where(fits.any(1), height.gather(1, first).squeeze(1), whole)
        place = torch.rand((count, 2), generator=generator, dtype=torch.float64)
        top = (place[:, 0] * (self.size - height + 1)).long()
        left = (place[:, 1] * (self.size - width + 1)).long()
        flip = torch.randint(2, (count,), generator=generator)
        return torch.stack([top, left, height, width, flip], dim=1)

    def apply(self, rows: Tensor, draws: Tensor) -> Tensor:
        """Images `rows` (B,) with their draws (B, 5) -> float32 (B, 3, H, W) in [0, 1], at 8-bit precision."""
        top, left, height, width, flip = draws.unbind(1)
        pixels = torch.arange(self.size, device=rows.device)
        mirrored = torch.where(flip.bool().unsqueeze(1), pixels.flip(0), pixels)  # (B, W)
        horizontal = self._interpolation(left, width, mirrored)  # (B, W, W): output column from input columns
        vertical = self._interpolation(top, height, pixels)
        columns = self.columns.index_select(0, rows).float()
        lines = horizontal.bmm(columns).view(len(rows), self.size, self.size, 3).transpose(1, 2)  # (B, H, W, 3)
        out = vertical.bmm(lines.reshape(len(rows), self.size, -1)).view(len(rows), self.size, self.size, 3)
        return out.round_().div_(255).permute(0, 3, 1, 2)

    def _interpolation(self, start: Tensor, length: Tensor, outputs: Tensor) -> Tensor:
        """Per image the (size, size) matrix that stretches [start, start + length) over the whole axis, bilinearly;
        row i is the output pixel `outputs[i]`.

        Pixel centres at half-integers, samples clamped inside the crop: torchvision's `resize` of the cut-out. An
        input pixel's weight falls linearly with its distance from the sample and is 0 from a distance of 1 on.
        """
        position = (outputs + 0.5) * (length / self.size).unsqueeze(1) - 0.5  # (B, size), from `start`
        position = position.clamp_(min=0).minimum((length - 1).unsqueeze(1))
        inputs = torch.arange(self.size, device=start.device) - start.unsqueeze(1)  # (B, size), from `start`
        return position.unsqueeze(2).sub(inputs.unsqueeze(1)).abs_().neg_().add_(1).clamp_(min=0)


def augmentation(config: TrainConfig, images: Tensor) -> PadCrop | ResizedCrop:
    """The config's augmentation over uint8 images (N, 32, 32, 3)."""
    if config.crop == "pad":
        return PadCrop(images, config.crop_padding)
    return ResizedCrop(images, config.crop_scale, config.crop_ratio)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """The last, short batch is dropped, unless it is the only one."""
    return max(1, images // batch_size)


def shard(length: int, part: int, parts: int) -> slice:
    """Part `part` of `parts` consecutive stretches of range(length) that differ by one in length at most."""
    return slice(length * part // parts, length * (part + 1) // parts)


class TrainLoader:
    """Shuffled, augmented batches of a uint8 tensor: float32 (B, 3, 32, 32) in [0, 1], int64 (B,).

    Order and augmentation depend on (seed, epoch) alone, not on the number of devices: process `rank` of `world_size`
    gets its part of every batch, so B = batch_size / world_size. Lightning calls
    `sampler.set_epoch` before an epoch and keeps `state_dict` in its checkpoints, so a resumed run goes on with the
    very batch that comes next; PyTorch's own shuffling loader would not.
    """

    def __init__(
        self,
        augment: PadCrop | ResizedCrop,
        labels: Tensor,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.augment = augment
        self.labels = labels
        self.batch_size = min(batch_size, len(labels))
        self.steps = steps_per_epoch(len(labels), batch_size)
        self.part = shard(self.batch_size, rank, world_size)
        self.seed = seed
        self.epoch = 0
        self.position = 0  # batches of this epoch that were handed out
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        device = self.labels.device
        seed = np.random.SeedSequence((self.seed, self.epoch)).generate_state(2, np.uint32)
        generator = torch.Generator().manual_seed(int(seed[0]) << 31 | int(seed[1]) >> 1)
        order = torch.randperm(len(self.labels), generator=generator).to(device)
        draws = self.augment.draw(len(self.labels), generator).to(device)
        for step in range(self.position, len(self)):
            start = step * self.batch_size
            mine = slice(start + self.part.start, start + self.part.stop)
            rows = order[mine]
            self.position = step + 1
            yield self.augment.apply(rows, draws[mine]), self.labels[rows]
        self.position = 0


class EvalLoader:
    """Every image once, in order, unchanged: float32 (B, 3, 32, 32) in [0, 1], int64 (B,).

    Each of `world_size` processes gets its own stretch of the images; none is shown twice to make them equally long.
    All take the same number of batches, because each batch of a distributed network is a meeting of all processes.
    """

    def __init__(self, images: Tensor, labels: Tensor, rank: int = 0, world_size: int = 1):
        part = shard(len(labels), rank, world_size)
        self.images = images[part]
        self.labels = labels[part]
        longest = math.ceil(len(labels) / world_size)
        self.batches = math.ceil(longest / EVAL_BATCH)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for i in range(len(self)):
            batch = shard(len(self.labels), i, len(self))
            yield to_float(self.images[batch]), self.labels[batch]


class CIFAR10DataModule(L.LightningDataModule):
    """Puts the split on the training device, as two loaders of this process's part."""

    def __init__(self, data: TrainingData, config: TrainConfig):
        super().__init__()
        self.data = data
        self.config = config

    def train_dataloader(self) -> TrainLoader:
        images, labels = self._on_device(self.data.split.train)
        batch_size, seed = self.config.batch_size, self.config.seed
        return TrainLoader(augmentation(self.config, images), labels, batch_size, seed, *self._place())

    def val_dataloader(self) -> EvalLoader:
        return EvalLoader(*self._on_device(self.data.split.val), *self._place())

    def _place(self) -> tuple[int, int]:
        return self.trainer.global_rank, self.trainer.world_size

    def _on_device(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        device = self.trainer.strategy.root_device
        images = torch.from_numpy(self.data.images[indices]).to(device)
        return images, torch.from_numpy(self.data.labels[indices]).to(device)
