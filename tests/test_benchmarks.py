"""Each benchmark runs end to end in its quickest form and writes its file; the tables are what those files say."""

import importlib
import io
import json
import shutil
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from benchmarks import classic, load, machine, photos, serving, soak, tables, threshold
from benchmarks import train_throughput as throughput
from benchmarks.server import PROJECT, Server
from model import Classifier, artifact, cifar10
from model.hub import BUNDLED
from tests.conftest import cannot_run, made_up_images, md5_of, write_dataset
from trainer.config import TrainConfig
from trainer.data import split_train_val
from trainer.evaluate import TOLERANCE

TRUST_MADE_UP_DATA = """
from pathlib import Path
from model import cifar10
from tests.conftest import md5_of
cifar10.MD5 = md5_of(Path({data_dir!r}))
"""
"""For a sitecustomize.py, which every Python runs that is started with its folder in PYTHONPATH."""


@pytest.fixture
def measured(tmp_path, capsys):
    """Runs a benchmark with these flags: what it wrote. It prints its own table, and the machine's."""

    def measured(name: str, *flags: object) -> dict:
        output = tmp_path / "out" / "result.json"
        importlib.import_module(f"benchmarks.{name}").main([f"--output={output}", *map(str, flags)])
        assert capsys.readouterr().out.count("| this run") >= 2
        assert str(tmp_path) not in output.read_text() and '"/' not in output.read_text()
        return json.loads(output.read_text())

    return measured


@pytest.mark.slow
@pytest.mark.parametrize("scaling", [False, True])
def test_the_trainer_is_compared_with_both_loops(measured, made_up_cifar, tmp_path, monkeypatch, scaling):
    (tmp_path / "sitecustomize.py").write_text(TRUST_MADE_UP_DATA.format(data_dir=str(made_up_cifar)))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{PROJECT}")
    monkeypatch.setattr(throughput, "SCALING", (30, 90))
    sizes = ["--scaling"] if scaling else ["--train-images=60"]
    sizes += ["--batch-size=30", "--repeats=1", f"--data-dir={made_up_cifar}"]
    result = measured("train_throughput", *sizes, "--variant=--precision 32-true", "--", "--depth=8", "--device=cpu")
    (variant,) = result["variants"]
    if scaling:
        assert [size["epoch_images"] for size in variant["sizes"]] == [30, 90]
        return
    for side in (variant["ours"], result["classic"], variant["bare"]):
        (run,) = side["runs"]
        assert run["images_per_second"] > 0 and run["warmup_seconds"] > 0 and run["peak_host_bytes"] > 50e6


def test_the_input_pipelines_are_compared(measured):
    result = measured("input_pipeline", "--images=256", "--images-one-by-one=20", "--repeats=2")
    assert [len(side["runs"]) for sides in result["crops"].values() for side in sides.values()] == [2] * 6


@pytest.mark.slow
def test_rest_the_page_and_the_plain_demo_are_compared(measured, tiny_artifact):
    result = measured("serving", "--quick", f"--artifact={tiny_artifact}")
    assert [(cell["clients"], cell["megabytes"]) for cell in result["cells"]] == serving.QUICK
    for cell in result["cells"]:
        for run in (run for side in cell["sides"].values() for run in side["runs"]):
            assert run["answered"] > 0 and run["busy"] == 0 and run["errors"] == {}
            assert run["latency"]["p50"] <= run["latency"]["p95"] and run["server_processor_seconds"] > 0


@pytest.mark.slow
def test_one_process_is_compared_with_two(measured):
    if not shutil.which("nginx", path="/usr/sbin:/usr/bin"):
        cannot_run("nginx is not installed")
    runs = measured("processes", "--seconds=1", "--repeats=1")["runs"]
    assert all(run["answered"] > 0 for side in ("one", "two") for run in runs[side])


@pytest.mark.slow
def test_the_start_is_compared_with_that_of_a_bare_page(measured):
    result = measured("start", "--repeats=1")
    (app,), (bare,) = result["app"]["runs"], result["bare"]["runs"]
    assert 0 < app["resident_bytes"] < bare["resident_bytes"]  # which imports torch


@pytest.mark.slow
def test_a_soak_test_looks_at_memory_files_and_descriptors(measured):
    result = measured("soak", "--predictions=30", "--every=10", "--clients=2")
    for side, found in result["sides"].items():
        samples = found["samples"]
        assert [each["predictions"] for each in samples] == [0, 10, 20, 30] and found["errors"] == {}
        assert samples[-1]["resident_bytes"] > 50e6 and samples[-1]["open_files"] > 3
        stored = [0, 0, 0, 0] if side == "rest" else [0, 10, 20, 30]
        assert [each["upload_files"] for each in samples] == stored, "an image is stored otherwise, or elsewhere"


@pytest.mark.slow
def test_few_images_are_learned_from_random_weights_and_from_a_network(measured, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    data_dir, work_dir = write_dataset(tmp_path / "data", made_up_images, train_per_batch=200), tmp_path / "work"
    monkeypatch.setattr(cifar10, "MD5", md5_of(data_dir))
    flags = ["--max-epochs=1", "--seeds=1", "--images=5", f"--data-dir={data_dir}", f"--work-dir={work_dir}"]
    result = measured("own_images", *flags)
    found = [(each["images"], run["n"], run["epochs"]) for each in result["variants"] for run in each["runs"]]
    assert Counter(found) == {("photos", 50, 1): 4, ("others", 25, 1): 2, ("digits", 179, 1): 2}
    assert measured("own_images", *flags, "--resume")["variants"] == result["variants"]

    images, labels = cifar10.read_train(data_dir)
    val = {images[i].tobytes() for i in split_train_val(labels).val}
    parts = [work_dir / "photos" / "train", work_dir / "photos" / "test", work_dir / "source"]
    to_train, to_test, source = ({Image.open(file).tobytes() for file in part.rglob("*.png")} for part in parts)
    assert to_train | to_test == val and not to_train & to_test and not source & val


def test_the_threshold_benchmark_reads_no_test_image(measured, tiny_artifact, tiny_cifar, monkeypatch):
    monkeypatch.setattr(cifar10, "TEST_BATCHES", ("not-there",))  # whoever reads the test images fails
    result = measured("threshold", f"--data-dir={tiny_cifar}", f"--artifact={tiny_artifact}", "--images=4")
    classifier = Classifier.load(tiny_artifact)
    assert result["thresholds"]["highest logit"] == pytest.approx(classifier.config.threshold, abs=1e-5)
    assert result["val_below"] == dict.fromkeys(result["thresholds"], 1 / 30)
    shares = [below["highest logit"] for below in result["below"].values()]
    assert len(shares) == len(threshold.KINDS) and result["mean_below"]["highest logit"] == np.mean(shares)


def test_the_standard_loop_does_the_same_work(tiny_cifar):
    loader = classic.train_loader(tiny_cifar, 60, 30)
    image, _ = loader.dataset[0]
    assert image.shape == (3, 32, 32) and image.min() < -0.5 and len(loader.dataset) == 60  # normalized
    module = classic.Classic(TrainConfig(depth=14, learning_rate=0.3))
    assert module.network.architecture.depth == 14 and (module.network.std == 1).all()  # and not a second time
    assert module.configure_optimizers().param_groups[0]["lr"] == 0.3


def test_a_drawn_photo_has_its_size_and_marks_leave_its_pixels():
    jpeg = photos.draw(100_000, seed=3)
    assert len(jpeg) == pytest.approx(100_000, rel=0.05) and jpeg == photos.draw(100_000, seed=3)
    marked = [photos.unique(jpeg, mark) for mark in ("1", "2")]
    assert len({jpeg, *marked}) == 3
    assert len({Image.open(io.BytesIO(each)).tobytes() for each in (jpeg, *marked)}) == 1


class Answers(BaseHTTPRequestHandler):
    protocol_version, left, bodies = "HTTP/1.1", [503, 200, 500, 503, 200], set()

    def do_POST(self):
        self.bodies.add(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(self.left.pop(0))
        self.send_header("content-length", "20")
        self.end_headers()
        self.wfile.write(b'{"confidences": [1]}')

    def log_message(self, *_):
        pass


def test_busy_and_errors_are_counted_by_kind_and_are_no_answers(monkeypatch):
    monkeypatch.setattr(load, "BUSY_PAUSE", 0.01)
    monkeypatch.setattr(Server, "processor_seconds", lambda self: 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever).start()
        asked = Server(f"http://127.0.0.1:{server.server_port}", None, 0)
        found = load.ask(asked, "rest", [photos.draw(5000, 0)], clients=2, mark="", requests=5)
        server.shutdown()
    assert (found["answered"], found["busy"], found["errors"]) == (2, 2, {"HTTP 500": 1})
    assert len(Answers.bodies) == 5  # no cache of the server can help


def test_turns_percentiles_and_growth():
    assert list(machine.in_turn(["a", "b"], 2)) == [(1, "a"), (1, "b"), (2, "b"), (2, "a")]
    assert load.percentiles([3, 1, 2]) == {"p50": 2000, "p95": 3000, "p99": 3000}
    samples = [{"predictions": 1000 * k, "bytes": each} for k, each in enumerate([10, 50, 90, 100, 102, 104, 106, 108])]
    assert soak.slope(samples, "bytes") == pytest.approx(2)


def run(rate: float, wait: float, busy: int = 0, **errors: int) -> dict:
    latency = {f"p{percent}": float(wait) for percent in (50, 99)} if rate else {}
    found = {"requests_per_second": float(rate), "answered": rate * 10, "latency": latency, "busy": busy}
    return found | {"errors": errors, "server_processor_seconds": rate / 10}


def test_ratios_are_of_rounds_and_rounds_without_answers_do_not_count():
    rest = [run(30, 900, busy=2), run(90, 1100), run(60, 1300, busy=1)]
    plain = [run(10, 2000, TimeoutError=1), run(0, 0, TimeoutError=4), run(20, 4000)]
    sides = {"rest": {"runs": rest}, "page": {"runs": rest}, "plain": {"runs": plain}}
    result = tables.results()["serving-cpu"] | {"cells": [{"clients": 32, "megabytes": 2.0, "sides": sides}]}
    *_, row = tables.of({"x": result}).splitlines()[:3]
    rates = "60.0 (30.0 to 90.0) | 60.0 (30.0 to 90.0) | 10.0 (0.0 to 20.0) | 3.00 | 3.00"
    assert row.startswith(f"| x | 32 | 2 | {rates} | 1,100 / 1,100 / 3,000 |")
    assert row.endswith("| 3 busy / 3 busy / 5 TimeoutError |")


def test_the_page_is_what_the_measurements_give_and_names_no_path():
    assert tables.PAGE.read_text() == tables.page(), "run `python -m benchmarks.tables`: docs/benchmarks.md is stale"
    for path in tables.RESULTS.glob("*.json"):
        assert not any(start in path.read_text() for start in ('"/', "=/", " /")), path


def test_the_published_threshold_shares_are_of_the_bundled_network():
    result, config = tables.results()["threshold-bundled"], artifact.read(BUNDLED).config
    assert result["model_sha256"] == config.sha256[artifact.WEIGHTS]
    assert result["thresholds"]["highest logit"] == pytest.approx(config.threshold, abs=TOLERANCE)
