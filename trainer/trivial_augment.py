"""TrivialAugment of whole batches on the training device.

torchvision's TrivialAugmentWide goes through Pillow images or tensors one at a time; here all images of a batch with
the same operation go through it together. For the same draws the pixels are those of torchvision's v1 transform on
uint8 tensors.
"""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

OPERATIONS = (  # in torchvision's order
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
)
GEOMETRIC = OPERATIONS[1:6]
BINS = 31  # magnitudes per operation, as in the paper


class TrivialAugment:
    """One operation of a random magnitude per image (Mueller & Hutter 2021, https://arxiv.org/abs/2103.10158).

    A processor takes out the images of each operation in turn. That needs their number, for which a GPU would have to
    be waited for: there every operation goes over the whole batch, and each image keeps the result of its own.
    """

    def __init__(self):
        self.steps: list[tuple[tuple[str, ...], Callable[[Tensor, Tensor], Tensor]]] = [
            (GEOMETRIC, move),
            (("Brightness",), functools.partial(blend, black)),
            (("Color",), functools.partial(blend, gray)),
            (("Contrast",), functools.partial(blend, mean_gray)),
            (("Sharpness",), functools.partial(blend, smooth)),
            (("Posterize",), posterize),
            (("Solarize",), solarize),
            (("AutoContrast",), auto_contrast),
            (("Equalize",), equalize),
        ]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """int64 (count, 3): operation in [0, 14), magnitude in [0, 31), sign in {0, 1}, 1 for negative. Magnitude and
        sign mean nothing to some operations."""
        sizes = (len(OPERATIONS), BINS, 2)
        return torch.stack([torch.randint(size, (count,), generator=generator) for size in sizes], dim=1)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Images float32 (B, 3, H, W) in [0, 1] at 8-bit precision, with their draws (B, 3) -> the same, channels_last
        in memory."""
        augment = self._by_operation if images.device.type == "cpu" else self.all_at_once
        pixels = images.permute(0, 2, 3, 1).contiguous()  # (B, H, W, 3)
        return augment(pixels, draws).permute(0, 3, 1, 2)

    def _by_operation(self, pixels: Tensor, draws: Tensor) -> Tensor:
        out = pixels.clone()
        for names, change in self.steps:
            rows = has_operation(draws, names).nonzero().squeeze(1)
            out[rows] = change(to_levels(pixels[rows]), draws[rows]).div_(255)
        return out

    def all_at_once(self, pixels: Tensor, draws: Tensor) -> Tensor:
        levels = out = to_levels(pixels)
        for names, change in self.steps:
            out = torch.where(has_operation(draws, names).view(-1, 1, 1, 1), change(levels, draws), out)
        return out / 255


def to_levels(pixels: Tensor) -> Tensor:
    """Parts of 1 at 8-bit precision -> whole numbers in [0, 255], still float32."""
    return pixels.mul(255).round_()


def has_operation(draws: Tensor, names: tuple[str, ...]) -> Tensor:
    """bool (B,): whose operation is one of `names`, which are consecutive in OPERATIONS."""
    first = OPERATIONS.index(names[0])
    return (draws[:, 0] >= first) & (draws[:, 0] < first + len(names))


# From here on: levels (n, H, W, 3) in [0, 255] with their draws (n, 3) -> levels of the same shape, a new tensor.


def move(levels: Tensor, draws: Tensor) -> Tensor:
    """Shear, translate and rotate: every pixel is the one at its source, or black."""
    count, height, width, _ = levels.shape
    operation, magnitude, sign = draws.unbind(1)
    table = sources(height, width, levels.device)
    # Where all operations go over all images, the ones that do not move get whatever pixels.
    operation = (operation - OPERATIONS.index(GEOMETRIC[0])).clamp(0, len(GEOMETRIC) - 1)
    source = table.index_select(0, (operation * BINS + magnitude) * 2 + sign)  # (n, H * W)
    start = torch.arange(count, device=levels.device).unsqueeze(1) * (height * width)
    moved = levels.view(-1, 3).index_select(0, (start + source.clamp(min=0)).view(-1))
    return moved.mul_((source >= 0).view(-1, 1)).view(levels.shape)


@functools.cache
def sources(height: int, width: int, device: torch.device) -> Tensor:
    """int64 (5 * 31 * 2, H * W): for each operation of GEOMETRIC, magnitude and sign, the position of the pixel that
    comes to each place, -1 where there is none.

    torchvision itself moves an image of the positions, so that ties of its rounding (the diagonal of a rotation by 45
    degrees) fall as in torchvision on a CPU, whatever the device.
    """
    from torchvision.transforms import functional as vision  # not at the top: it is rarely needed

    def shear(image: Tensor, slopes: list[float]) -> Tensor:
        angles = [math.degrees(math.atan(slope)) for slope in slopes]
        return vision.affine(image, angle=0.0, translate=[0, 0], scale=1.0, shear=angles, center=[0, 0])

    def translate(image: Tensor, offset: list[int]) -> Tensor:
        return vision.affine(image, angle=0.0, translate=offset, scale=1.0, shear=[0.0, 0.0])

    operations = (
        (0.99, lambda image, value: shear(image, [value, 0.0])),
        (0.99, lambda image, value: shear(image, [0.0, value])),
        (32.0, lambda image, value: translate(image, [int(value), 0])),
        (32.0, lambda image, value: translate(image, [0, int(value)])),
        (135.0, lambda image, value: vision.rotate(image, value)),
    )
    positions = torch.arange(1.0, height * width + 1).view(1, height, width)  # 0 is left to the pixels without source
    moved = [
        operation(positions, sign * value)
        for largest, operation in operations
        for value in torch.linspace(0, largest, BINS).tolist()
        for sign in (1, -1)
    ]
    return torch.cat(moved).view(len(moved), -1).long().sub_(1).to(device)


def blend(other: Callable[[Tensor], Tensor], levels: Tensor, draws: Tensor) -> Tensor:
    """Between the image and an `other` one without brightness, color, contrast or sharpness, or beyond the image."""
    own, rest = blend_shares(levels.device)[:, draws[:, 1], draws[:, 2]].view(2, -1, 1, 1, 1)
    return (own * levels).add_(rest * other(levels)).clamp_(0, 255).trunc_()


@functools.cache
def blend_shares(device: torch.device) -> Tensor:
    """float32 (2, 31, 2): 1 +- magnitude, the share of the image, and 1 minus that, the share of the other one.

    Both are rounded only in the end, like the Python numbers that torchvision calculates them from.
    """
    magnitude = torch.linspace(0, 0.99, BINS).double()
    own = 1 + torch.stack([magnitude, -magnitude], dim=1)
    return torch.stack([own, 1 - own]).float().to(device)


def black(levels: Tensor) -> Tensor:
    return torch.zeros_like(levels)


def gray(levels: Tensor) -> Tensor:
    """(n, H, W, 1)"""
    red, green, blue = levels.split(1, dim=3)
    return (0.2989 * red).add_(0.587 * green).add_(0.114 * blue).trunc_()


def mean_gray(levels: Tensor) -> Tensor:
    """(n, 1, 1, 1)"""
    return gray(levels).mean((1, 2, 3), keepdim=True)


def smooth(levels: Tensor) -> Tensor:
    """The mean of 3 x 3 pixels, the middle one counted five times; the border as it is.

    Sums of whole numbers rather than a convolution, whose factors of 1/13 a GPU may round to TF32.
    """
    inside = levels[:, 1:-1, 1:-1]
    lines = levels[:, :-2] + levels[:, 1:-1] + levels[:, 2:]
    squares = lines[:, :, :-2] + lines[:, :, 1:-1] + lines[:, :, 2:]
    out = levels.clone()
    out[:, 1:-1, 1:-1] = squares.add_(4 * inside).div_(13).round_()
    return out


def posterize(levels: Tensor, draws: Tensor) -> Tensor:
    """Keeps the upper 8 to 2 bits."""
    bits_dropped = (draws[:, 1] / ((BINS - 1) / 6)).round().long()
    step = (2**bits_dropped).view(-1, 1, 1, 1)
    return (levels / step).floor_().mul_(step)


def solarize(levels: Tensor, draws: Tensor) -> Tensor:
    """Inverts what is as bright as a threshold of 255 to 0."""
    threshold = (255 - 255 / (BINS - 1) * draws[:, 1]).view(-1, 1, 1, 1)
    return torch.where(levels >= threshold, 255 - levels, levels)


def auto_contrast(levels: Tensor, draws: Tensor) -> Tensor:
    """Stretches each channel over [0, 255], except where it is all of one level."""
    darkest, brightest = levels.amin((1, 2), keepdim=True), levels.amax((1, 2), keepdim=True)
    flat = darkest == brightest
    scale = torch.where(flat, 1, 255 / (brightest - darkest))
    return (levels - torch.where(flat, 0, darkest)).mul_(scale).clamp_(0, 255).trunc_()


def equalize(levels: Tensor, draws: Tensor) -> Tensor:
    """Makes each channel's levels about equally frequent."""
    from torchvision.transforms.v2 import functional as vision  # not at the top: it is rarely needed

    return vision.equalize_image(levels.permute(0, 3, 1, 2).byte()).permute(0, 2, 3, 1).contiguous().float()
