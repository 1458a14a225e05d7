"""CIFAR-10 for training: the split, its statistics, and loaders that augment a whole batch at once.

The images stay one uint8 tensor on the training device; a batch costs one gather (or two small matrix products)
instead of 128 Pillow pictures. Every image still draws its own randomness.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model import cifar10
from trainer.config import ConfigError, TrainConfig

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
    cifar10.check_files(data_dir)
    images, labels = cifar10.read_train(data_dir)
    split = split_train_val(labels)
    if train_images is not None:
        split = Split(stratified_part(split.train, labels, train_images), split.val)
    mean, std = channel_statistics(images[split.train])
    return TrainingData(images, labels, split, mean, std)


def download_if_missing(data_dir: Path) -> None:
    """Downloads the official archive (170 MB) through torchvision. Raises DatasetError where that fails."""
    missing = cifar10.missing_files(data_dir)
    if not missing:
        return
    from torchvision.datasets import CIFAR10  # not at the top: it takes seconds and is rarely needed

    print(f"{data_dir / cifar10.FOLDER} lacks {', '.join(missing)}: downloading CIFAR-10 (170 MB)", flush=True)
    try:
        CIFAR10(str(data_dir), download=True)
    except (OSError, RuntimeError) as error:  # URLError and HTTPError are OSErrors
        raise cifar10.DatasetError(
            f"CIFAR-10 could not be downloaded ({error}): unpack {cifar10.ARCHIVE} into {data_dir}, "
            "or name a folder that holds cifar-10-batches-py/ with --data-dir"
        ) from None


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

    `draw` gives (top, left, flip) per image; `apply` gathers rows of a flat (N * H * W, 3) table, which is the
    fastest way there is to cut 32x32 windows at different places.
    """

    def __init__(self, images: Tensor, padding: int):
        self.size = images.shape[1]
        self.padded_size = self.size + 2 * padding
        self.padding = padding
        self.pixels = F.pad(images, (0, 0, padding, padding, padding, padding)).reshape(-1, 3)
        self.offsets = torch.arange(self.size, device=images.device)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """int64 (count, 3): top and left in [0, 2 * padding], flip in {0, 1}."""
        corners = torch.randint(2 * self.padding + 1, (count, 2), generator=generator)
        return torch.cat([corners, torch.randint(2, (count, 1), generator=generator)], dim=1)

    def apply(self, rows: Tensor, draws: Tensor) -> Tensor:
        """Images `rows` (B,) with their draws (B, 3) -> float32 (B, 3, H, W) in [0, 1]."""
        top, left, flip = draws.unsqueeze(2).unbind(1)  # each (B, 1)
        y = top + self.offsets  # (B, H)
        x = left + torch.where(flip.bool(), self.offsets.flip(0), self.offsets)  # (B, W)
        lines = (rows.unsqueeze(1) * self.padded_size + y) * self.padded_size  # (B, H)
        flat = (lines.unsqueeze(2) + x.unsqueeze(1)).reshape(-1)  # (B * H * W,)
        return to_float(self.pixels.index_select(0, flat).view(len(rows), self.size, self.size, 3))


class ResizedCrop:
    """Flip, and torchvision's RandomResizedCrop back to the original size (bilinear).

    Bilinear resizing is separable: a crop is two matrix products with (H, H) interpolation matrices, one per axis.
    """

    ATTEMPTS = 10  # as in torchvision.transforms.RandomResizedCrop.get_params

    def __init__(self, images: Tensor, scale: tuple[float, float], ratio: tuple[float, float]):
        self.images = images
        self.size = images.shape[1]
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
        vertical = self._interpolation(top, height)  # (B, H, H): output row from input rows
        horizontal = self._interpolation(left, width)
        horizontal = torch.where(flip.bool().view(-1, 1, 1), horizontal.flip(1), horizontal)
        planes = self.images[rows].permute(0, 3, 1, 2).float()  # (B, 3, H, W)
        out = vertical.unsqueeze(1) @ planes @ horizontal.transpose(1, 2).unsqueeze(1)
        return out.round_().div_(255).contiguous(memory_format=torch.channels_last)

    def _interpolation(self, start: Tensor, length: Tensor) -> Tensor:
        """Per image the (size, size) matrix that stretches [start, start + length) over the whole axis, bilinearly.

        Pixel centres at half-integers, samples clamped inside the crop: torchvision's `resize` of the cut-out.
        """
        size, device = self.size, start.device
        centres = torch.arange(size, device=device) + 0.5
        position = centres * (length / size).unsqueeze(1) - 0.5  # (B, size), inside the crop
        position = position.clamp_(min=0).minimum((length - 1).unsqueeze(1))
        lower = position.floor()
        weight = position - lower
        lower = lower.long()
        upper = (lower + 1).minimum((length - 1).unsqueeze(1))
        matrix = torch.zeros(len(start), size, size, device=device)
        matrix.scatter_add_(2, (start.unsqueeze(1) + lower).unsqueeze(2), (1 - weight).unsqueeze(2))
        return matrix.scatter_add_(2, (start.unsqueeze(1) + upper).unsqueeze(2), weight.unsqueeze(2))


def augmentation(config: TrainConfig, images: Tensor) -> PadCrop | ResizedCrop:
    """The config's augmentation over uint8 images (N, 32, 32, 3)."""
    if config.crop == "pad":
        return PadCrop(images, config.crop_padding)
    return ResizedCrop(images, config.crop_scale, config.crop_ratio)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """The last, short batch is dropped, unless it is the only one."""
    return max(1, images // batch_size)


class TrainLoader:
    """Shuffled, augmented batches of a uint8 tensor: float32 (B, 3, 32, 32) in [0, 1], int64 (B,).

    Order and augmentation depend on (seed, epoch) alone. Lightning calls
    `sampler.set_epoch` before an epoch and keeps `state_dict` in its checkpoints, so a resumed run goes on with the
    very batch that comes next; PyTorch's own shuffling loader would not.
    """

    def __init__(self, augment: PadCrop | ResizedCrop, labels: Tensor, batch_size: int, seed: int):
        self.augment = augment
        self.labels = labels
        self.batch_size = batch_size
        self.steps = steps_per_epoch(len(labels), batch_size)
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
            batch = slice(step * self.batch_size, (step + 1) * self.batch_size)
            rows = order[batch]
            self.position = step + 1
            yield self.augment.apply(rows, draws[batch]), self.labels[rows]
        self.position = 0


class EvalLoader:
    """Every image once, in order, unchanged: float32 (B, 3, 32, 32) in [0, 1], int64 (B,)."""

    def __init__(self, images: Tensor, labels: Tensor):
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return -(-len(self.labels) // EVAL_BATCH)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.labels), EVAL_BATCH):
            batch = slice(start, start + EVAL_BATCH)
            yield to_float(self.images[batch]), self.labels[batch]


class CIFAR10DataModule(L.LightningDataModule):
    """Puts the split on the training device, as two loaders."""

    def __init__(self, data: TrainingData, config: TrainConfig):
        super().__init__()
        self.data = data
        self.config = config

    def train_dataloader(self) -> TrainLoader:
        images, labels = self._on_device(self.data.split.train)
        return TrainLoader(augmentation(self.config, images), labels, self.config.batch_size, self.config.seed)

    def val_dataloader(self) -> EvalLoader:
        return EvalLoader(*self._on_device(self.data.split.val))

    def _on_device(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        device = self.trainer.strategy.root_device
        images = torch.from_numpy(self.data.images[indices]).to(device)
        return images, torch.from_numpy(self.data.labels[indices]).to(device)
