import json
import os
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import RandomSampler
from torchvision import transforms
from torchvision.datasets import CIFAR10
from typer.testing import CliRunner

from benchmarks import bare, classic, input_pipeline, tables, train_throughput
from benchmarks.train_throughput import ratio
from trainer.config import TrainConfig, configure
from trainer.fit import laid_out
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
    assert (module.network.depth, module.network.stem_kernel, module.network.shortcut) == (14, 1, "B")
    assert not module.network.mean.any() and (module.network.std == 1).all()
    (group,) = module.configure_optimizers().param_groups
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.3, 0.9, True, 1e-3)


@pytest.mark.parametrize("recipe", ["default", "report"])
def test_the_bare_loop_has_the_trainers_network_layout_and_optimizer(recipe):
    config = configure(recipe, {"depth": 8, "device": "cpu"})
    network = laid_out(build_network(config, (0.5,) * 3, (0.25,) * 3), config)
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
        laid_out(build_network(config, (0.5,) * 3, (0.25,) * 3), config)
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
    assert answer.exit_code == 0 and "| ours / classic |" in answer.stdout
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
