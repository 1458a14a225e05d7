"""How many images that show none of the classes fall below the threshold of `Classifier.is_in_distribution`.

    python -m benchmarks.threshold --data-dir DATA --output benchmarks/results/threshold-NAME.json

Three scores of an image are compared: its highest probability (calibrated), its highest logit, and logsumexp of its
logits, each with the threshold that trainer.evaluate.fit_threshold finds for it on the val images. The images are drawn
from a seed, or are val images whose blocks are in random order. The test images are not read.
"""

import string
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks import machine, tables
from model import Classifier, cifar10
from model.artifact import WEIGHTS
from model.hub import BUNDLED
from trainer.data import split_train_val
from trainer.evaluate import fit_threshold

SIDE = 224
"""Pixels of a drawn image, each way: what many image collections use, and far above the network's 32."""

Random = np.random.Generator

PARSER = machine.parser(__doc__)
PARSER.add_argument("--data-dir", type=Path, help="has CIFAR-10 (default: $CIFAR10_DIR, else ./data)")
PARSER.add_argument("--artifact", type=Path, default=BUNDLED, help="artifact folder")
PARSER.add_argument("--images", type=int, default=200, help="of each kind (default: %(default)s)")
PARSER.add_argument("--seed", type=int, default=0, help="of the images")


def color(random: Random, low: int = 0, high: int = 255) -> tuple[int, int, int]:
    return tuple(random.integers(low, high + 1, 3).tolist())


def points(random: Random, count: int) -> list[tuple[float, float]]:
    return [tuple(point) for point in random.uniform(0, SIDE, (count, 2))]


def between(low: float, high: float, random: Random) -> float:
    """As likely to be from 4 to 8 as from 8 to 16."""
    return np.exp(random.uniform(np.log(low), np.log(high)))


def box(random: Random) -> tuple[float, ...]:
    """Left, top, right, bottom."""
    return tuple(np.sort(random.uniform(0, SIDE, (2, 2)), axis=0).ravel())


def canvas(fill: str | tuple[int, int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (SIDE, SIDE), fill)
    return image, ImageDraw.Draw(image)


def noise(random: Random, side: int = SIDE) -> Image.Image:
    return Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8))


def smooth_noise(random: Random) -> Image.Image:
    """Two to eight random colors each way, and all between them."""
    return noise(random, int(random.integers(2, 9))).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def slope(random: Random) -> np.ndarray:
    """float64 (SIDE, SIDE): a plane that rises by 1 per pixel in a random direction."""
    angle, (y, x) = random.uniform(0, 2 * np.pi), np.mgrid[:SIDE, :SIDE]
    return x * np.cos(angle) + y * np.sin(angle)


def mixed(share: np.ndarray, random: Random) -> Image.Image:
    """Two random colors; `share` (SIDE, SIDE) in [0, 1] of the second one."""
    first, second = np.array(color(random)), np.array(color(random))
    return Image.fromarray((first + share[..., None] * (second - first)).round().astype(np.uint8))


def gradient(random: Random) -> Image.Image:
    plane = slope(random)
    return mixed((plane - plane.min()) / np.ptp(plane), random)


def stripes(random: Random) -> Image.Image:
    return mixed(slope(random) // between(4, 64, random) % 2, random)


def checkers(random: Random) -> Image.Image:
    return mixed(sum(np.mgrid[:SIDE, :SIDE] // between(4, 64, random)) % 2, random)


def text(random: Random) -> Image.Image:
    """Lines of dark letters in Pillow's own font, all over a light image."""
    (image, pen), size = canvas(color(random, low=160)), between(10, 48, random)
    font, ink = ImageFont.load_default(size), color(random, high=95)
    for top in np.arange(size / 2, SIDE - size, 1.4 * size):
        pen.text((size / 2, top), "".join(random.choice([*string.ascii_letters, *" " * 8], 60)), ink, font)
    return image


def bar_chart(random: Random) -> Image.Image:
    """Bars of one color over an axis, on white."""
    (image, pen), left, bottom = canvas("white"), 24, SIDE - 24
    bars, fill = int(random.integers(3, 10)), color(random)
    step = (SIDE - 2 * left) / bars
    for bar, height in enumerate(random.uniform(8, bottom - 16, bars)):
        pen.rectangle((left + (bar + 0.2) * step, bottom - height, left + (bar + 0.8) * step, bottom), fill)
    pen.line([(left, 16), (left, bottom), (SIDE - 16, bottom)], "black", 2)
    return image


def line_drawing(random: Random) -> Image.Image:
    """Black strokes on white: broken lines and ellipses."""
    (image, pen), width = canvas("white"), int(random.integers(2, 9))
    for _ in range(random.integers(2, 7)):
        pen.line(points(random, int(random.integers(2, 6))), "black", width, joint="curve")
        pen.ellipse(box(random), outline="black", width=width)
    return image


def shapes(random: Random) -> Image.Image:
    """Filled rectangles, ellipses and triangles over each other."""
    image, pen = canvas(color(random))
    for _ in range(random.integers(1, 5)):
        pen.rectangle(box(random), color(random))
        pen.ellipse(box(random), color(random))
        pen.polygon(points(random, 3), color(random))
    return image


def shuffled(image: np.ndarray, side: int, random: Random) -> Image.Image:
    """uint8 (32, 32, 3) with its blocks of `side` x `side` pixels in random order."""
    n = len(image) // side
    blocks = image.reshape(n, side, n, side, 3).swapaxes(1, 2).reshape(n * n, side, side, 3)
    blocks = random.permutation(blocks).reshape(n, n, side, side, 3)
    return Image.fromarray(blocks.swapaxes(1, 2).reshape(image.shape))


DRAWN = {
    "uniform noise, 32x32": lambda random: noise(random, cifar10.IMAGE_SIZE),
    "uniform noise, 224x224": noise,
    "smooth noise": smooth_noise,
    "solid colors": lambda random: canvas(color(random))[0],
    "gradients": gradient,
    "stripes": stripes,
    "checkers": checkers,
    "text": text,
    "bar charts": bar_chart,
    "line drawings": line_drawing,
    "filled shapes": shapes,
}
BLOCKS = {"val in shuffled 8x8 blocks": 8, "val in shuffled 4x4 blocks": 4}
KINDS = (*DRAWN, *BLOCKS)


def images_of(kind: str, count: int, seed: int, val: np.ndarray) -> list[Image.Image]:
    """`count` of the `kind`, no matter what other kinds there are; `val` uint8 (N, 32, 32, 3), N >= count."""
    random = np.random.default_rng([seed, *kind.encode()])
    if kind in DRAWN:
        return [DRAWN[kind](random) for _ in range(count)]
    chosen = random.choice(len(val), count, replace=False)
    return [shuffled(image, BLOCKS[kind], random) for image in val[chosen]]


def scores(classifier: Classifier, images: Any) -> dict[str, np.ndarray]:
    """Score -> (N, columns): an image's score is the highest of its columns."""
    logits = classifier.logits(images)
    return {
        "highest probability": classifier.calibrated(logits),
        "highest logit": logits,
        "logsumexp of logits": np.logaddexp.reduce(logits.astype(np.float64), 1, keepdims=True),
    }


def measure(classifier: Classifier, val: np.ndarray, count: int, seed: int) -> dict[str, Any]:
    """The thresholds that `val` gives, and the share below them: of val, of every kind, and the mean of the kinds."""
    of_val = scores(classifier, val)
    thresholds = {score: fit_threshold(columns) for score, columns in of_val.items()}

    def below(found: dict[str, np.ndarray]) -> dict[str, float]:
        return {score: float((found[score].max(1) < limit).mean()) for score, limit in thresholds.items()}

    kinds = {kind: below(scores(classifier, images_of(kind, count, seed, val))) for kind in KINDS}
    mean = {score: float(np.mean([shares[score] for shares in kinds.values()])) for score in thresholds}
    return {"thresholds": thresholds, "val_below": below(of_val), "below": kinds, "mean_below": mean}


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    classifier = Classifier.load(args.artifact)
    images, labels = cifar10.read_train(cifar10.data_dir(args.data_dir))
    split = split_train_val(labels)
    if classifier.metrics.training.split.val_sha256 != split.val_sha256():
        sys.exit("the artifact's metrics.json was computed on other val images than the split gives here")
    settings = {"images_of_a_kind": args.images, "seed": args.seed, "val_images": len(split.val)}
    result = machine.describe("threshold", settings, "onnxruntime") | {"rounds": 1}
    result["model_sha256"] = classifier.config.sha256[WEIGHTS]
    result |= measure(classifier, images[split.val], args.images, args.seed)
    machine.write(result, args)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    main()
