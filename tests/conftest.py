"""A tiny made-up CIFAR-10 in the official format, an artifact that the real trainer made of it, and a loopback Hub."""

import hashlib
import io
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two threads stall each other on a busy machine

import numpy as np
import pytest

from model import artifact, cifar10
from tests.hub_client import REPO, contents, end_calls, point_client_at
from tests.loopback_hub import LoopbackHub

OTHER_HOST = "lan.test"
"""A name of this machine by which the browser of the tests does not recognize it."""

CHROMIUM_FLAGS = [
    *"--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking".split(),
    *"--disable-component-update --disable-sync".split(),
    *"--use-fake-device-for-media-stream --use-fake-ui-for-media-stream".split(),  # a camera, and leave to use it
    f"--host-resolver-rules=MAP {OTHER_HOST} 127.0.0.1",
]

TRAIN_PER_BATCH = 60
TEST_IMAGES = 250


def made_up_images(count: int, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Noise over a color that belongs to the class: uint8 (count, 32, 32, 3), labels (count,), classes in turn."""
    labels = np.arange(count) % 10
    colors = np.random.RandomState(7).randint(40, 216, (10, 1, 1, 3))
    return (colors[labels] + random.randint(-40, 40, (count, 32, 32, 3))).astype(np.uint8), labels


def write_batch(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    path.write_bytes(pickle.dumps({"data": rows, "labels": labels.tolist()}, protocol=2))


@pytest.fixture(scope="session")
def made_up_cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose files have the official names and format but not the official md5."""
    return write_dataset(tmp_path_factory.mktemp("data"), made_up_images)


def write_dataset(folder: Path, images: Callable, train_per_batch: int = TRAIN_PER_BATCH) -> Path:
    """As in `made_up_cifar`; `images(count, random)` gives the images and their labels."""
    batches = folder / cifar10.FOLDER
    batches.mkdir()
    random = np.random.RandomState(0)
    for name in cifar10.TRAIN_BATCHES:
        write_batch(batches / name, *images(train_per_batch, random))
    write_batch(batches / "test_batch", *images(TEST_IMAGES, random))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": list(cifar10.CLASS_NAMES)}))
    return folder


def md5_of(data_dir: Path) -> dict[str, str]:
    return {name: hashlib.md5((data_dir / cifar10.FOLDER / name).read_bytes()).hexdigest() for name in cifar10.MD5}


def sha256_of(data_dir: Path) -> dict[str, str]:
    found = {}
    for name in cifar10.SHA256:
        batch = pickle.loads((data_dir / cifar10.FOLDER / name).read_bytes())
        pixels = batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).tobytes()
        found[name] = hashlib.sha256(pixels + np.array(batch["labels"], "<i8").tobytes()).hexdigest()
    return found


@pytest.fixture
def tiny_cifar(made_up_cifar: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The made-up data folder, taken for the official one during the test: 300 training and 250 test images."""
    monkeypatch.setattr(cifar10, "MD5", md5_of(made_up_cifar))
    monkeypatch.setattr(cifar10, "SHA256", sha256_of(made_up_cifar))
    return made_up_cifar


TINY_FLAGS = ["--depth", "8", "--max-epochs", "2", "--batch-size", "30", "--device", "cpu", "--precision", "32-true"]


@pytest.fixture(scope="session")
def tiny_run(made_up_cifar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one whole `python -m trainer` on the made-up data (270 train, 30 val, 250 test images)."""
    return train(made_up_cifar, tmp_path_factory.mktemp("run") / "tiny")


def train(data_dir: Path, run_dir: Path, *flags: str) -> Path:
    """A whole `python -m trainer` on a dataset of `write_dataset`, into `run_dir`."""
    from trainer.__main__ import call

    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as output:
        patch.setattr(cifar10, "MD5", md5_of(data_dir))
        call([*TINY_FLAGS, *flags, "--data-dir", str(data_dir), "--output-dir", str(run_dir)])
    (run_dir / "stdout.txt").write_text(output.getvalue())
    return run_dir


@pytest.fixture(scope="session")
def tiny_artifact(tiny_run: Path) -> Path:
    """The artifact folder of `tiny_run`, with samples/."""
    return tiny_run / "artifact"


def reseal(folder: Path, **changes) -> None:
    """Writes config.json anew, with other values for some fields and the digests of the files as they are."""
    artifact.write_checksums(folder, replace(artifact.read_config(folder / artifact.CONFIG), **changes))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """An empty Hub that the client of this process speaks to, as user "ann", with an empty cache."""
    with LoopbackHub() as hub:
        point_client_at(hub.url, tmp_path / "hub-cache", monkeypatch)
        yield hub
        hub.heal()
        end_calls(hub)  # lest one that was given up closes the client's connections under the next test


@pytest.fixture
def sha(hub: LoopbackHub, tiny_artifact: Path) -> str:
    """The one commit of the repository REPO, which holds the tiny artifact."""
    return hub.add_repo(REPO, contents(tiny_artifact))


@pytest.fixture
def uploads(tmp_path, monkeypatch) -> Path:
    """Where gradio stores what visitors send, during the test."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A tests.tiny_server.Served with the usual limits and the bundled model."""
    from tests.tiny_server import served

    with served(tmp_path_factory.mktemp("uploads")) as server:
        yield server


@pytest.fixture
def address(server) -> str:
    return server.address


def cannot_run(reason: str) -> None:
    """Skips on a person's machine; where CI=true says that the tool must be there, fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def settle(page) -> None:
    """Waits for the end of the fades: axe would take them for faint text."""
    page.wait_for_timeout(400)
    page.evaluate(
        """() => Promise.race([
          new Promise(resolve => setTimeout(resolve, 10000)),
          Promise.allSettled(document.getAnimations()
            .filter(one => one.effect?.getComputedTiming().endTime < Infinity).map(one => one.finished)),
        ]).then(() => null)"""
    )


@contextmanager
def first_call_held(page):
    """The first call that the page makes meanwhile reaches the server at the end, when the others are answered (gradio
    loses the answer to a call that comes as it closes its stream). Gives a function that waits for it to be made."""
    held, pattern = [], "**/gradio_api/queue/join*"

    def wait():
        for _ in range(1200):
            if held:
                return
            page.wait_for_timeout(50)
        raise AssertionError("the page made no call")

    page.route(pattern, lambda route: route.continue_() if held else held.append(route))
    yield wait
    wait()
    page.wait_for_timeout(300)  # until the others are made
    page.wait_for_function("window.asked - window.answered < 2 && !window.streams")
    held[0].continue_()
    page.unroute(pattern)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A headless Chromium."""
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        cannot_run("playwright is not installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        cannot_run("no Chromium on this machine")
    expect.set_options(timeout=60_000)  # the machine may be slow, and busy
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS, timeout=120_000)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def bundled(browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page on the bundled network, which brings no test images."""
    from tests.serving import running_app

    folder = tmp_path_factory.mktemp("bundled")
    with running_app(folder, "--data-dir", str(folder / "none")) as address:
        yield address
