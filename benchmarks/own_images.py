"""How well does `python -m trainer --images` learn from few images? On scikit-learn's 1,797 handwritten digits, 8x8
pixels, as PNG files in ten folders; once with `--flip none`, which suits digits, and once with the usual flip:

    python -m benchmarks.own_images --output benchmarks/results/own-images-NAME.json
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks import machine, tables
from model import artifact
from trainer.__main__ import call

PARSER = machine.parser(__doc__)
PARSER.add_argument("--max-epochs", metavar="N", help="fewer epochs than the trainer chooses, for a trial")


def write_digits(folder: Path) -> Path:
    """FOLDER/0/0000.png, ...; gray values from 0 to 16 become 0 to 255."""
    digits = load_digits()
    for i, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(label) / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).round().astype(np.uint8)).save(path)
    return folder


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    result = machine.describe("own_images", {"images": 1797, "image_size": 32}, "scikit-learn")
    result |= {"rounds": 1, "variants": []}
    with tempfile.TemporaryDirectory() as place:
        digits = write_digits(Path(place) / "digits")
        for flip in ("none", "random"):
            run_dir, began = Path(place) / flip, time.perf_counter()
            more = ["--max-epochs", args.max_epochs] if args.max_epochs else []
            call(["--images", str(digits), "--flip", flip, "--output-dir", str(run_dir), *more])
            seconds, metrics = time.perf_counter() - began, artifact.read(run_dir / "artifact").metrics
            found = {name: getattr(metrics.test, name) for name in ("n", "correct", "accuracy", "accuracy_interval")}
            found |= {"epochs": metrics.training.epochs, "precision": metrics.training.precision}
            result["variants"].append({"flip": flip, "seconds": round(seconds, 1)} | found)
            machine.write(result, args)
    result["correct_ratio"] = result["variants"][0]["correct"] / result["variants"][1]["correct"]
    machine.write(result, args)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    main()
