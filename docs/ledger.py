"""Writes the tables of README.md and of docs/ from the files that runs wrote: `python -m docs.ledger`.

A run enters the ledger as docs/runs/NAME/ with its artifact's metrics.json and history.csv; the bundled model is read
where it lies. Only the course report's and the paper's own numbers are typed here, because they come from print.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.tables import filled

DOCS = Path(__file__).resolve().parent
PROJECT = DOCS.parent
BUNDLED = PROJECT / "assets" / "resnet32-cifar10"
BEGIN = "<!-- written by docs/ledger.py -->"

PRINTED = """\
| course report (as stated there) | 87.16% | 86.77% | | 50 | | | |
| He et al. 2015, table 6 (as stated there) | | 92.49% | | 64,000 steps | | | |
"""


def runs() -> dict[str, dict[str, Any]]:
    """Name -> metrics.json, the bundled model first."""
    folders = {"bundled model": BUNDLED} | {f.name: f for f in sorted((DOCS / "runs").glob("*")) if f.is_dir()}
    return {name: json.loads((folder / "metrics.json").read_text()) for name, folder in folders.items()}


def header(*names: str) -> str:
    return f"| {' | '.join(names)} |\n{'|---' * len(names)}|\n"


def results_table() -> str:
    rows = "".join(row(name, metrics) for name, metrics in runs().items())
    columns = ("run", "val", "test", "test, 95% interval", "epochs (best)", "minutes", "images/s", "device")
    return header(*columns) + rows + PRINTED


def row(name: str, metrics: dict[str, Any]) -> str:
    training, (low, high) = metrics["training"], metrics["test"]["accuracy_interval"]
    epochs = f"{training['epochs']} ({training['best_epoch']})"
    planned = training["hyperparameters"]["max_epochs"]
    if planned != training["epochs"]:
        epochs += f", stopped early of {planned}"
    return (
        f"| {name}: recipe `{training['recipe']}`, seed {training['seed']} | {metrics['val']['accuracy']:.2%} "
        f"| {metrics['test']['accuracy']:.2%} | {low:.2%} to {high:.2%} | {epochs} "
        f"| {training['wall_seconds'] / 60:.0f} | {training['images_per_second']:,.0f} | {training['device']} |\n"
    )


def expectations_table() -> str:
    columns = header("recipe", "machine", "epochs", "images/s", "minutes", "test accuracy")
    return columns + "".join(
        f"| `{training['recipe']}` | {training['device']} | {training['epochs']} "
        f"| {training['images_per_second']:,.0f} | {training['wall_seconds'] / 60:.0f} | {accuracy:.2%} |\n"
        for training, accuracy in ((m["training"], m["test"]["accuracy"]) for m in runs().values())
    )


def details_table() -> str:
    calibration, flip = "calibration error, before and after", "test with the mirror image"
    rows = "".join(details_row(name, metrics) for name, metrics in runs().items())
    return header("run", "precision", "PyTorch", "commit", calibration, flip) + rows


def details_row(name: str, metrics: dict[str, Any]) -> str:
    training, calibration, flip = metrics["training"], metrics["test"]["calibration"], metrics["test"]["flip_tta"]
    return (
        f"| {name} | {training['precision']} | {training['versions']['torch']} "
        f"| {(training['git_commit'] or 'unknown')[:12]} "
        f"| {calibration['ece_before']:.4f}, {calibration['ece_after']:.4f} | {flip['accuracy']:.2%} |\n"
    )


def pages() -> dict[Path, str]:
    """Each page that holds tables, with the text it should have."""
    readme, results, training = PROJECT / "README.md", DOCS / "results.md", DOCS / "training.md"
    return {
        readme: filled(readme.read_text(), results_table(), begin=BEGIN),
        results: filled(results.read_text(), results_table(), details_table(), begin=BEGIN),
        training: filled(training.read_text(), expectations_table(), begin=BEGIN),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
        print(path.relative_to(PROJECT))
