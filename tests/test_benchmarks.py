import asyncio
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import RandomSampler
from torchvision import transforms
from torchvision.datasets import CIFAR10
from typer.testing import CliRunner

from benchmarks import (
    bare,
    classic,
    input_pipeline,
    load,
    pictures,
    serving,
    soak,
    start,
    tables,
    threshold,
    train_throughput,
)
from benchmarks.train_throughput import ratio
from model import Classifier, artifact, cifar10
from model.architecture import Architecture
from model.hub import BUNDLED
from model.preprocess import to_square_rgb
from trainer.config import RECIPES, TrainConfig, configure
from trainer.evaluate import TOLERANCE
from trainer.fit import compile_if_asked
from trainer.module import build_network

PROJECT = Path(__file__).resolve().parent.parent
TINY = TrainConfig(depth=8, batch_size=30, max_epochs=2, device="cpu", precision="32-true")

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
def made_up_classic(made_up_cifar, monkeypatch):
    """The made-up data folder, which torchvision takes for the official one."""
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": None})
    return made_up_cifar


def run_of(config=TINY, images=60):
    return {
        "hyperparameters": config.hyperparameters(),
        "split": {"train": images},
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }


def test_the_classic_loader_decodes_shuffles_and_augments_picture_by_picture_in_four_workers(made_up_classic):
    loader = classic.train_loader(made_up_classic, 60, 30)
    dataset = loader.dataset.dataset
    assert type(dataset) is CIFAR10 and len(loader.dataset) == 60
    assert loader.num_workers == 4 and isinstance(loader.sampler, RandomSampler)
    steps = dataset.transform.transforms
    assert [type(step) for step in steps] == [
        transforms.RandomCrop,
        transforms.RandomHorizontalFlip,
        transforms.ToTensor,
        transforms.Normalize,
    ]
    assert steps[0].size == (32, 32) and steps[0].padding == 4
    image, label = loader.dataset[3]
    assert image.shape == (3, 32, 32) and image.dtype == torch.float32 and image.is_contiguous()
    assert image.min() < -0.5, "not normalised"
    assert label == 3


def test_the_classic_loop_is_eager_float32_logs_every_step_and_takes_lightnings_defaults(
    made_up_classic, tmp_path, monkeypatch
):
    logged = []
    monkeypatch.setattr(classic.Classic, "log", lambda self, name, value: logged.append(name))
    seen = []
    step = classic.Classic.training_step

    def spy(self, batch, index):
        seen.append((batch[0].is_contiguous(), torch.is_autocast_enabled("cpu"), self.network._compiled_call_impl))
        return step(self, batch, index)

    monkeypatch.setattr(classic.Classic, "training_step", spy)
    found = classic.measure(TINY, made_up_classic, 60)
    assert seen == [(True, False, None)] * 4  # two epochs of two steps, in NCHW
    assert logged == ["train_loss", "train_accuracy"] * 4
    assert found["images_per_second"] == found["epochs"][-1] > 0 and len(found["epochs"]) == 2
    trainer = classic.default_trainer("cpu", 2, tmp_path, classic.Clock())
    assert trainer.precision == "32-true" and trainer.log_every_n_steps == 50
    assert trainer.checkpoint_callback is not None and trainer.logger is not None


def test_the_classic_loop_has_the_runs_network_and_optimizer_and_normalises_once():
    config = TrainConfig(depth=14, stem_kernel=1, shortcut="B", learning_rate=0.3, weight_decay=1e-3)
    module = classic.Classic(config)
    architecture = Architecture(depth=14, stem_kernel=1, shortcut="B", num_classes=10)
    assert module.network.architecture == architecture
    assert not module.network.mean.any() and (module.network.std == 1).all()
    (group,) = module.configure_optimizers().param_groups
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.3, 0.9, True, 1e-3)


@pytest.mark.parametrize("recipe", ["default", "report"])
def test_the_bare_loop_has_the_trainers_network_layout_and_optimizer(recipe):
    config = configure(recipe, {"depth": 8, "device": "cpu"})
    network = build_network(config, (0.5,) * 3, (0.25,) * 3).to(memory_format=torch.channels_last)
    compile_if_asked(network, config)
    assert network.training and network._compiled_call_impl is None
    assert network.stage2[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    (group,) = bare.ready_optimizer(network, config, "cpu").param_groups
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (
        config.momentum,
        config.nesterov,
        config.weight_decay,
    )
    assert len(group["params"]) == len(list(network.parameters()))
    images, labels = bare.ready_batch(30, "cpu")
    assert images.is_contiguous(memory_format=torch.channels_last) and images.shape == (30, 3, 32, 32)
    assert 0 <= images.min() and 0.9 < images.max() <= 1 and labels.shape == (30,)


def test_the_bare_loop_follows_precision_and_compilation(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, mode: compiled.append(mode))
    for config in (TINY, TrainConfig(depth=8, compile=True), TrainConfig(depth=8, compile=True, cuda_graphs=True)):
        compile_if_asked(build_network(config, (0.5,) * 3, (0.25,) * 3), config)
    assert compiled == ["default", "reduce-overhead"]
    for precision, expected in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        with bare.autocast(precision, "cpu"):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


def test_the_bare_loop_warms_up_and_then_makes_as_many_steps_as_an_epoch_has(monkeypatch):
    steps = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, *rest: (steps.append(1), step(self, *rest)))
    assert bare.measure(run_of(images=100))["images_per_second"] > 0
    assert len(steps) == bare.WARMUP_STEPS + 3  # the short fourth batch is dropped


@pytest.mark.slow
def test_a_comparison_runs_end_to_end_and_writes_every_value(made_up_cifar, tmp_path, monkeypatch):
    python = tmp_path / "patched.py"
    python.write_text(PATCHED_PYTHON.format(data_dir=str(made_up_cifar)))
    monkeypatch.setattr(train_throughput, "PYTHON", [sys.executable, str(python)])
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    output = tmp_path / "out" / "train.json"
    sizes = ["--train-images", "60", "--batch-size", "30", "--repeats", "1"]
    command = [*sizes, "--data-dir", str(made_up_cifar), "--output", str(output), "--variant", "--precision 32-true"]
    answer = CliRunner().invoke(
        train_throughput.app, [*command, "--", "--depth", "8", "--device", "cpu"], catch_exceptions=False
    )
    assert answer.exit_code == 0 and "| speed-up |" in answer.stdout
    result = json.loads(output.read_text())
    assert result["settings"] == {"max_epochs": 2, "batch_size": 30, "train_images": 60} and result["rounds"] == 1
    (variant,) = result["variants"]
    assert variant["precision"] == "32-true" and variant["hyperparameters"]["depth"] == 8
    for side in (result["classic"], variant["ours"], variant["bare"]):
        (run,) = side["runs"]
        assert run["images_per_second"] == side["images_per_second"] > 0
        assert run["warmup_seconds"] > 0 and run["peak_host_bytes"] > 50e6 and run["peak_device_bytes"] is None
    ours, bare_loop = variant["ours"]["images_per_second"], variant["bare"]["images_per_second"]
    assert variant["ours_over_classic"] == ours / result["classic"]["images_per_second"]
    assert variant["ours_over_bare"] == ours / bare_loop
    assert {"cpu", "cores", "load_average", "versions", "git_commit", "started"} == result["machine"].keys()
    assert {"python", "torch", "torchvision", "lightning"} <= result["machine"]["versions"].keys()
    assert str(tmp_path) not in output.read_text() and str(made_up_cifar) not in output.read_text()


def made_up_trainer(module, *flags):
    """Stands for run_alone: a trainer that needs 2 s for its first epoch, and one second per 1,000 images after."""
    given = dict(flag.removeprefix("--").partition("=")[::2] for flag in flags if "=" in flag)
    images = int(flags[flags.index("--train-images") + 1])
    run_dir = Path(given["output-dir"])
    run_dir.mkdir()
    run = run_of(TrainConfig(batch_size=int(given["batch-size"])), images)
    run |= {"device": "CUDA: fast", "precision": "bf16-mixed", "threads": 1}
    (run_dir / "run.json").write_text(json.dumps(run | {"peak_memory_bytes": {"host": 1, "device": 7_000_000}}))
    (run_dir / "history.csv").write_text(f"epoch,images_per_second\n1,{images / 2}\n2,1000.0\n")
    return "", 5_000_000


def test_scaling_takes_the_last_epoch_at_every_size(monkeypatch, tmp_path):
    monkeypatch.setattr(train_throughput, "run_alone", made_up_trainer)
    output = tmp_path / "scaling.json"
    command = ["--scaling", "--repeats", "3", "--batch-size", "1000", "--output", str(output)]
    answer = CliRunner().invoke(train_throughput.app, command, catch_exceptions=False)
    result = json.loads(output.read_text())
    sizes = result["variants"][0]["sizes"]
    assert [size["epoch_seconds"] for size in sizes] == [5, 15, 45]
    assert [size["seconds_per_1000_images"] for size in sizes] == [1, 1, 1]
    run = sizes[0]["runs"][2]
    assert run["epochs"] == [2500, 1000] and run["warmup_seconds"] == 2
    assert run["peak_host_bytes"] == 5_000_000 and run["peak_device_bytes"] == 7_000_000
    assert "| 45,000 | 1,000 (1,000 to 1,000) | 45.00 | 1.0000 |" in answer.stdout


def test_a_ratio_is_the_median_of_the_rounds_own_ratios():
    fast, slow = ({"runs": [{"images_per_second": x} for x in speeds]} for speeds in ([4, 40, 90], [2, 10, 90]))
    assert ratio(fast, slow) == 2


def test_a_setting_that_the_other_loops_lack_is_refused():
    train_throughput.refuse_unlike(RECIPES["report"].hyperparameters())
    with pytest.raises(SystemExit, match="the other loops have no --trivial-augment: leave it out"):
        train_throughput.refuse_unlike(RECIPES["record"].hyperparameters())


def test_a_measurement_that_fails_ends_the_benchmark_with_its_last_words():
    with pytest.raises(SystemExit, match="(?s)trainer --depth 7 ended with 2.*6n.2"):
        train_throughput.run_alone("trainer", "--depth", "7")


@pytest.mark.parametrize("crop", input_pipeline.CROPS)
def test_all_input_pipelines_give_augmented_float_batches_in_the_unit_range(crop):
    config = input_pipeline.CROPS[crop]
    assert config.crop == crop
    loaders = input_pipeline.pipelines(config, images=300, images_one_by_one=200, device="cpu")
    assert list(loaders) == ["batched", "pil", "v2"]
    for loader, count in zip(loaders.values(), (256, 200, 200), strict=True):  # ours drops the short batch
        batches = [images for images, _ in loader]
        assert sum(map(len, batches)) == count
        assert batches[0].shape == (128, 3, 32, 32) and batches[0].dtype == torch.float32
        assert 0 <= batches[0].min() and 0.9 < batches[0].max() <= 1


def test_the_rivals_of_the_input_pipeline_have_the_crops_of_the_recipes():
    for make in (input_pipeline.pil_transform, input_pipeline.v2_transform):
        pad, resized = (make(config).transforms[0] for config in input_pipeline.CROPS.values())
        assert list(pad.size) == [32, 32] and pad.padding in (4, [4, 4, 4, 4])
        assert tuple(resized.scale) == (0.8, 1.0) and tuple(resized.ratio) == (0.9, 1.1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system keeps no process on a core")
def test_one_core_is_given_back():
    before = torch.get_num_threads(), os.sched_getaffinity(0)
    with input_pipeline.one_core():
        assert torch.get_num_threads() == 1 and len(os.sched_getaffinity(0)) == 1
    assert (torch.get_num_threads(), os.sched_getaffinity(0)) == before


def test_the_input_pipeline_benchmark_writes_every_round_and_prints_a_table(tmp_path):
    output = tmp_path / "input.json"
    command = ["--images", "256", "--images-one-by-one", "20", "--repeats", "3", "--output", str(output)]
    answer = CliRunner().invoke(input_pipeline.app, command, catch_exceptions=False)
    result = json.loads(output.read_text())
    assert result["benchmark"] == "input_pipeline" and result["device"].startswith("CPU: ")
    for crop in ("pad", "resized"):
        found = result["crops"][crop]
        for name in ("batched", "pil", "v2"):
            assert len(found[name]["runs"]) == 3
            assert found[name]["images_per_second"] == sorted(found[name]["runs"])[1]
        ratios = [a / b for a, b in zip(found["batched"]["runs"], found["pil"]["runs"], strict=True)]
        assert found["batched_over_pil"] == sorted(ratios)[1]
        assert f"| {crop} | {found['batched']['images_per_second']:,.0f} (" in answer.stdout


def test_the_page_is_what_the_measurements_give():
    assert tables.PAGE.read_text() == tables.page(), "run `python -m benchmarks.tables`: docs/benchmarks.md is stale"


def test_a_row_of_the_page_states_the_measurements_own_numbers():
    def side(*speeds):
        runs = [{"images_per_second": x, "warmup_seconds": x / 10, "peak_host_bytes": x * 10**7} for x in speeds]
        return {"runs": [run | {"peak_device_bytes": None} for run in runs], "images_per_second": speeds[1]}

    variant = {"flags": "--compile", "precision": "32-true", "ours": side(10, 20, 30), "bare": side(20, 25, 40)}
    variant |= {"ours_over_classic": 2.5, "ours_over_bare": 0.8}
    result = {"benchmark": "train_throughput", "flags": "", "classic": side(4, 8, 9), "variants": [variant]}
    found = {"train-x": result}
    name = "| train-x: `--compile`, 32-true"
    assert f"{name} | 8 (4 to 9) | 20 (10 to 30) | 25 (20 to 40) | 2.50 | 20.0% |\n" in tables.throughput(found)
    assert f"{name} | 0.9 | 3.0 | 4.0 | 0.09 GB | 0.30 GB | 0.40 GB |  |  |  |\n" in tables.costs(found)
    assert tables.scaling(found) == tables.input_pipeline(found) == "Not measured yet.\n"


def test_a_commit_is_short_and_says_where_files_differed():
    assert tables.short("0123456789abcdef") == "0123456789ab"
    assert tables.short("0123456789abcdef-dirty") == "0123456789ab-dirty"
    assert tables.short(None) == "unknown"


def test_tables_go_between_the_marks_and_nowhere_else():
    text = f"a {tables.BEGIN}old{tables.END} b {tables.BEGIN}\n{tables.END} c"
    assert tables.filled(text, "1\n", "2\n") == (
        f"a {tables.BEGIN}\n1\n{tables.END} b {tables.BEGIN}\n2\n{tables.END} c"
    )
    with pytest.raises(AssertionError, match="2 places for 1 tables"):
        tables.filled(text, "1\n")


def test_no_measurement_holds_a_path_of_the_machine():
    for path in (PROJECT / "docs" / "benchmarks").glob("*.json"):
        assert '"/' not in path.read_text() and "=/" not in path.read_text() and " /" not in path.read_text(), path


@pytest.mark.parametrize("megabytes", [0.1, 0.2, 0.5])
def test_a_drawn_photo_has_the_size_asked_for_and_the_pixels_of_such_a_photo(megabytes):
    jpeg = pictures.draw(int(megabytes * 1e6), seed=3)
    assert len(jpeg) == pytest.approx(megabytes * 1e6, rel=0.03)
    picture = Image.open(io.BytesIO(jpeg))
    width, height = picture.size
    assert picture.format == "JPEG" and picture.mode == "RGB"
    assert len(jpeg) / (width * height) == pytest.approx(0.36, rel=0.05) and width / height == pytest.approx(
        4 / 3, 0.03
    )


def test_the_seed_decides_what_is_drawn():
    assert pictures.draw(50_000, 1) == pictures.draw(50_000, 1) != pictures.draw(50_000, 2)


def test_a_marked_photo_has_other_bytes_and_the_same_pixels():
    jpeg = pictures.draw(20_000, 0)
    marked = [pictures.unique(jpeg, mark) for mark in ("a-1", "a-2")]
    assert len({jpeg, *marked}) == 3
    opened = [Image.open(io.BytesIO(each)) for each in marked]
    assert [each.info["comment"] for each in opened] == [b"a-1", b"a-2"]
    assert {each.tobytes() for each in opened} == {Image.open(io.BytesIO(jpeg)).tobytes()}


def test_a_percentile_is_a_value_that_was_measured():
    values = [float(value) for value in range(100, 0, -1)]
    assert [load.percentile(values, percent) for percent in (50, 95, 99)] == [50, 95, 99]
    assert load.percentile([3.0, 1.0, 2.0], 50) == 2 and load.percentile([7.0], 99) == 7
    assert load.summary([0.002, 0.001]) == {"p50": 1.0, "p95": 2.0, "p99": 2.0} and load.summary([]) is None


def test_only_a_finished_call_with_a_prediction_is_an_answer():
    best = {"label": "cat", "confidences": [{"label": "cat", "confidence": 1}]}
    stream = f"event: heartbeat\ndata: null\n\nevent: complete\ndata: {json.dumps([best])}\n\n"
    assert load.answer(stream) == [best]
    empty = 'event: complete\ndata: [{"confidences": []}]\n\n'
    for text, kind in (("event: error\ndata: null\n\n", "error event"), ("", "empty stream"), (empty, "no prediction")):
        with pytest.raises(load.Refused, match=kind):
            load.answer(text)


def made_up_server(statuses):
    """Gives what an image is sent to these statuses in turn, and answers like app.py; events come in chunks."""
    seen = []

    async def serve(reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length: ")[2].split("\r\n")[0] or 0)
                seen.append((head.split(" HTTP")[0], await reader.readexactly(length)))
                status, body = 200, b'{"event_id": "7"}'
                if "/upload" in head:
                    status, body = next(statuses), b'["/stored"]'
                elif "/api/predict" in head:
                    status, body = next(statuses), b'{"confidences": [1]}'
                if head.startswith("GET"):
                    body = b'event: complete\ndata: [{"confidences": [1]}]\n\n'
                    chunks = (
                        b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:9], body[9:])) + b"0\r\n\r\n"
                    )
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
                else:
                    writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))
        except asyncio.IncompleteReadError:
            writer.close()

    return serve, seen


def ask_made_up_server(protocol, statuses, clients, requests):
    async def both():
        serve, seen = made_up_server(iter(statuses))
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            jpegs = [pictures.draw(5_000, 0)]
            found = await load.Load(protocol, f"http://127.0.0.1:{port}", jpegs, "m").run(clients, requests=requests)
        return found, seen

    return asyncio.run(both())


def test_a_prediction_of_gradio_is_upload_call_and_stream():
    found, seen = ask_made_up_server("gradio", [200] * 3, clients=1, requests=3)
    assert [what for what, _ in seen[:3]] == [
        "POST /gradio_api/upload",
        "POST /gradio_api/call/v2/predict",
        "GET /gradio_api/call/predict/7",
    ]
    assert len(seen) == 9 and b'name="files"; filename="photo.jpg"' in seen[0][1]
    assert json.loads(seen[1][1]) == {"image": {"path": "/stored", "meta": {"_type": "gradio.FileData"}}}
    assert found["answered"] == 3 and found["busy"] == 0 and found["errors"] == {}


def test_a_prediction_over_rest_is_one_request_and_no_two_send_the_same_bytes():
    found, seen = ask_made_up_server("rest", [200] * 3, clients=1, requests=3)
    assert [what for what, _ in seen] == ["POST /api/predict"] * 3
    assert all(b'name="image"; filename="photo.jpg"' in body for _, body in seen)
    assert len({body for _, body in seen}) == 3
    assert found["answered"] == 3 and found["busy"] == 0 and found["errors"] == {}
    assert found["requests_per_second"] == 3 / found["seconds"] and found["latency"]["p50"] > 0


@pytest.mark.parametrize("protocol", load.PROTOCOLS)
def test_busy_and_errors_are_counted_by_kind_and_are_no_answers(monkeypatch, protocol):
    monkeypatch.setattr(load, "BUSY_PAUSE", 0.01)
    found, _ = ask_made_up_server(protocol, [503, 200, 500, 503, 200], clients=2, requests=5)
    assert (found["answered"], found["busy"], found["errors"]) == (2, 2, {"HTTP 500": 1})


def test_servers_get_two_cores_and_the_load_the_rest_where_there_is_a_rest():
    assert serving.split({0, 1}) == ({0, 1}, {0, 1})
    assert serving.split({2, 3, 5, 7}) == ({2, 3}, {5, 7})


def made_up_run(rate, latency, busy=0, **errors):
    answered = rate * 10
    run = {"seconds": 10, "answered": answered, "requests_per_second": float(rate), "busy": busy, "errors": errors}
    percentiles = {f"p{percent}": float(latency) for percent in (50, 95, 99)} if answered else None
    return run | {"latency": percentiles, "server_processor_seconds": answered / 100}


def made_up_cell(rest, page, plain):
    rounds = zip(rest, page, plain, strict=True)
    (cell,) = serving.combined([{(32, 2.0): dict(zip(serving.SIDES, runs, strict=True))} for runs in rounds])
    return cell


def test_the_ratios_of_a_cell_are_the_medians_of_the_rounds_own_ratios():
    rest = [made_up_run(30, 100), made_up_run(80, 50), made_up_run(50, 20)]
    plain = [made_up_run(10, 200), made_up_run(20, 200), made_up_run(5, 200)]
    cell = made_up_cell(rest, [made_up_run(0, 0)] * 3, plain)
    assert (cell["clients"], cell["megabytes"]) == (32, 2)
    assert [run["requests_per_second"] for run in cell["sides"]["plain"]["runs"]] == [10, 20, 5]
    ratios = {side: (each["rate_over_plain"], each["p50_over_plain"]) for side, each in cell["sides"].items()}
    assert ratios == {"rest": (4, 0.25), "page": (None, None), "plain": (1, 1)}


def test_every_side_is_first_in_turn():
    orders = [serving.rotated(["a", "b", "c"], number) for number in range(4)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


@pytest.mark.slow
def test_rest_page_and_the_plain_demo_are_measured_in_one_run(tiny_artifact, tmp_path):
    output = tmp_path / "serving.json"
    command = ["--quick", "--artifact", str(tiny_artifact), "--output", str(output)]
    answer = CliRunner().invoke(serving.app, command, catch_exceptions=False)
    result = json.loads(output.read_text())
    assert answer.exit_code == 0 and "| p50 / plain |" in answer.stdout and result["rounds"] == 1
    assert [(cell["clients"], cell["megabytes"]) for cell in result["cells"]] == serving.QUICK
    for cell in result["cells"]:
        assert list(cell["sides"]) == ["rest", "page", "plain"]
        for side, measured in cell["sides"].items():
            (run,) = measured["runs"]
            assert run["answered"] > 0 and run["busy"] == 0 and run["errors"] == {}, f"{side}: {run}"
            assert run["latency"]["p50"] <= run["latency"]["p95"] and run["server_processor_seconds"] > 0
    assert {"gradio", "onnxruntime"} <= result["machine"]["versions"].keys() and str(tmp_path) not in output.read_text()


@pytest.mark.slow
def test_a_soak_looks_at_memory_files_and_descriptors_after_every_so_many(tiny_artifact, tmp_path):
    output = tmp_path / "soak.json"
    command = ["--predictions", "30", "--every", "10", "--clients", "2", "--artifact", str(tiny_artifact)]
    CliRunner().invoke(soak.app, [*command, "--output", str(output)], catch_exceptions=False)
    sides = json.loads(output.read_text())["sides"]
    stored = {side: [each["upload_files"] for each in found["samples"]] for side, found in sides.items()}
    assert stored == {"rest": [0] * 4, "page": [0, 10, 20, 30]}, "an image is stored otherwise, or elsewhere"
    for found in sides.values():
        assert [each["predictions"] for each in found["samples"]] == [0, 10, 20, 30]
        assert found["busy"] == 0 and found["errors"] == {} and found["seconds"] > 0
        assert found["samples"][-1]["resident_bytes"] > 50e6 and found["samples"][-1]["open_files"] > 3
    assert 100_000 < sides["page"]["samples"][-1]["upload_bytes"] < 400_000
    assert sides["page"]["last_half_per_1000"]["upload_files"] == pytest.approx(1000)


def test_growth_is_the_slope_of_the_last_half():
    memory = [10, 50, 90, 100, 102, 104, 106, 108]
    samples = [{"predictions": 1000 * step, "resident_bytes": each} for step, each in enumerate(memory)]
    assert soak.slope(samples, "resident_bytes") == pytest.approx(2)


def test_a_start_is_compared_round_by_round():
    def run(seconds, size):
        return {"seconds": seconds, "processor_seconds": seconds, "resident_bytes": size}

    runs = {"app": [run(2.0, 100), run(3.0, 90), run(9.0, 80)], "bare": [run(4.0, 200), run(4.0, 300), run(9.0, 100)]}
    found = start.combined(runs)
    assert found["seconds_ratio"] == 0.75 and found["resident_bytes_ratio"] == 0.5
    assert start.command("app", 5)[1:] == [str(PROJECT / "app.py"), "--host", "127.0.0.1", "--port", "5"]
    row = tables.start({"start-x": {"benchmark": "start"} | found}).splitlines()[-1]
    assert row.startswith("| start-x | 3.00 (2.00 to 9.00) | 4.00 (4.00 to 9.00) | 0.75 | ") and row.endswith(
        " | 0.50 |"
    )


def test_the_serving_table_states_rates_waits_busy_and_errors():
    rest = [made_up_run(30, 900, busy=2), made_up_run(90, 1100), made_up_run(60, 1300, busy=1)]
    plain = [made_up_run(10, 2000, TimeoutError=1), made_up_run(0, 0, TimeoutError=4), made_up_run(20, 4000)]
    found = {"serving-x": {"benchmark": "serving", "cells": [made_up_cell(rest, rest, plain)]}}
    rows = tables.serving(found).splitlines()[2:]
    assert len(rows) == 3
    numbers = "60.0 (30.0 to 90.0) | 3.00 | 10.0 | 1,100 | 1,100 | 1,100 | 0.39 | 3 | 0 |"
    assert rows[0] == f"| serving-x | 32 | 2 | rest | {numbers}"
    numbers = "10.0 (0.0 to 20.0) | 1.00 | 10.0 | 3,000 | 3,000 | 3,000 | 1.00 | 0 | 5 TimeoutError |"
    assert rows[2] == f"| serving-x | 32 | 2 | plain | {numbers}"
    assert tables.soak(found) == tables.start(found) == tables.growth(found) == "Not measured yet.\n"


def test_the_soak_tables_state_the_course_and_what_grows():
    state = {"resident_bytes": 2 * 10**8, "open_files": 14, "upload_files": 4000, "upload_bytes": 32_000_000}
    samples = [{"predictions": step * 1000} | state for step in range(21)]
    per = {"resident_bytes": 30_000.0, "open_files": 0.0, "upload_files": -1.0}
    side = {"samples": samples, "last_half_per_1000": per, "busy": 0, "errors": {}, "seconds": 200}
    found = {"soak-x": {"benchmark": "soak", "sides": {"rest": side, "page": side}}}
    course = tables.soak(found).splitlines()
    assert len(course) == 2 + 2 * 11 and course[-1] == "| soak-x | page | 20,000 | 200 | 14 | 4,000 | 32.0 |"
    rows = tables.growth(found).splitlines()[2:]
    assert rows == [f"| soak-x | {name} | 100.0 | 0 | 0 | +0.03 | +0.00 | -1 |" for name in ("rest", "page")]


VAL = np.random.RandomState(0).randint(0, 256, (6, 32, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", threshold.KINDS)
def test_every_kind_without_a_class_is_drawn_from_its_seed_in_rgb(kind):
    def drawn(count, seed):
        return [np.asarray(picture) for picture in threshold.pictures(kind, count, seed, VAL)]

    pictures = threshold.pictures(kind, 3, 1, VAL)
    assert {picture.mode for picture in pictures} == {"RGB"} and {picture.size for picture in pictures} <= {
        (32, 32),
        (threshold.SIDE, threshold.SIDE),
    }
    assert len({to_square_rgb(picture).tobytes() for picture in pictures}) == 3
    assert all((a == b).all() for a, b in zip(drawn(3, 1), drawn(3, 1), strict=True))
    assert not all((a == b).all() for a, b in zip(drawn(3, 1), drawn(3, 2), strict=True))


def test_no_picture_of_text_is_without_letters():
    for picture in threshold.pictures("text", 20, 0, VAL):
        assert np.ptp(np.asarray(to_square_rgb(picture).convert("L"))) > 10


@pytest.mark.parametrize("side", [8, 4])
def test_shuffled_blocks_are_whole_and_each_is_there_once(side):
    image = np.arange(32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    image[..., 0] = np.arange(32)[:, None] // side * 8 + np.arange(32) // side  # the number of the block
    mixed = np.asarray(threshold.shuffled(image, side, np.random.default_rng(0)))

    def blocks(picture):
        starts = range(0, 32, side)
        return [picture[y : y + side, x : x + side].tobytes() for y in starts for x in starts]

    assert sorted(blocks(mixed)) == sorted(blocks(image)) and blocks(mixed) != blocks(image)


def test_the_scores_are_the_highest_probability_the_highest_logit_and_logsumexp(tiny_artifact):
    classifier = Classifier.load(tiny_artifact)
    logits = np.random.RandomState(0).normal(0, 3, (7, 10)).astype(np.float32)
    found = {score: columns.max(1) for score, columns in threshold.scores(classifier, logits).items()}
    scaled = torch.from_numpy(logits / classifier.config.temperature)
    expected = (torch.softmax(scaled, 1).amax(1), torch.from_numpy(logits).amax(1))
    expected = (*expected, torch.logsumexp(torch.from_numpy(logits), 1))
    assert list(found) == ["highest probability", "highest logit", "logsumexp of logits"]
    for score, values in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(score, values, rtol=1e-5)


def test_the_threshold_benchmark_counts_what_is_below_and_reads_no_test_image(
    tiny_artifact, tiny_cifar, tmp_path, monkeypatch
):
    monkeypatch.setattr(cifar10, "TEST_BATCHES", ("not-there",))  # whoever reads the test images fails
    output = tmp_path / "threshold.json"
    command = ["--data-dir", str(tiny_cifar), "--artifact", str(tiny_artifact), "--pictures", "4"]
    answer = CliRunner().invoke(threshold.app, [*command, "--output", str(output)], catch_exceptions=False)
    result, classifier = json.loads(output.read_text()), Classifier.load(tiny_artifact)
    assert result["settings"] == {"pictures_of_a_kind": 4, "seed": 0, "val_images": 30}
    assert result["thresholds"]["highest logit"] == pytest.approx(classifier.config.threshold, abs=1e-5)
    assert result["val_below"] == dict.fromkeys(result["thresholds"], 1 / 30)
    assert list(result["below"]) == list(threshold.KINDS)
    for kind in threshold.DRAWN:
        logits = classifier.logits(threshold.pictures(kind, 4, 0, VAL))
        expected = (logits.max(1) < result["thresholds"]["highest logit"]).mean()
        assert result["below"][kind]["highest logit"] == expected
    for score, mean in result["mean_below"].items():
        assert mean == pytest.approx(np.mean([shares[score] for shares in result["below"].values()]))
    assert f"| this run | **mean of {len(threshold.KINDS)} categories** | " in answer.stdout
    assert str(tmp_path) not in output.read_text() and str(tiny_cifar) not in output.read_text()


def test_the_threshold_benchmark_takes_no_other_val_images_than_the_artifacts(tiny_artifact, tiny_cifar, monkeypatch):
    classifier = Classifier.load(tiny_artifact)
    assert len(threshold.val_images(classifier, tiny_cifar)) == 30
    training = classifier.metrics.training
    other = replace(training, split=replace(training.split, val_sha256="0" * 64))
    monkeypatch.setattr(classifier, "metrics", replace(classifier.metrics, training=other))
    with pytest.raises(SystemExit, match="other val images"):
        threshold.val_images(classifier, tiny_cifar)


def test_the_threshold_table_has_every_kind_the_mean_and_val():
    scores = {"highest logit": 5.4501}
    result = {"benchmark": "threshold", "thresholds": scores, "below": {"noise": {"highest logit": 0.325}}}
    result |= {"mean_below": {"highest logit": 0.5}, "val_below": {"highest logit": 0.05}}
    assert tables.threshold({"threshold-x": result}).splitlines()[2:] == [
        "| threshold-x | noise | 32.5% |",
        "| threshold-x | **mean of 1 categories** | 50.0% |",
        "| threshold-x | val images | 5.0% |",
        "| threshold-x | *threshold* | 5.450 |",
    ]
    assert tables.threshold({}) == "Not measured yet.\n"


def test_the_published_threshold_shares_are_of_the_bundled_network():
    result = tables.results(tables.PAGE.with_suffix(""))["threshold-bundled"]
    config = artifact.read(BUNDLED).config
    assert result["model_sha256"] == config.sha256[artifact.WEIGHTS]
    assert result["thresholds"]["highest logit"] == pytest.approx(config.threshold, abs=TOLERANCE)
