"""The artifact folder that a run becomes: from which images and checkpoint, and when it is not written."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model import Classifier, artifact, cifar10
from model.artifact import read_history
from model.resnet import ResNet
from trainer import checkpoints, export
from trainer.config import TrainConfig
from trainer.data import load_training_data
from trainer.evaluate import fit_temperature
from trainer.export import evaluate_on_val, load_best
from trainer.fit import fit
from trainer.run import RunError, note_no_test, wall_seconds


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_the_exported_folder_holds_exactly_these_files(tiny_artifact):
    found = files(tiny_artifact)
    events = {name for name in found if name.startswith("tensorboard/events.out.tfevents.")}
    assert events == {f"tensorboard/events.out.tfevents.{number:03}" for number in range(len(events))} != set()
    assert found - events == {
        *("model.safetensors", "model.onnx", "config.json", "metrics.json", "history.csv", "predictions.csv"),
        *("README.md", "figures/curves.png", "figures/confusion_matrix.png", "figures/reliability.png"),
        *("figures/per_class.png", "samples/samples.json", "samples/test.png", "samples/mistakes.png"),
    }


def test_nothing_is_left_beside_the_artifact(tiny_run):
    expected = "artifact checkpoints history.csv lock run.json stdout.txt tensorboard train.log"
    assert {p.name for p in tiny_run.iterdir()} == set(expected.split())


def test_the_weights_are_those_of_the_best_checkpoint(tiny_run, tiny_artifact):
    checkpoint = torch.load(tiny_run / "checkpoints" / checkpoints.BEST, weights_only=True)["state_dict"]
    for name, tensor in ResNet.from_pretrained(tiny_artifact).state_dict().items():
        assert torch.equal(tensor, checkpoint[f"network.{name}"]), name


def test_with_an_average_its_weights_are_validated_and_exported(tiny_cifar, tmp_path):
    settings = dict(depth=8, max_epochs=2, batch_size=30, device="cpu", precision="32-true", ema_decay=0.9)
    fit(TrainConfig(**settings), tiny_cifar, tmp_path, resume=False, progress_bar=False)
    state = torch.load(tmp_path / "checkpoints" / checkpoints.BEST, weights_only=True)["state_dict"]
    network, _, _ = load_best(tmp_path, load_training_data(tiny_cifar))
    averaged = network.state_dict()
    assert all(torch.equal(tensor, state[f"average.{name}"]) for name, tensor in averaged.items())
    assert not all(torch.equal(tensor, state[f"network.{name}"]) for name, tensor in averaged.items())
    found = evaluate_on_val(tmp_path, tiny_cifar).accuracy
    assert found == pytest.approx(max(row["val_accuracy"] for row in read_history(tmp_path)))


def test_val_alone_chooses_temperature_and_threshold_and_all_images_are_scored(tiny_artifact, tiny_cifar):
    classifier, data = Classifier.load(tiny_artifact), load_training_data(tiny_cifar)
    val, test = (data.images[data.split.val], data.labels[data.split.val]), cifar10.read_test(tiny_cifar)
    for scores, (images, labels), n in ((classifier.metrics.val, val, 30), (classifier.metrics.test, test, 250)):
        assert scores.n == len(labels) == n
        assert scores.correct == int((classifier.probabilities(images).argmax(1) == labels).sum())
    logits = classifier.logits(val[0])
    expected = fit_temperature(logits, val[1])
    assert classifier.config.temperature == pytest.approx(expected, abs=1e-6)
    assert fit_temperature(classifier.logits(test[0]), test[1]) != pytest.approx(expected, rel=1e-3)
    assert classifier.config.threshold == pytest.approx(np.sort(logits.max(1))[1], abs=1e-5)


def test_predictions_csv_has_one_row_per_test_image_with_calibrated_numbers(tiny_artifact, tiny_cifar):
    classifier = Classifier.load(tiny_artifact)
    images, labels = cifar10.read_test(tiny_cifar)
    probabilities = classifier.probabilities(images)
    with (tiny_artifact / artifact.PREDICTIONS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(250))
    assert [int(row["label"]) for row in rows] == labels.tolist()
    assert [int(row["predicted"]) for row in rows] == probabilities.argmax(1).tolist()
    np.testing.assert_allclose([float(row["confidence"]) for row in rows], probabilities.max(1), atol=1e-5)
    true = probabilities[np.arange(250), labels]
    np.testing.assert_allclose([float(row["true_probability"]) for row in rows], true, atol=1e-5)


def test_sample_sheets_hold_the_test_images_that_samples_json_names(tiny_artifact, tiny_cifar):
    images, labels = cifar10.read_test(tiny_cifar)
    listing = json.loads((tiny_artifact / "samples" / "samples.json").read_text())
    classifier = Classifier.load(tiny_artifact)
    for name in ("test", "mistakes"):
        sheet = np.asarray(Image.open(tiny_artifact / "samples" / listing[name]["sheet"]))
        for i, entry in enumerate(listing[name]["images"]):
            y, x = i // listing["columns"] * 32, i % listing["columns"] * 32
            assert np.array_equal(sheet[y : y + 32, x : x + 32], images[entry["index"]])
            assert entry["label"] == labels[entry["index"]]
    chosen = [entry["label"] for entry in listing["test"]["images"]]
    assert chosen == sorted(chosen) and np.bincount(chosen).tolist() == [20] * 10
    confidence = classifier.probabilities(images).max(1)
    mistakes = [entry["index"] for entry in listing["mistakes"]["images"]]
    assert len(mistakes) == min(40, 250 - classifier.metrics.test.correct)
    assert (np.diff(confidence[mistakes]) <= 1e-6).all()


def test_metrics_say_how_the_run_was_done(tiny_run, tiny_artifact, tiny_cifar):
    metrics = json.loads((tiny_artifact / artifact.METRICS).read_text())
    run = json.loads((tiny_run / "run.json").read_text())
    training = metrics["training"]
    assert training["hyperparameters"] == run["hyperparameters"] and training["recipe"] == "default"
    assert training["epochs"] == 2 and training["best_epoch"] in (1, 2)
    assert training["peak_memory_bytes"] == run["peak_memory_bytes"]
    val_sha256 = load_training_data(tiny_cifar).split.val_sha256()
    assert training["split"] == run["split"] | {"test": 250, "val_sha256": val_sha256}
    network = ResNet.from_pretrained(tiny_artifact)
    assert training["parameters"] == sum(p.numel() for p in network.parameters())
    assert network.mean.flatten().tolist() == pytest.approx(training["mean"])
    assert network.std.flatten().tolist() == pytest.approx(training["std"])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"batch_size": 128, "max_epochs": 3}, [351 * 128] * 3),
        ({"batch_size": 128, "max_epochs": 3, "max_steps": 800}, [351 * 128, 351 * 128, 98 * 128]),
        ({"batch_size": 50_000, "max_epochs": 2}, [45_000] * 2),
    ],
)
def test_an_epoch_shows_the_images_of_its_whole_batches(settings, expected):
    assert export.images_shown(TrainConfig(**settings), 45_000, len(expected)) == expected


def test_images_per_second_weighs_a_short_last_epoch_and_leaves_out_the_first(tiny_run, tiny_artifact, tiny_cifar):
    run = json.loads((tiny_run / "run.json").read_text())
    run["hyperparameters"] |= {"batch_size": 40, "max_epochs": 3, "max_steps": 15}  # of 270 images: 6, 6, 3 steps
    rows = [{"seconds": 5.0, "images_per_second": speed} for speed in (1.0, 120.0, 30.0)]  # 240 s, 2 s, 4 s
    network, data = ResNet.from_pretrained(tiny_artifact), load_training_data(tiny_cifar)
    found = export.describe_training(run, rows, 1, network, data, 250)
    assert found.images_per_second == 9 * 40 / 6
    alone = run | {"hyperparameters": run["hyperparameters"] | {"max_steps": 6}}
    assert export.describe_training(alone, rows[1:2], 1, network, data, 250).images_per_second == 120
    assert found.wall_seconds == max(15.0, run["fit_seconds"])
    slow, killed = run | {"fit_seconds": 100.0}, run | {"fit_seconds": 1.0}
    assert [wall_seconds(each, rows) for each in (slow, killed, {})] == [100.0, 15.0, 15.0]
    del run["peak_memory_bytes"]  # as in runs from before it was measured
    assert export.describe_training(run, rows, 1, network, data, 250).peak_memory_bytes is None


def test_a_run_whose_description_cannot_be_published_is_refused_by_the_field(tiny_run, tiny_cifar, tmp_path):
    run_dir = shutil.copytree(tiny_run, tmp_path / "run")
    run = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps(run | {"device": "x" * 201}))
    with pytest.raises(RunError, match="run.json has device"):
        export.export(run_dir, tiny_cifar)


def test_exporting_again_replaces_the_artifact_as_a_whole(tiny_run, tiny_cifar, tmp_path):
    run_dir = shutil.copytree(tiny_run, tmp_path / "run")
    (run_dir / "artifact" / "stale.txt").write_text("from an older export")
    for name in ("artifact.new", "artifact.old"):  # of a killed one
        shutil.copytree(run_dir / "artifact", run_dir / name)
    metrics = (run_dir / "artifact" / artifact.METRICS).read_bytes()
    folder = export.export(run_dir, tiny_cifar)
    assert folder == run_dir / "artifact" and not (folder / "stale.txt").exists()
    assert (folder / artifact.METRICS).read_bytes() == metrics
    events = EventAccumulator(str(folder / artifact.TENSORBOARD))
    events.Reload()
    assert len(events.Scalars("test/accuracy")) == 1
    assert not (run_dir / "artifact.new").exists() and not (run_dir / "artifact.old").exists()


def test_before_the_test_set_is_read_the_run_says_so(tiny_run, tiny_cifar, tmp_path, monkeypatch):
    run_dir = shutil.copytree(tiny_run, tmp_path / "run")
    note_no_test(run_dir, True)
    monkeypatch.setattr(cifar10, "read_test", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export.export(run_dir, tiny_cifar)
    assert json.loads((run_dir / "run.json").read_text())["no_test"] is False


def test_evaluating_on_val_leaves_the_test_set_alone(tiny_run, tiny_artifact, tiny_cifar, monkeypatch):
    monkeypatch.setattr(cifar10, "read_test", lambda *args: pytest.fail("the test set was read"))
    before = files(tiny_run)
    found = export.evaluate_on_val(tiny_run, tiny_cifar)
    assert found == Classifier.load(tiny_artifact).metrics.val
    assert files(tiny_run) == before


def test_training_never_reads_the_test_set(tiny_cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "read_test", lambda *args: pytest.fail("the test set was read"))
    config = TrainConfig(depth=8, max_epochs=1, batch_size=30, device="cpu", precision="32-true")
    fit(config, tiny_cifar, tmp_path / "run", resume=False, progress_bar=False)


def test_a_network_with_logits_of_thousands_is_exported_and_loaded(tiny_artifact, tmp_path):
    network = ResNet.from_pretrained(tiny_artifact)
    with torch.no_grad():
        network.fc.weight *= 1e4
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    artifact.write_checksums(folder, export.write_network(network, cifar10.CLASS_NAMES, folder))
    served = Classifier.load(folder)
    images = np.random.RandomState(0).randint(0, 256, (50, 32, 32, 3), np.uint8)
    assert np.abs(served.logits(images)).max() > 1000
    export.check_parity(network, served, images)
    with torch.no_grad():
        network.fc.bias += 10
    with pytest.raises(artifact.ArtifactError, match="differ by 10"):
        export.check_parity(network, served, images)


def test_a_run_without_a_checkpoint_or_on_other_data_is_refused(tiny_run, tiny_cifar, tmp_path):
    run_dir = shutil.copytree(tiny_run, tmp_path / "run")
    run = json.loads((run_dir / "run.json").read_text())
    run["split"]["sha256"] = "0" * 64
    (run_dir / "run.json").write_text(json.dumps(run))
    with pytest.raises(RunError, match="trained on other data"):
        export.export(run_dir, tiny_cifar)
    shutil.copy(tiny_run / "run.json", run_dir)
    shutil.rmtree(run_dir / "artifact")
    (run_dir / artifact.HISTORY).unlink()
    with pytest.raises(artifact.ArtifactError, match="history.csv is not one row"):
        export.export(run_dir, tiny_cifar)
    shutil.rmtree(run_dir / "checkpoints")
    with pytest.raises(RunError, match="best.ckpt is missing"):
        export.export(run_dir, tiny_cifar)
    assert not list(run_dir.glob("artifact*"))


@pytest.fixture
def two_bests(tiny_run, tmp_path):
    """A run whose best epoch is its second, so that best.ckpt has an earlier one beside it."""
    run_dir = shutil.copytree(tiny_run, tmp_path / "two")
    folder = run_dir / "checkpoints"
    best = checkpoints.read_checkpoint(folder / "best.ckpt")
    other = best | {"epoch": best["epoch"] + 1, "history": [*best["history"], {"val_accuracy": 0.0}]}
    return run_dir, best, other


@pytest.mark.parametrize("damage", [False, True])
def test_the_checkpoint_before_is_taken_where_best_is_of_a_lost_epoch_or_damaged(two_bests, damage):
    run_dir, best, other = two_bests
    folder = run_dir / "checkpoints"
    (folder / "best.previous.ckpt").unlink(missing_ok=True)
    (folder / "best.ckpt").rename(folder / "best.previous.ckpt")
    torch.save(other, folder / "best.ckpt")
    if damage:
        (folder / "best.ckpt").write_bytes(b"PK")
    found = export.best_checkpoint(run_dir)
    assert found["epoch"] == best["epoch"]
    assert all(torch.equal(found["state_dict"][name], tensor) for name, tensor in best["state_dict"].items())


def test_of_equal_epochs_any_may_be_the_best_checkpoint(two_bests):
    run_dir, best, _ = two_bests
    head, *rows = [line.split(",") for line in (run_dir / "history.csv").read_text().splitlines()]
    accuracy, loss = head.index("val_accuracy"), head.index("val_loss")
    for row in rows:  # another epoch has the lower loss, and is gone
        row[accuracy] = rows[best["epoch"]][accuracy]
        row[loss] = "0.1" if row is not rows[best["epoch"]] else "9"
    (run_dir / "history.csv").write_text("\n".join(",".join(row) for row in [head, *rows]) + "\n")
    assert export.best_checkpoint(run_dir)["epoch"] == best["epoch"]


def test_without_a_fitting_checkpoint_each_is_named_with_what_is_wrong(two_bests):
    run_dir, _, other = two_bests
    folder = run_dir / "checkpoints"
    torch.save(other, folder / "best.ckpt")
    (folder / "best.previous.ckpt").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"best.ckpt is of epoch \d.*best.previous.ckpt is damaged"):
        export.best_checkpoint(run_dir)
