"""The CIFAR ResNet of He et al. 2015 (https://arxiv.org/abs/1512.03385), section 4.2."""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import artifact, hub
from model.architecture import WIDTHS, Architecture
from model.artifact import Artifact, ArtifactError
from model.cifar10 import MEAN, STD
from model.weights import read_weights


class PaddedShortcut(nn.Module):
    """Option A of the paper: every second pixel, new channels filled with zeros. No weights.

    (N, C_in, H, W) -> (N, C_out, H/2, W/2)
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.new_channels))


def projection_shortcut(in_channels: int, out_channels: int) -> nn.Sequential:
    """Option B of the paper: a strided 1x1 convolution. (N, C_in, H, W) -> (N, C_out, H/2, W/2)"""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False),
        nn.BatchNorm2d(out_channels),
    )


SHORTCUTS = {"A": PaddedShortcut, "B": projection_shortcut}


class Block(nn.Module):
    """conv-BN-ReLU-conv-BN, plus the shortcut, then ReLU.

    The first block of a stage that widens halves the feature map (stride 2) and needs a shortcut of its own.
    """

    def __init__(self, in_channels: int, out_channels: int, shortcut: Literal["A", "B"]):
        super().__init__()
        widens = in_channels != out_channels
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=2 if widens else 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = SHORTCUTS[shortcut](in_channels, out_channels) if widens else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


def stage(in_channels: int, out_channels: int, blocks: int, shortcut: Literal["A", "B"]) -> nn.Sequential:
    """`blocks` residual blocks; the first one takes `in_channels` to `out_channels`."""
    widths = [in_channels] + [out_channels] * (blocks - 1)
    return nn.Sequential(*(Block(width, out_channels, shortcut) for width in widths))


class ResNet(nn.Module):
    """RGB float (N, 3, S, S) in [0, 1] -> logits (N, num_classes); S is 32 for CIFAR-10.

    depth         6n+2: three stages of n blocks with 16, 32, 64 channels on SxS, S/2xS/2, S/4xS/4 feature maps
    stem_kernel   3 as in the paper, or 1
    shortcut      "A": zero-padded, 464,154 parameters at depth 32; "B": 1x1 convolution, 466,906
    mean, std     per channel, of pixels in [0, 1]. The network normalizes its input itself, so that no caller can
                  forget it; both are buffers, saved with the weights.

    Raises ValueError for an architecture that does not exist.
    """

    def __init__(
        self,
        depth: int = 32,
        stem_kernel: Literal[1, 3] = 3,
        shortcut: Literal["A", "B"] = "A",
        num_classes: int = 10,
        mean: tuple[float, float, float] = MEAN,
        std: tuple[float, float, float] = STD,
    ):
        super().__init__()
        self.architecture = Architecture(
            depth=depth, stem_kernel=stem_kernel, shortcut=shortcut, num_classes=num_classes
        )
        first, second, third = WIDTHS
        blocks = self.architecture.blocks_per_stage
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))
        self.conv = nn.Conv2d(3, first, stem_kernel, padding=stem_kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(first)
        self.stage1 = stage(first, first, blocks, shortcut)
        self.stage2 = stage(first, second, blocks, shortcut)
        self.stage3 = stage(second, third, blocks, shortcut)
        self.fc = nn.Linear(third, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # He et al. 2015, arXiv 1502.01852

    def features(self, images: Tensor) -> Tensor:
        """The last feature maps: (N, 3, S, S) -> (N, 64, S/4, S/4)."""
        x = (images - self.mean) / self.std
        x = F.relu(self.bn(self.conv(x)))
        return self.stage3(self.stage2(self.stage1(x)))

    def classify(self, features: Tensor) -> Tensor:
        """Global average pooling and the linear layer: (N, 64, S/4, S/4) -> logits (N, num_classes)."""
        return self.fc(features.mean((2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images))

    @classmethod
    def from_pretrained(cls, folder_or_repo: str | Path, revision: str | None = None) -> "ResNet":
        """The network of an artifact folder, or of a repository "user/repo" of the Hub at a branch, tag or commit, in
        eval mode.

        Strict: a missing, unexpected or misshapen tensor, one of another type or one that is not finite raises
        ArtifactError, as do weights that do not give the logits that config.json expects, and anything else that is
        wrong with the folder. Raises HubError where a repository cannot be had.
        """
        found, source = hub.find(folder_or_repo, revision, files=(artifact.WEIGHTS,))
        try:
            return network_of(found)
        except ArtifactError as error:
            raise hub.refusal(error, source) from None


def network_of(found: Artifact) -> ResNet:
    """`ResNet.from_pretrained` of an artifact that was read before, its weights with it. Raises ArtifactError."""
    path, config = found.folder / artifact.WEIGHTS, found.config
    network = ResNet(config.depth, config.stem_kernel, config.shortcut, config.num_classes)
    weights = {name: torch.tensor(tensor) for name, tensor in read_weights(path, config).items()}
    network.load_state_dict(weights, strict=True)
    network.eval()
    with torch.inference_mode():
        logits = network(torch.from_numpy(artifact.probe_image(config.image_size))).numpy()
    artifact.check_answer(path, config, logits)
    return network
