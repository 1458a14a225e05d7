"""Each benchmark runs end to end in its quickest form and writes its file; the tables are what those files say."""

import io
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10
from typer.testing import CliRunner

from benchmarks import classic, input_pipeline, load, pictures, processes, serving, soak, start, tables, threshold
from benchmarks import train_throughput as throughput
from model import Classifier, artifact, cifar10
from model.hub import BUNDLED
from tests.conftest import cannot_run
from trainer.config import RECIPES, TrainConfig
from trainer.evaluate import TOLERANCE

PROJECT = Path(__file__).resolve().parent.parent

# A `python` in which both readers of CIFAR-10 take the made-up data for the official one.
PATCHED_PYTHON = """
import runpy
import sys
from pathlib import Path

from torchvision.datasets import CIFAR10

from model import cifar10
from tests.conftest import md5_of

cifar10.MD5 = md5_of(Path({data_dir!r}))
CIFAR10._check_integrity = lambda self: True
CIFAR10.meta = CIFAR10.meta | {{"md5": None}}
if __name__ == "__main__":
    del sys.argv[:2]  # this file and -m
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def measured(tmp_path):
    """Runs a benchmark with these flags: what it wrote, and what it printed."""

    def measured(benchmark, *flags: object) -> tuple[dict, str]:
        output = tmp_path / "out" / "result.json"
        command = ["--output", str(output), *map(str, flags)]
        answer = CliRunner().invoke(benchmark.app, command, catch_exceptions=False)
        assert answer.exit_code == 0 and answer.stdout.count("| this run") >= 2  # its own table, and the machine
        assert str(tmp_path) not in output.read_text() and '"/' not in output.read_text()
        return json.loads(output.read_text()), answer.stdout

    return measured


# Each of them, quickly


@pytest.mark.slow
def test_ours_is_compared_with_the_classic_and_the_bare_loop(measured, made_up_cifar, tmp_path, monkeypatch):
    (tmp_path / "python.py").write_text(PATCHED_PYTHON.format(data_dir=str(made_up_cifar)))
    monkeypatch.setattr(throughput, "PYTHON", [sys.executable, str(tmp_path / "python.py")])
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    sizes = ["--train-images", 60, "--batch-size", 30, "--repeats", 1, "--data-dir", made_up_cifar]
    ours = ["--variant", "--precision 32-true", "--", "--depth", 8, "--device", "cpu"]
    result, _ = measured(throughput, *sizes, *ours)
    (variant,) = result["variants"]
    for side in (result["classic"], variant["ours"], variant["bare"]):
        (run,) = side["runs"]
        assert run["images_per_second"] == side["images_per_second"] > 0 and run["peak_host_bytes"] > 50e6
    speeds = [side["images_per_second"] for side in (variant["ours"], result["classic"], variant["bare"])]
    assert variant["ours_over_classic"] == speeds[0] / speeds[1]
    assert variant["ours_over_bare"] == speeds[0] / speeds[2]


def test_scaling_takes_the_last_epoch_at_every_size(measured, monkeypatch):
    def trainer(module, *flags):
        """That needs 2 s for its first epoch, and one second per 1,000 images after."""
        given = dict(flag.removeprefix("--").partition("=")[::2] for flag in flags if "=" in flag)
        images = int(flags[flags.index("--train-images") + 1])
        (folder := Path(given["output-dir"])).mkdir()
        run = {"hyperparameters": TrainConfig(batch_size=1000).hyperparameters(), "split": {"train": images}}
        run |= {"device": "fast", "precision": "bf16-mixed", "threads": 1, "peak_memory_bytes": {"device": 7}}
        (folder / "run.json").write_text(json.dumps(run))
        (folder / "history.csv").write_text(f"epoch,images_per_second\n1,{images / 2}\n2,1000.0\n")
        return "", 5

    monkeypatch.setattr(throughput, "run_alone", trainer)
    result, printed = measured(throughput, "--scaling", "--repeats", 3, "--batch-size", 1000)
    assert [size["epoch_seconds"] for size in result["variants"][0]["sizes"]] == [5, 15, 45]
    assert "| 45,000 | 1,000 (1,000 to 1,000) | 45.00 | 1.0000 |" in printed


def test_the_input_pipelines_are_compared(measured):
    result, _ = measured(input_pipeline, "--images", 256, "--images-one-by-one", 20, "--repeats", 3)
    for found in result["crops"].values():
        rounds = zip(found["batched"]["runs"], found["pil"]["runs"], strict=True)
        assert found["batched_over_pil"] == sorted(ours / pil for ours, pil in rounds)[1]


@pytest.mark.slow
def test_rest_the_page_and_the_plain_demo_are_measured_in_one_run(measured, tiny_artifact):
    result, _ = measured(serving, "--quick", "--artifact", tiny_artifact)
    assert [(cell["clients"], cell["megabytes"]) for cell in result["cells"]] == serving.QUICK
    for cell in result["cells"]:
        for run in (run for side in ("rest", "page", "plain") for run in cell["sides"][side]["runs"]):
            assert run["answered"] > 0 and run["busy"] == 0 and run["errors"] == {}
            assert run["latency"]["p50"] <= run["latency"]["p95"] and run["server_processor_seconds"] > 0


@pytest.mark.slow
def test_one_process_is_compared_with_two(measured):
    if not Path("/usr/sbin/nginx").exists():
        cannot_run("nginx is not installed")
    assert measured(processes, "--seconds", 1, "--repeats", 1)[0]["two_over_one"] > 0


@pytest.mark.slow
def test_the_start_is_compared_with_that_of_a_bare_page(measured):
    result, _ = measured(start, "--repeats", 1)
    assert result["seconds_ratio"] > 0 and 0 < result["resident_bytes_ratio"] < 1  # the bare one imports torch


@pytest.mark.slow
def test_a_soak_looks_at_memory_files_and_descriptors_after_every_so_many(measured, tiny_artifact):
    flags = ["--predictions", 30, "--every", 10, "--clients", 2, "--artifact", tiny_artifact]
    for side, found in measured(soak, *flags)[0]["sides"].items():
        samples = found["samples"]
        assert [each["predictions"] for each in samples] == [0, 10, 20, 30] and found["errors"] == {}
        assert samples[-1]["resident_bytes"] > 50e6 and samples[-1]["open_files"] > 3
        stored = [0, 0, 0, 0] if side == "rest" else [0, 10, 20, 30]
        assert [each["upload_files"] for each in samples] == stored, "an image is stored otherwise, or elsewhere"


def test_the_threshold_benchmark_reads_no_test_image(measured, tiny_artifact, tiny_cifar, monkeypatch):
    monkeypatch.setattr(cifar10, "TEST_BATCHES", ("not-there",))  # whoever reads the test images fails
    result, _ = measured(threshold, "--data-dir", tiny_cifar, "--artifact", tiny_artifact, "--pictures", 4)
    classifier = Classifier.load(tiny_artifact)
    assert result["thresholds"]["highest logit"] == pytest.approx(classifier.config.threshold, abs=1e-5)
    assert result["val_below"] == dict.fromkeys(result["thresholds"], 1 / 30)
    shares = [below["highest logit"] for below in result["below"].values()]
    assert len(shares) == len(threshold.KINDS) and result["mean_below"]["highest logit"] == np.mean(shares)


# What makes the comparisons fair


def test_the_rivals_do_the_same_work(made_up_cifar, monkeypatch):
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": None})
    loader = classic.train_loader(made_up_cifar, 60, 30)
    assert type(loader.dataset.dataset) is CIFAR10 and len(loader.dataset) == 60 and loader.num_workers == 4
    steps = [type(step).__name__ for step in loader.dataset.dataset.transform.transforms]
    assert steps == ["RandomCrop", "RandomHorizontalFlip", "ToTensor", "Normalize"]
    module = classic.Classic(TrainConfig(depth=14, learning_rate=0.3))
    assert module.network.architecture.depth == 14 and (module.network.std == 1).all()  # normalised once
    assert module.configure_optimizers().param_groups[0]["lr"] == 0.3
    throughput.refuse_unlike(RECIPES["report"].hyperparameters())
    with pytest.raises(SystemExit, match="the other loops have no --trivial-augment: leave it out"):
        throughput.refuse_unlike(RECIPES["record"].hyperparameters())


def test_a_drawn_photo_has_the_size_asked_for_and_marks_leave_its_pixels():
    jpeg = pictures.draw(100_000, seed=3)
    assert len(jpeg) == pytest.approx(100_000, rel=0.03) and jpeg == pictures.draw(100_000, seed=3)
    marked = [pictures.unique(jpeg, mark) for mark in ("1", "2")]
    assert len({jpeg, *marked}) == 3
    assert len({Image.open(io.BytesIO(each)).tobytes() for each in (jpeg, *marked)}) == 1


def test_busy_and_errors_are_counted_by_kind_and_are_no_answers(monkeypatch):
    class Answers(BaseHTTPRequestHandler):
        protocol_version, left = "HTTP/1.1", [503, 200, 500, 503, 200]

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(self.left.pop(0))
            self.send_header("content-length", "20")
            self.end_headers()
            self.wfile.write(b'{"confidences": [1]}')

    monkeypatch.setattr(load, "BUSY_PAUSE", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever).start()
        asked = load.Load("rest", f"http://127.0.0.1:{server.server_port}", [pictures.draw(5000, 0)])
        found = load.asyncio.run(asked.run(clients=2, requests=5))
        server.shutdown()
    assert (found["answered"], found["busy"], found["errors"]) == (2, 2, {"HTTP 500": 1})


def test_what_stands_for_many_rounds_values_and_samples():
    fast, slow = ({"runs": [{"images_per_second": x} for x in speeds]} for speeds in ([4, 40, 90], [2, 10, 90]))
    assert throughput.ratio(fast, slow) == 2
    assert load.summary([0.003, 0.001, 0.002]) == {"p50": 2.0, "p95": 3.0, "p99": 3.0} and load.summary([]) is None
    samples = [{"predictions": 1000 * k, "bytes": each} for k, each in enumerate([10, 50, 90, 100, 102, 104, 106, 108])]
    assert soak.slope(samples, "bytes") == pytest.approx(2)
    assert serving.split({2, 3, 5, 7}) == ({2, 3}, {5, 7})


# The tables


def test_the_tables_state_the_measurements_own_numbers():
    def side(*speeds):
        runs = [{"images_per_second": x, "warmup_seconds": x / 10, "peak_host_bytes": x * 10**7} for x in speeds]
        return {"runs": [run | {"peak_device_bytes": None} for run in runs], "images_per_second": speeds[1]}

    variant = {"flags": "--compile", "precision": "32-true", "ours": side(10, 20, 30), "bare": side(20, 25, 40)}
    variant |= {"ours_over_classic": 2.5, "ours_over_bare": 0.8}
    train = {"benchmark": "train_throughput", "flags": "", "classic": side(4, 8, 9), "variants": [variant]}
    name = "| x: `--compile`, 32-true"
    assert f"{name} | 8 (4 to 9) | 20 (10 to 30) | 25 (20 to 40) | 2.50 | 20.0% |\n" in tables.throughput({"x": train})
    assert f"{name} | 0.9 | 3.0 | 4.0 | 0.09 GB | 0.30 GB | 0.40 GB |  |  |  |\n" in tables.costs({"x": train})
    assert tables.scaling({"x": train}) == "Not measured yet.\n"

    def run(rate, wait, busy=0, **errors):
        latency = {f"p{percent}": float(wait) for percent in (50, 95, 99)} if rate else None
        found = {"requests_per_second": float(rate), "answered": rate * 10, "latency": latency, "busy": busy}
        return found | {"errors": errors, "server_processor_seconds": rate / 10}

    rest = [run(30, 900, busy=2), run(90, 1100), run(60, 1300, busy=1)]
    plain = [run(10, 2000, TimeoutError=1), run(0, 0, TimeoutError=4), run(20, 4000)]
    rounds = [{(32, 2.0): {"rest": a, "page": a, "plain": b}} for a, b in zip(rest, plain, strict=True)]
    cells = {"x": {"benchmark": "serving", "cells": serving.combined(rounds)}}
    rows = tables.serving(cells).splitlines()
    assert rows[2] == "| x | 32 | 2 | rest | 60.0 (30.0 to 90.0) | 3.00 | 10.0 | 1,100 | 1,100 | 1,100 | 0.39 | 3 | 0 |"
    assert rows[4].endswith("| 3,000 | 3,000 | 3,000 | 1.00 | 0 | 5 TimeoutError |")

    state = {"resident_bytes": 2 * 10**8, "open_files": 14, "upload_files": 4000, "upload_bytes": 32_000_000}
    per = {"resident_bytes": 30_000.0, "open_files": 0.0, "upload_files": -1.0}
    side = {"samples": [{"predictions": k * 1000} | state for k in range(21)], "last_half_per_1000": per}
    found = {"x": {"benchmark": "soak", "sides": {"rest": side | {"busy": 0, "errors": {}, "seconds": 200}}}}
    assert tables.soak(found).splitlines()[-1] == "| x | rest | 20,000 | 200 | 14 | 4,000 | 32.0 |"
    assert tables.growth(found).splitlines()[-1] == "| x | rest | 100.0 | 0 | 0 | +0.03 | +0.00 | -1 |"


def test_tables_go_between_the_marks_and_nowhere_else():
    text = f"a {tables.BEGIN}old{tables.END} b {tables.BEGIN}\n{tables.END} c"
    filled = f"a {tables.BEGIN}\n1\n{tables.END} b {tables.BEGIN}\n2\n{tables.END} c"
    assert tables.filled(text, "1\n", "2\n") == filled


def test_the_page_is_what_the_measurements_give_and_they_name_no_path_of_a_machine():
    assert tables.PAGE.read_text() == tables.page(), "run `python -m benchmarks.tables`: docs/benchmarks.md is stale"
    for path in tables.PAGE.with_suffix("").glob("*.json"):
        assert not any(start in path.read_text() for start in ('"/', "=/", " /")), path


def test_the_published_threshold_shares_are_of_the_bundled_network():
    result = tables.results(tables.PAGE.with_suffix(""))["threshold-bundled"]
    config = artifact.read(BUNDLED).config
    assert result["model_sha256"] == config.sha256[artifact.WEIGHTS]
    assert result["thresholds"]["highest logit"] == pytest.approx(config.threshold, abs=TOLERANCE)
