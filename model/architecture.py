"""The CIFAR ResNets of He et al. 2015 (https://arxiv.org/abs/1512.03385), section 4.2, as data: which depths exist, and
the name and shape of every tensor. The network in torch (`model.resnet`), the ONNX graph (`model.onnx_graph`), the
reader of the weights (`model.weights`) and config.json (`model.artifact`) follow it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

WIDTHS = (16, 32, 64)
"""Channels of the three stages. The first keeps the image's height and width, each later one halves them."""

MAX_DEPTH = 1202
"""The deepest network of the paper: 19.4 million parameters."""

DEPTHS = f"6n+2: 8, 14, 20, 26, 32, 44, 56, 110, ..., {MAX_DEPTH}"
"""The depths that exist, in words."""

MAP_STRIDE = 4
"""Pixels of the image per element of the last feature maps, along each side."""


def is_depth(depth: int) -> bool:
    """Whether a network has this many layers with weights: a stem, three stages of n blocks of two, a linear layer."""
    return 8 <= depth <= MAX_DEPTH and (depth - 2) % 6 == 0


@dataclass(frozen=True)
class Block:
    """One residual block; `name` is the prefix of its tensors, such as "stage1.0"."""

    name: str
    in_channels: int
    out_channels: int

    @property
    def widens(self) -> bool:
        """Such a block halves height and width (stride 2), and its shortcut is no identity."""
        return self.in_channels != self.out_channels


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What determines the network but for its weights; the arguments of `model.resnet.ResNet`.

    depth         6n+2
    stem_kernel   3 as in the paper, or 1
    shortcut      "A": zero-padded; "B": 1x1 convolution

    Raises ValueError for an architecture that does not exist.
    """

    depth: int
    stem_kernel: Literal[1, 3]
    shortcut: Literal["A", "B"]
    num_classes: int

    def __post_init__(self) -> None:
        if not is_depth(self.depth):
            raise ValueError(f"depth is {self.depth}; it must be {DEPTHS}")
        if self.stem_kernel not in (1, 3):
            raise ValueError(f"stem_kernel is {self.stem_kernel}; it must be 1 or 3")
        if self.shortcut not in ("A", "B"):
            raise ValueError(f"shortcut is {self.shortcut!r}; it must be 'A' (zero-padded) or 'B' (1x1 convolution)")

    @property
    def blocks_per_stage(self) -> int:
        return (self.depth - 2) // 6

    def blocks(self) -> Iterator[Block]:
        """The residual blocks, in the order of computation."""
        in_channels = WIDTHS[0]
        for stage, width in enumerate(WIDTHS, 1):
            for index in range(self.blocks_per_stage):
                yield Block(f"stage{stage}.{index}", in_channels, width)
                in_channels = width

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the trained tensors: convolutions (out, in, height, width), scales and offsets of the batch
        normalizations, the linear layer."""
        shapes = {"conv.weight": (WIDTHS[0], 3, self.stem_kernel, self.stem_kernel)} | _normalization("bn", WIDTHS[0])
        for block in self.blocks():
            width = block.out_channels
            shapes[f"{block.name}.conv1.weight"] = (width, block.in_channels, 3, 3)
            shapes |= _normalization(f"{block.name}.bn1", width)
            shapes[f"{block.name}.conv2.weight"] = (width, width, 3, 3)
            shapes |= _normalization(f"{block.name}.bn2", width)
            if block.widens and self.shortcut == "B":
                shapes[f"{block.name}.shortcut.0.weight"] = (width, block.in_channels, 1, 1)
                shapes |= _normalization(f"{block.name}.shortcut.1", width)
        return shapes | {"fc.weight": (self.num_classes, WIDTHS[-1]), "fc.bias": (self.num_classes,)}

    def tensors(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Name -> shape and dtype of all that is saved: the trained tensors; mean and standard deviation of the input's
        channels; the statistics of the batch normalizations."""
        shapes = {"mean": (1, 3, 1, 1), "std": (1, 3, 1, 1)} | self.shapes()
        tensors = {name: (shape, "float32") for name, shape in shapes.items()}
        for name, shape in shapes.items():
            if name.endswith(".bias") and name != "fc.bias":
                prefix = name.removesuffix("bias")
                tensors |= {f"{prefix}{statistic}": (shape, "float32") for statistic in ("running_mean", "running_var")}
                tensors[f"{prefix}num_batches_tracked"] = ((), "int64")
        return tensors

    @property
    def parameters(self) -> int:
        """How many trained numbers the network has: 464,154 at depth 32 with shortcut A."""
        return sum(map(math.prod, self.shapes().values()))


def _normalization(prefix: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (channels,), f"{prefix}.bias": (channels,)}
