"""How well does `python -m trainer --images` learn from few images, and how much does a trained network to begin with
help? Everything is PNG files in class folders:

digits    scikit-learn's 1,797 handwritten digits of 8x8 pixels, as they are and with the usual mirroring
photos    200 CIFAR-10 images of each class to learn from, 200 others for test. From random weights, and from the
          bundled network. That learned from other images, but of the SAME classes: an upper bound of what it can help
others    the same with the last five classes alone. From random weights, and from a network that is trained here on
          the first five classes, so it has seen neither these images nor these classes

    python -m benchmarks.own_images --output benchmarks/results/own-images-NAME.json

Photos and others are among the 5,000 validation images of the official split, from which no network here or bundled
learned; the bundled one's best epoch was chosen by them. The official test images are not read. Takes one to two
hours on two cores; with --resume what was interrupted goes on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks import machine, tables
from model import artifact, cifar10
from trainer.__main__ import call
from trainer.data import split_train_val

PARSER = machine.parser(__doc__)
PARSER.add_argument("--work-dir", type=Path, default=Path("runs/own-images"), help="for images and runs [%(default)s]")
PARSER.add_argument("--resume", action="store_true", help="go on with what the work folder holds")
PARSER.add_argument("--data-dir", type=Path, help="of CIFAR-10, as for the trainer")
PARSER.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each kind [%(default)s]")
PARSER.add_argument("--images", type=int, default=200, metavar="N", help="photos of each class [%(default)s]")
PARSER.add_argument("--max-epochs", metavar="N", help="fewer epochs, for a trial")

SOURCE = "source"
"""The folder of the first five classes' training images, and the network that is trained on it."""


@dataclass(frozen=True)
class Variant:
    """A folder of images, and the trainer's flags; `once`: with one seed."""

    images: str
    flags: str
    once: bool = False


VARIANTS = (
    Variant("photos", ""),
    Variant("photos", "--initial-weights assets/resnet32-cifar10"),
    Variant("others", ""),
    Variant("others", f"--initial-weights {SOURCE}"),
    Variant("digits", "--flip none"),
    Variant("photos", "--image-size 64", once=True),
    Variant("photos", "--image-size 64 --initial-weights assets/resnet32-cifar10", once=True),
    Variant("digits", "--flip random", once=True),
)


def write_images(folder: Path, images: np.ndarray, names: Sequence[str]) -> None:
    """FOLDER/NAME/0000.png, ... of uint8 images and the class of each."""
    for i, (image, name) in enumerate(zip(images, names, strict=True)):
        path = folder / name / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def write_digits(folder: Path) -> None:
    """Gray values from 0 to 16 become 0 to 255."""
    digits = load_digits()
    write_images(folder, (digits.images * 255 / 16).round().astype(np.uint8), [str(label) for label in digits.target])


def write_photos(work_dir: Path, data_dir: Path, count: int) -> None:
    """`count` validation images of each class in photos/train, as many others in photos/test; those of the last five
    classes in others/, too. The training images of the first five classes in source/."""
    images, labels = cifar10.read_train(data_dir)
    split = split_train_val(labels)
    names = np.array(cifar10.CLASS_NAMES)[labels]
    for label, name in enumerate(cifar10.CLASS_NAMES):
        members = split.val[labels[split.val] == label]
        for part, chosen in (("train", members[:count]), ("test", members[count : 2 * count])):
            for folder in ("photos", "others") if label >= 5 else ("photos",):
                write_images(work_dir / folder / part, images[chosen], [name] * len(chosen))
    chosen = split.train[labels[split.train] < 5]
    write_images(work_dir / SOURCE, images[chosen], names[chosen])


def rounds(seeds: int) -> Iterator[tuple[int, Variant]]:
    """Seed by seed, so that an interrupted benchmark has something of everything; what takes longest at the end."""
    yield from ((seed, variant) for seed in range(seeds) for variant in VARIANTS if not variant.once)
    yield from ((0, variant) for variant in VARIANTS if variant.once)


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    work_dir, more = args.work_dir, ["--resume"] * args.resume
    epochs = ["--max-epochs", args.max_epochs] if args.max_epochs else []
    network = work_dir / "runs" / SOURCE
    result = machine.describe("own_images", {"photos_per_class": args.images}, "scikit-learn")
    result |= {"rounds": args.seeds, "variants": [vars(variant) | {"runs": []} for variant in VARIANTS]}
    write_digits(work_dir / "digits")
    write_photos(work_dir, cifar10.data_dir(args.data_dir), args.images)
    call(["--images", str(work_dir / SOURCE), "--output-dir", str(network), *(epochs or ["--max-epochs", "10"]), *more])
    for seed, variant in rounds(args.seeds):
        run_dir = network.with_name(f"{VARIANTS.index(variant)}-{variant.images}-seed{seed}")
        flags = [str(network / "artifact") if flag == SOURCE else flag for flag in variant.flags.split()]
        flags += ["--images", str(work_dir / variant.images), "--seed", str(seed), *epochs, *more]
        call([*flags, "--output-dir", str(run_dir)])
        metrics = artifact.read(run_dir / "artifact").metrics
        found = {name: getattr(metrics.test, name) for name in ("n", "correct", "accuracy", "accuracy_interval")}
        found |= {name: getattr(metrics.training, name) for name in ("epochs", "wall_seconds", "precision")}
        result["variants"][VARIANTS.index(variant)]["runs"].append({"seed": seed} | found)
        machine.write(result, args)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    main()
