"""The best checkpoint of a run becomes an artifact folder: evaluated on val and, once, on test."""

import csv
import shutil
import tempfile
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from model import Classifier, artifact, cifar10, schema
from model.artifact import Artifact, ArtifactError, Config, Metrics, SplitScores, Training
from model.classifier import softmax
from model.hub import Source
from model.onnx_graph import build_graph
from model.predictions import COLUMNS
from model.resnet import ResNet
from trainer import report
from trainer.card import write_card
from trainer.checkpoints import BEST, FOLDER, DamagedCheckpoint, previous, read_checkpoint, selection
from trainer.config import TrainConfig, as_flag, changed, published
from trainer.data import TrainingData, load_data, steps_per_epoch
from trainer.evaluate import all_cores, evaluate, evaluate_flipped, fit_temperature, fit_threshold
from trainer.module import build_network
from trainer.pretrained import images_sha256
from trainer.run import RUN, RunError, check_same_split, config_of, note_no_test, read_run, wall_seconds

ONNX_TOLERANCE = 1e-4


def export(run_dir: Path, data_dir: Path, images: Path | None = None, samples: bool | None = None) -> Path:
    """Writes RUN_DIR/artifact from checkpoints/best.ckpt and returns it.

    The folder is built beside its place, read back as the app would, then swapped in: an older artifact stays whole
    until then. `images`: where the run's folder of images lies now. `samples`: whether dataset pixels go into the
    artifact, as sample images and event files; by default of CIFAR-10 alone. Raises RunError, DatasetError,
    ArtifactError.
    """
    run, settings, data = open_run(run_dir, data_dir, images)
    samples = settings.images is None if samples is None else samples
    network, best_epoch, best_step = load_best(run_dir, data)
    history = artifact.read_history(run_dir)
    folder = run_dir / "artifact.new"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()

    classifier = written(network, settings, data, folder)
    val_images, val_labels = data.images[data.split.val], data.labels[data.split.val]
    val_logits = classifier.logits(val_images)
    fitted = {"temperature": fit_temperature(val_logits, val_labels), "threshold": fit_threshold(val_logits)}
    config = replace(classifier.config, **fitted)
    note_no_test(run_dir, False)
    test_images, test_labels = data.read_test()  # not before everything is chosen
    test_logits = classifier.logits(test_images)

    metrics = Metrics(
        format_version=artifact.FORMAT_VERSION,
        val=scores(classifier, val_images, val_labels, val_logits, config.temperature, settings),
        test=scores(classifier, test_images, test_labels, test_logits, config.temperature, settings),
        training=describe_training(run, history, best_epoch, network, data, len(test_labels)),
    )
    shutil.copy(run_dir / artifact.HISTORY, folder)
    artifact.write_metrics(folder, metrics)
    test_probabilities = softmax(test_logits / config.temperature)
    write_predictions(test_probabilities, test_labels, folder / artifact.PREDICTIONS)
    report.write_figures(report.draw_figures(metrics, history, config.class_names), folder / artifact.FIGURES)
    if samples:
        report.write_samples(test_images, test_labels, test_probabilities, folder / artifact.SAMPLES)
    write_card(metrics, config, folder / artifact.CARD)
    events = folder / artifact.TENSORBOARD
    if samples:  # they hold val images, too
        shutil.copytree(run_dir / artifact.TENSORBOARD, events, ignore=shutil.ignore_patterns("hparams.yaml"))
    report.log_results(metrics.test, folder / artifact.FIGURES, best_step, events)
    for number, file in enumerate(sorted(events.glob("events.out.tfevents.*"))):  # the time stands first
        file.rename(file.with_name(f"events.out.tfevents.{number:03}"))  # without the name of this machine
    artifact.write_checksums(folder, config)
    check_parity(network, Classifier.load(folder), test_images[:256])
    return _swap_in(folder, run_dir / "artifact")


def evaluate_on_val(run_dir: Path, data_dir: Path) -> SplitScores:
    """The scores of the best checkpoint on val. Leaves the test set alone and writes nothing."""
    _, settings, data = open_run(run_dir, data_dir)
    with tempfile.TemporaryDirectory() as folder:
        classifier = written(load_best(run_dir, data)[0], settings, data, Path(folder))
    images, labels = data.images[data.split.val], data.labels[data.split.val]
    logits = classifier.logits(images)
    return scores(classifier, images, labels, logits, fit_temperature(logits, labels), settings)


def open_run(
    run_dir: Path, data_dir: Path, images: Path | None = None
) -> tuple[dict[str, Any], TrainConfig, TrainingData]:
    """run.json, and the settings and the data of the run; `images` as in `export`. Raises what that raises."""
    run = read_run(run_dir)
    settings = config_of(run_dir, run)
    if images is not None and settings.images is None:
        raise RunError(f"{run_dir} was trained on CIFAR-10: leave out --images")
    data = load_data(replace(settings, images=str(images)) if images else settings, data_dir, run_dir.parent)
    check_same_split(run_dir, run, data.split.sha256())
    return run, settings, data


def written(network: ResNet, settings: TrainConfig, data: TrainingData, folder: Path) -> Classifier:
    """The network in `folder`, for its evaluation."""
    config = write_network(network, data.class_names, folder, data.image_size, settings.fit)
    return Classifier(Artifact(folder, config, None), Source("folder", folder), all_cores())


def scores(
    classifier: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    logits: np.ndarray,
    temperature: float,
    settings: TrainConfig,
) -> SplitScores:
    """With the flipped view where a mirrored image shows the same."""
    flipped = evaluate_flipped(classifier, images, labels, logits) if settings.flip != "none" else None
    return evaluate(logits, labels, temperature, flipped)


def load_best(run_dir: Path, data: TrainingData) -> tuple[ResNet, int, int]:
    """The network of the epoch with the highest val accuracy on the CPU, in eval mode; that epoch, from 1; its last
    step, from 0. Raises RunError."""
    checkpoint, config = best_checkpoint(run_dir), config_of(run_dir, read_run(run_dir))
    network = build_network(config, len(data.class_names), data.mean, data.std)
    prefix = "average." if config.averages else "network."
    weights = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    network.load_state_dict(weights, strict=True)
    return network.eval(), checkpoint["epoch"] + 1, checkpoint["global_step"] - 1


def best_checkpoint(run_dir: Path) -> dict[str, Any]:
    """best.ckpt or the one before it: the one that is whole and of an epoch with history.csv's highest val accuracy.
    They differ where a run was interrupted between two saves. Raises RunError if neither is."""
    path = run_dir / FOLDER / BEST
    if not path.is_file() and not previous(path).is_file():
        raise RunError(f"{path} is missing: no epoch of this run was completed; train it with --resume")
    history = artifact.read_history(run_dir)
    best = max(history, key=selection)
    highest = {(row["epoch"], row["val_accuracy"]) for row in history if row["val_accuracy"] == best["val_accuracy"]}
    problems = []
    for candidate in filter(Path.is_file, (path, previous(path))):
        try:
            checkpoint = read_checkpoint(candidate)
        except DamagedCheckpoint as error:
            problems.append(f"{candidate} is damaged ({error})")
            continue
        epoch, found = checkpoint["epoch"] + 1, checkpoint["history"][-1]
        if (epoch, found["val_accuracy"]) in highest:
            return checkpoint
        problems.append(f"{candidate} is of epoch {epoch} with val accuracy {found['val_accuracy']:.2%}")
    raise RunError(
        f"{'; '.join(problems)}; but history.csv has its highest val accuracy, {best['val_accuracy']:.2%}, in epoch "
        f"{best['epoch']:.0f}: if the run was interrupted, continue it with --resume, else train again"
    )


def write_network(
    network: ResNet, class_names: tuple[str, ...], folder: Path, image_size: int = 32, fit: str = "crop"
) -> Config:
    """Writes model.safetensors, and model.onnx for other tools. The config lacks the digests and what is fitted on val:
    temperature is 1, there is no threshold."""
    weights = {name: tensor.contiguous().numpy() for name, tensor in network.state_dict().items()}
    save_file(weights, folder / artifact.WEIGHTS, metadata={"format": "pt"})
    (folder / artifact.WEIGHTS).chmod(0o644)  # safetensors writes 0600
    (folder / artifact.GRAPH).write_bytes(build_graph(network.architecture, weights, image_size))
    with torch.inference_mode():
        expected = network(torch.from_numpy(artifact.probe_image(image_size)))[0]
    return Config(
        **asdict(network.architecture),
        class_names=class_names,
        image_size=image_size,
        fit=fit,
        temperature=1.0,
        expected_logits=tuple(expected.tolist()),
        format_version=artifact.FORMAT_VERSION,
        sha256={},
    )


def check_parity(network: ResNet, classifier: Classifier, images: np.ndarray) -> None:
    """Raises ArtifactError unless torch and ONNX Runtime agree on uint8 images (N, S, S, 3) within 1e-4, more where
    logits are large (model.artifact.agrees)."""
    with torch.inference_mode():
        ours = network(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255).numpy()
    served = classifier.logits(images)
    if not artifact.agrees(served, ours, ONNX_TOLERANCE):
        difference = np.abs(ours - served).max()
        raise ArtifactError(f"ONNX Runtime and PyTorch differ by {difference:.3g} in a logit: not exported")


def describe_training(
    run: dict[str, Any],
    history: list[dict[str, float]],
    best_epoch: int,
    network: ResNet,
    data: TrainingData,
    test_images: int,
) -> Training:
    """metrics.json's `training` section, from what the run wrote. Raises RunError where that is nothing to publish."""
    config = TrainConfig.from_hyperparameters(run["hyperparameters"])
    shown = images_shown(config, run["split"]["train"], len(history))
    measured = list(zip(shown, history, strict=True))
    measured = measured[1:] or measured  # the first epoch also compiles
    training_seconds = sum(n / row["images_per_second"] for n, row in measured)
    settings = published(run["hyperparameters"])
    described = {
        "recipe": run["hyperparameters"]["recipe"],
        "changes": [as_flag(name, value) for name, value in changed(settings).items() if name != "seed"],
        "hyperparameters": settings,
        "seed": run["hyperparameters"]["seed"],
        "epochs": len(history),
        "best_epoch": best_epoch,
        "selected_by": "highest val accuracy",
        "wall_seconds": round(wall_seconds(run, history), 1),
        "images_per_second": round(sum(n for n, _ in measured) / training_seconds, 1),
        "device": run["device"],
        "precision": run["precision"],
        "versions": run["versions"] | {"onnxruntime": version("onnxruntime")},
        "git_commit": run["git_commit"],
        "dataset": run.get("dataset", cifar10.NAME),  # whatever the folder is called now
        "started": run["started"],
        "split": run["split"] | {"test": test_images, "val_sha256": data.split.val_sha256()} | images_sha256(data),
        "parameters": network.architecture.parameters,
        "mean": run["mean"],
        "std": run["std"],
    } | {name: run[name] for name in ("peak_memory_bytes", "pretrained", "resumed") if run.get(name)}
    try:
        return schema.parse(Training, described)
    except schema.Invalid as error:
        raise RunError(f"the run's {RUN} {error}") from None


def images_shown(config: TrainConfig, train_images: int, epochs: int) -> list[int]:
    """How many images each epoch trained on: a last, short batch is dropped, `max_steps` may end the last epoch."""
    steps = steps_per_epoch(train_images, config.batch_size)
    total = config.total_steps(steps)
    return [min(steps, total - epoch * steps) * min(config.batch_size, train_images) for epoch in range(epochs)]


def write_predictions(probabilities: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """predictions.csv: one row per image; label and predicted are positions in class_names."""
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for i, label in enumerate(labels):
            rows.writerow((i, label, predicted[i], f"{confidence[i]:.6f}", f"{probabilities[i, label]:.6f}"))


def _swap_in(new: Path, place: Path) -> Path:
    old = place.with_name(place.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)
    return place
