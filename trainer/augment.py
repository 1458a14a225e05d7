"""Augmentation of whole batches on the training device.

A batch costs one gather (or two small matrix products) instead of 128 Pillow images. Every image has its own random
numbers; all of an epoch are drawn at its start, on the CPU, so that they are the same whatever the device.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainer.config import TrainConfig
from trainer.trivial_augment import TrivialAugment

PIXELS_OF = 32
"""Side of the images in whose pixels the settings are given."""


def to_float(images: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [0, 1], channels_last in memory."""
    return images.permute(0, 3, 1, 2).float().div_(255)


class PadCrop:
    """Flip, and a crop of the original size at a random place over a zero border: the paper's augmentation.

    `draw` gives (top, left, flip) per image; `apply` gathers pixels. The bordered images lie in one flat table, and
    behind them all of them mirrored, so that a line of any crop, flipped or not, is one stretch of it.
    """

    def __init__(self, images: Tensor, padding: int):
        self.count, self.size = images.shape[:2]
        self.padding, self.padded_size = padding, self.size + 2 * padding
        table = images.new_zeros(2, self.count, self.padded_size, self.padded_size, 3)
        inside = slice(padding, padding + self.size)
        table[0, :, inside, inside] = images
        table[1, :, inside, inside] = images.flip(2)
        self.pixels = table.view(-1, 3)
        lines = torch.arange(self.size, device=images.device)
        self.window = (lines.unsqueeze(1) * self.padded_size + lines).view(-1)  # (H * W,), from its first pixel

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """int64 (count, 3): top and left in [0, 2 * padding], flip in {0, 1}."""
        corners = torch.randint(2 * self.padding + 1, (count, 2), generator=generator)
        return torch.cat([corners, torch.randint(2, (count, 1), generator=generator)], dim=1)

    def without_crop(self, draws: Tensor) -> Tensor:
        """The draws with the flip alone."""
        return torch.cat([torch.full_like(draws[:, :2], self.padding), draws[:, 2:]], dim=1)

    def apply(self, rows: Tensor, draws: Tensor) -> Tensor:
        """Images `rows` (B,) with their draws (B, 3) -> float32 (B, 3, H, W) in [0, 1]."""
        top, left, flip = draws.unbind(1)
        left = torch.where(flip.bool(), 2 * self.padding - left, left)  # the same window, seen in the mirror
        corner = ((rows + flip * self.count) * self.padded_size + top) * self.padded_size + left  # pixel in the table
        pixels = self.pixels.index_select(0, (corner.unsqueeze(1) + self.window).view(-1))
        return to_float(pixels.view(len(rows), self.size, self.size, 3))


Range = tuple[float, float]


ATTEMPTS = 10  # as in torchvision's RandomResizedCrop.get_params and RandomErasing.get_params


def draw_sides(
    count: int, size: int, largest: int, otherwise: int, scale: Range, ratio: Range, generator: torch.Generator
) -> Tensor:
    """Both sides of random rectangles, int64 (count, 2) in pixels; the first is `ratio` times the second.

    `scale` is their area as a part of `size` * `size`, evenly distributed, `ratio` evenly in its logarithm. The
    rejection sampling of torchvision, all attempts together: the first of them with sides up to `largest` is taken, and
    where none is, both are `otherwise`.
    """
    uniform = torch.rand((count, ATTEMPTS, 2), generator=generator, dtype=torch.float64)
    area = size**2 * (scale[0] + uniform[..., 0] * (scale[1] - scale[0]))
    low, high = np.log(ratio[0]), np.log(ratio[1])
    ratios = torch.exp(low + uniform[..., 1] * (high - low))
    sides = torch.stack([area * ratios, area / ratios], -1).sqrt().round().long()  # (count, ATTEMPTS, 2)
    fits = ((sides > 0) & (sides <= largest)).all(-1)
    first = sides[torch.arange(count), fits.int().argmax(1)]
    return torch.where(fits.any(1, keepdim=True), first, otherwise)


class ResizedCrop:
    """Flip, and torchvision's RandomResizedCrop back to the original size (bilinear).

    Bilinear resizing is separable: a crop is two matrix products with (H, H) interpolation matrices, one per axis.
    """

    def __init__(self, images: Tensor, scale: Range, ratio: Range):
        self.size = images.shape[1]
        self.columns = images.transpose(1, 2).reshape(len(images), self.size, -1)  # (N, W, H * 3)
        self.scale = scale
        self.ratio = ratio

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """int64 (count, 5): top, left, height, width in pixels, flip in {0, 1}; the whole image where no crop fits."""
        sides = draw_sides(count, self.size, self.size, self.size, self.scale, self.ratio, generator).flip(1)
        place = torch.rand((count, 2), generator=generator, dtype=torch.float64)
        start = (place * (self.size - sides + 1)).long()
        return torch.cat([start, sides, torch.randint(2, (count, 1), generator=generator)], dim=1)

    def without_crop(self, draws: Tensor) -> Tensor:
        """The draws with the flip alone."""
        whole = draws.new_tensor([0, 0, self.size, self.size]).expand(len(draws), 4)
        return torch.cat([whole, draws[:, 4:]], dim=1)

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

        Pixel centers at half-integers, samples clamped inside the crop: torchvision's `resize` of the cut-out. An
        input pixel's weight falls linearly with its distance from the sample and is 0 from a distance of 1 on.
        """
        position = (outputs + 0.5) * (length / self.size).unsqueeze(1) - 0.5  # (B, size), from `start`
        position = position.clamp_(min=0).minimum((length - 1).unsqueeze(1))
        inputs = torch.arange(self.size, device=start.device) - start.unsqueeze(1)  # (B, size), from `start`
        return position.unsqueeze(2).sub(inputs.unsqueeze(1)).abs_().neg_().add_(1).clamp_(min=0)


class Cutout:
    """A square of `side` pixels around a place anywhere in the image, as far as it lies inside (DeVries & Taylor 2017,
    https://arxiv.org/abs/1708.04552)."""

    def __init__(self, size: int, side: int):
        self.size, self.side = size, side

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """int64 (count, 4): top, left, bottom, right in pixels."""
        start = torch.randint(self.size, (count, 2), generator=generator) - self.side // 2
        return torch.cat([start, start + self.side], dim=1).clamp_(0, self.size)


class RandomErasing:
    """torchvision's RandomErasing (Zhong et al. 2017, https://arxiv.org/abs/1708.04896): with a probability, a
    rectangle of 2 to 33% of the image, 0.3 to 3.3 times as high as wide."""

    SCALE, RATIO = (0.02, 0.33), (0.3, 3.3)

    def __init__(self, size: int, probability: float):
        self.size, self.probability = size, probability

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """int64 (count, 4): top, left, bottom, right in pixels; bottom = top where nothing is erased."""
        sides = draw_sides(count, self.size, self.size - 1, 0, self.SCALE, self.RATIO, generator)  # height, width
        place = torch.rand((count, 2), generator=generator, dtype=torch.float64)
        start = (place * (self.size - sides + 1)).long()
        erased = torch.rand((count, 1), generator=generator) < self.probability
        return torch.cat([start, start + sides * erased], dim=1)


def blank(images: Tensor, boxes: Tensor, color: Tensor) -> Tensor:
    """Images (B, 3, H, W) with `color` (3,) inside their boxes, int64 (B, 4): top, left, bottom, right."""
    top, left, bottom, right = boxes.unsqueeze(2).unbind(1)  # (B, 1) each
    pixels = torch.arange(images.shape[-1], device=images.device)
    rows, columns = (pixels >= top) & (pixels < bottom), (pixels >= left) & (pixels < right)
    inside = (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)  # (B, 1, H, W)
    return torch.where(inside, color.view(3, 1, 1), images)


@dataclass(frozen=True)
class Patch:
    """What one of the mixed images gives: a rectangle of `height` x `width` pixels at `to` (row, column), cut out at
    `start`."""

    image: int
    to: tuple[int, int]
    start: tuple[int, int]
    height: int
    width: int


@dataclass(frozen=True)
class Mixture:
    """How each image of a batch is mixed with those behind it.

    shares    of the labels: its own, that of the image behind it, ...
    patches   laid onto the own image; none: the pixels are blended by their shares (mixup)
    crops     whether the patches are random crops, so that the images need no other
    """

    shares: tuple[float, ...] = (1.0,)
    patches: tuple[Patch, ...] = ()
    crops: bool = False

    def __call__(self, images: Tensor, count: int) -> Tensor:
        """Images (`count` and those behind the last, 3, H, W) -> (count, 3, H, W)."""
        own = images[:count]
        if not self.patches:
            return torch.lerp(images[1 : count + 1], own, self.shares[0])
        mixed = own.clone()
        for patch in self.patches:
            (top, left), (first, second) = patch.to, patch.start
            part = images[patch.image : patch.image + count, :, first:, second:][..., : patch.height, : patch.width]
            mixed[..., top : top + patch.height, left : left + patch.width] = part
        return mixed


def draw_mixup(size: int, alpha: float, random: np.random.Generator) -> Mixture:
    """mixup (Zhang et al. 2017, https://arxiv.org/abs/1710.09412): lambda of Beta(alpha, alpha)."""
    share = float(random.beta(alpha, alpha))
    return Mixture((share, 1 - share))


def draw_cutmix(size: int, alpha: float, random: np.random.Generator) -> Mixture:
    """CutMix (Yun et al. 2019, https://arxiv.org/abs/1905.04899): 1 - lambda, of Beta(alpha, alpha), is the area of a
    square around a random pixel, as far as it lies inside."""
    half = size * math.sqrt(1 - random.beta(alpha, alpha)) / 2
    middle = random.integers(size, size=2)
    start, stop = (np.clip(middle + int(sign * half), 0, size).tolist() for sign in (-1, 1))
    height, width = stop[0] - start[0], stop[1] - start[1]
    other = height * width / size**2
    return Mixture((1 - other, other), (Patch(1, tuple(start), tuple(start), height, width),))


def draw_ricap(size: int, beta: float, random: np.random.Generator) -> Mixture:
    """RICAP (Takahashi et al. 2018, https://arxiv.org/abs/1811.09030): four images around a point whose coordinates are
    of Beta(beta, beta), each cropped at random."""
    row, column = (round(size * random.beta(beta, beta)) for _ in range(2))
    patches = []
    for top, height in ((0, row), (row, size - row)):
        for left, width in ((0, column), (column, size - column)):
            start = int(random.integers(size - height + 1)), int(random.integers(size - width + 1))
            patches.append(Patch(len(patches), (top, left), start, height, width))
    return Mixture(tuple(patch.height * patch.width / size**2 for patch in patches), tuple(patches), crops=True)


def draw_mixtures(config: TrainConfig, count: int, size: int, random: np.random.Generator) -> list[Mixture]:
    """One for each of `count` batches of images of `size` x `size`, by chance of a kind that the config turns on."""
    kinds = [(draw_mixup, config.mixup), (draw_cutmix, config.cutmix), (draw_ricap, config.ricap)]
    kinds = [(draw, alpha) for draw, alpha in kinds if alpha]
    mixtures = []
    for _ in range(count):
        draw, alpha = kinds[random.integers(len(kinds))]
        mixed = random.random() < config.mix_probability
        mixtures.append(draw(size, alpha, random) if mixed else Mixture())
    return mixtures


class Augmentation:
    """The config's augmentation of single images, in this order: flip and crop, TrivialAugment, blanked rectangles.

    `images` uint8 (N, S, S, 3) on the training device; `mean` fills what is blanked.
    """

    def __init__(self, config: TrainConfig, images: Tensor, mean: tuple[float, ...]):
        size = images.shape[1]
        self.crop = (
            PadCrop(images, config.crop_padding * size // PIXELS_OF)
            if config.crop == "pad"
            else ResizedCrop(images, config.crop_scale, config.crop_ratio)
        )
        self.trivial = TrivialAugment() if config.trivial_augment else None
        self.blanks = [Cutout(size, config.cutout * size // PIXELS_OF)] if config.cutout else []
        self.blanks += [RandomErasing(size, config.erasing)] if config.erasing else []
        self.color = torch.tensor(mean, device=images.device)

    def draw(self, count: int, generator: torch.Generator) -> list[Tensor]:
        """int64 (count, ...) for each step. The last column of the first is the flip, in {0, 1}."""
        return [step.draw(count, generator) for step in (self.crop, self.trivial, *self.blanks) if step is not None]

    def apply(self, rows: Tensor, draws: list[Tensor]) -> Tensor:
        """Images `rows` (B,) with their draws (B, ...) -> float32 (B, 3, H, W) in [0, 1], channels_last in memory."""
        crop, *draws = draws
        images = self.crop.apply(rows, crop)
        if self.trivial is not None:
            trivial, *draws = draws
            images = self.trivial.apply(images, trivial)
        for boxes in draws:
            images = blank(images, boxes, self.color)
        return images.contiguous(memory_format=torch.channels_last)
