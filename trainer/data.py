"""CIFAR-10 or a folder of images for training: split, statistics, and loaders that augment a whole batch at once.

The images stay one uint8 tensor on the training device. Every image still draws its own randomness.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from model import cifar10
from trainer.augment import Augmentation, Mixture, draw_mixtures, to_float
from trainer.config import ConfigError, TrainConfig
from trainer.download import download_if_missing
from trainer.image_folder import SPLIT_SEED, read_image_folder

VAL_FRACTION = 0.1
EVAL_BATCH = 500
AUGMENTED_AT_ONCE = 1024
"""Images, on a GPU, where a kernel over few of them takes as long to start as to run. A guess, not measured yet."""


@dataclass(frozen=True)
class Split:
    """Positions of images, sorted. `train` and `val` are disjoint and stratified.

    content   of the image at each position, where a folder holds them; CIFAR-10's positions say it all
    """

    train: np.ndarray
    val: np.ndarray
    content: tuple[str, ...] = ()

    def sha256(self) -> str:
        """Of both parts: two runs with the same digest saw the same split."""
        return _content_sha256(self.content, self.train, self.val) if self.content else _sha256(self.train, self.val)

    def val_sha256(self) -> str:
        """Of val alone: the same for a run on a part of the training images."""
        return _content_sha256(self.content, self.val) if self.content else _sha256(self.val)


def _sha256(*lists: np.ndarray) -> str:
    digest = hashlib.sha256()
    for indices in lists:
        digest.update(np.asarray(len(indices), "<i8").tobytes() + indices.astype("<i8").tobytes())
    return digest.hexdigest()


def _content_sha256(content: Sequence[str], *parts: np.ndarray) -> str:
    """Whatever the order of the images in a part."""
    return hashlib.sha256("|".join(" ".join(sorted(content[i] for i in part)) for part in parts).encode()).hexdigest()


@dataclass(frozen=True)
class TrainingData:
    """uint8 images (N, S, S, 3) and int64 labels (N,) with their split; mean and std per channel of the `split.train`
    images, as parts of 1.

    dataset      its name
    read_test    the images (M, S, S, 3) and labels (M,) of the test set, not to be called before everything is chosen
    notes        sentences on what was left out and what looks like a mistake
    unreadable   "path: reason" of each image that could not be decoded
    """

    images: np.ndarray
    labels: np.ndarray
    split: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dataset: str
    class_names: tuple[str, ...]
    read_test: Callable[[], tuple[np.ndarray, np.ndarray]]
    notes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    @property
    def image_size(self) -> int:
        return self.images.shape[1]


def load_data(
    config: TrainConfig, data_dir: Path, cache_dir: Path | None = None, progress_bar: bool = False
) -> TrainingData:
    """What the config is trained on: its folder of images (`cache_dir`: see `read_image_folder`), or CIFAR-10 from
    `data_dir`. Raises DatasetError."""
    if config.images is None:
        return load_training_data(data_dir, config.train_images)
    found = read_image_folder(Path(config.images), config.image_size, config.fit, cache_dir, progress_bar)
    content = tuple(f"{label}:{digest}" for label, digest in zip(found.labels, found.digests, strict=True))
    split = Split(found.train, found.val, content)
    if config.train_images is not None:
        split = replace(split, train=stratified_part(split.train, found.labels, config.train_images))
    return TrainingData(
        found.images,
        found.labels,
        split,
        *channel_statistics(found.images, split.train),
        found.name,
        found.class_names,
        lambda: (found.images[found.test], found.labels[found.test]),
        found.notes,
        found.unreadable,
    )


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
    statistics = channel_statistics(images, split.train)
    read_test = functools.partial(cifar10.read_test, data_dir)
    return TrainingData(images, labels, split, *statistics, cifar10.NAME, cifar10.CLASS_NAMES, read_test)


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


def channel_statistics(images: np.ndarray, positions: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of the uint8 images (N, H, W, 3) at `positions`, as parts of 1.

    Exact, through one histogram per channel: 45,000 images as float64 would take 1.1 GB.
    """
    levels, counts = np.arange(256) / 255, np.zeros((3, 256), np.int64)
    for start in range(0, len(positions), 1000):
        some = images[positions[start : start + 1000]]
        counts += [np.bincount(some[..., channel].ravel(), minlength=256) for channel in range(3)]
    means, stds = [], []
    for channel in range(3):
        weights = counts[channel] / counts[channel].sum()
        mean = float(weights @ levels)
        means.append(mean)
        stds.append(float(np.sqrt(weights @ (levels - mean) ** 2)))
    return tuple(means), tuple(stds)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """The last, short batch is dropped, unless it is the only one."""
    return max(1, images // batch_size)


def steps_at_once(device: str, batch_size: int) -> int:
    """How many batches are augmented together."""
    return 1 if device == "cpu" else math.ceil(AUGMENTED_AT_ONCE / batch_size)


def shard(length: int, part: int, parts: int) -> slice:
    """Part `part` of `parts` consecutive stretches of range(length) that differ by one in length at most."""
    return slice(length * part // parts, length * (part + 1) // parts)


class TrainLoader:
    """Shuffled, augmented batches of a uint8 tensor: float32 (B, 3, S, S) in [0, 1], int64 (B,).

    Of a mixed batch also the labels of the K images of which each is mixed, int64 (B, K), and their shares (K,).

    Order and augmentation depend on (seed, epoch) alone, not on the number of devices: process `rank` of `world_size`
    gets its part of every batch, so B = batch_size / world_size. Lightning calls `sampler.set_epoch` before an epoch,
    so a resumed run goes on with the very batch that comes next; PyTorch's own shuffling loader would not.
    """

    def __init__(
        self,
        config: TrainConfig,
        images: Tensor,
        labels: Tensor,
        mean: tuple[float, ...],
        rank: int = 0,
        world_size: int = 1,
    ):
        self.config = config
        self.augment = Augmentation(config, images, mean)
        self.size = images.shape[1]
        self.labels = labels
        self.batch_size = min(config.batch_size, len(labels))
        self.steps = steps_per_epoch(len(labels), config.batch_size)
        self.part = shard(self.batch_size, rank, world_size)
        self.behind = 3 if config.ricap else int(config.mixes)  # images that are mixed into each
        self.mixed_epochs = max(1, round(config.mix_until * config.total_epochs(self.steps)))
        self.steps_at_once = steps_at_once(images.device.type, self.part.stop - self.part.start)
        self.epoch = 0
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        mixtures = self._mixtures()
        order, draws = self._draw_epoch(torch.tensor([mixture.crops for mixture in mixtures]))
        shares = torch.tensor([(*mixture.shares, 0, 0, 0)[:4] for mixture in mixtures]).to(self.labels.device)
        count, in_batch = self.part.stop - self.part.start, self._places_in_batch()
        for first in range(0, len(self), self.steps_at_once):
            steps = torch.arange(first, min(first + self.steps_at_once, len(self)), device=order.device)
            places = (steps.unsqueeze(1) * self.batch_size + in_batch).view(-1)  # in the epoch's order
            rows = order[places]
            augmented = self.augment.apply(rows, [each[places] for each in draws])
            batches = zip(augmented.split(len(in_batch)), self.labels[rows].split(len(in_batch)), strict=True)
            for step, (images, labels) in enumerate(batches, first):
                mixture = mixtures[step]
                if len(mixture.shares) == 1:
                    yield images[:count], labels[:count]
                else:
                    mixed = labels.unfold(0, len(mixture.shares), 1)[:count]
                    yield mixture(images, count), labels[:count], mixed, shares[step, : mixed.shape[1]]

    def _draw_epoch(self, cropped: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The epoch's order, int64 (N,), and the augmentation's draws (N, ...) for the image at each place in it.

        `cropped`: for each step, whether its mixture crops the images, in place of the augmentation.
        """
        generator = _generator(self.config.seed, self.epoch)
        order = torch.randperm(len(self.labels), generator=generator)
        draws = self.augment.draw(len(self.labels), generator)
        if self.config.flip == "alternating":
            draws[0][:, -1] = self._alternating_flips()[order]
        elif self.config.flip == "none":
            draws[0][:, -1] = 0
        places = cropped.repeat_interleave(self.batch_size).nonzero().squeeze(1)
        draws[0][places] = self.augment.crop.without_crop(draws[0][places])
        return order.to(self.labels.device), [each.to(self.labels.device) for each in draws]

    def _places_in_batch(self) -> Tensor:
        """Those of this process; where batches are mixed, also those behind them (the first follows the last)."""
        places = torch.arange(self.part.start, self.part.stop + self.behind, device=self.labels.device)
        return places % self.batch_size

    def _alternating_flips(self) -> Tensor:
        """int64 (N,): by chance in the first epoch, and from then on each image the other way round every time
        (Jordan 2024, https://arxiv.org/abs/2404.00498)."""
        first = torch.randint(2, (len(self.labels),), generator=_generator(self.config.seed, 0, 1))
        return (first + self.epoch) % 2

    def _mixtures(self) -> list[Mixture]:
        if not self.config.mixes or self.epoch >= self.mixed_epochs:
            return [Mixture()] * self.steps
        random = np.random.default_rng((self.config.seed, self.epoch))
        return draw_mixtures(self.config, self.steps, self.size, random)


def _generator(*numbers: int) -> torch.Generator:
    seed = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(seed[0]) << 31 | int(seed[1]) >> 1)


class EvalLoader:
    """Every image once, in order, unchanged: float32 (B, 3, S, S) in [0, 1], int64 (B,).

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


class DataModule(L.LightningDataModule):
    """Puts the split on the training device, as two loaders of this process's part."""

    def __init__(self, data: TrainingData, config: TrainConfig):
        super().__init__()
        self.data = data
        self.config = config

    def train_dataloader(self) -> TrainLoader:
        images, labels = self._on_device(self.data.split.train)
        return TrainLoader(self.config, images, labels, self.data.mean, *self._place())

    def val_dataloader(self) -> EvalLoader:
        return EvalLoader(*self._on_device(self.data.split.val), *self._place())

    def _place(self) -> tuple[int, int]:
        return self.trainer.global_rank, self.trainer.world_size

    def _on_device(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        device = self.trainer.strategy.root_device
        images = torch.from_numpy(self.data.images[indices]).to(device)
        return images, torch.from_numpy(self.data.labels[indices]).to(device)
