"""The tab "About & API": its code is run as it stands there, against a running page."""

import json
import os
import re
import shutil
import subprocess
import sys
from ast import literal_eval
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from model import Classifier, artifact
from model.hub import BUNDLED, Source
from tests.conftest import cannot_run
from tests.hub_client import REPO, environment
from tests.markup import EVIL, elements, find, text
from tests.serving import ROOT, running_app
from ui.about import MODEL_FOLDER, PAGE, SNIPPETS, about_html, snippets

about_html = partial(about_html, max_images=16, max_request_bytes=64 * 2**20)

SHA = "0123456789abcdef" * 2 + "01234567"

FROM_PROJECT = Source("bundled", BUNDLED)
FROM_FOLDER = Source("folder", Path("/home/ann/secret/artifact"))
FROM_HUB = Source("hub", Path("/home/ann/secret/cache"), "ann/resnet", SHA)


def fake_classifier(source: Source = FROM_PROJECT, names: tuple[str, ...] = ("cat", "dog", "cow"), **config):
    """With the numbers of the bundled model, but for those of `config`."""
    found = artifact.read(BUNDLED)
    return SimpleNamespace(
        class_names=names, config=replace(found.config, **config), metrics=found.metrics, source=source
    )


# What it says


def test_every_snippet_is_shown_with_a_copy_button_and_the_keyboard_reaches_it():
    html = about_html(fake_classifier(FROM_HUB))
    assert {code["id"]: code.text for code in find(html, "code") if "id" in code} == {
        f"code-{name}": code for name, code in snippets(FROM_HUB).items()
    }
    buttons = {button["data-code"]: button["aria-label"] for button in find(html, "button", "copy")}
    assert buttons.keys() == {f"code-{name}" for name in SNIPPETS}
    assert [f"Copy: {pre['aria-label']}" for pre in find(html, "pre")] == list(buttons.values())
    assert all(pre["tabindex"] == "0" for pre in find(html, "pre"))


def test_the_docs_have_the_same_code():
    shown = re.findall(r"```(?:sh|python|js)\n(.*?)\n```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    assert sorted(shown) == sorted(code for name, code in SNIPPETS.items() if name != "python-load")
    assert "#" not in SNIPPETS["curl"] and "!" not in SNIPPETS["curl"]  # an interactive shell takes these for its own


def test_the_model_is_named_by_its_source_and_never_by_where_it_lies_on_the_server():
    html = {source: about_html(fake_classifier(source)) for source in (FROM_PROJECT, FROM_FOLDER, FROM_HUB)}
    links = {source: [link["href"] for link in find(shown, "a")] for source, shown in html.items()}
    assert not any("secret" in shown or "/home" in shown for shown in html.values())
    hub = "https://huggingface.co/ann/resnet"
    assert links == {FROM_PROJECT: [], FROM_FOLDER: [], FROM_HUB: [f"{hub}/tree/{SHA}", f"{hub}/blob/{SHA}/README.md"]}
    (card,) = (code.text for code in find(html[FROM_PROJECT], "code") if code.text.startswith("assets/"))
    assert (ROOT / card).is_file()
    loaded = f'Classifier.load(\n    "ann/resnet",\n    revision="{SHA}",\n)'
    assert loaded in snippets(FROM_HUB)["python-load"]
    assert all(a["target"] == "_blank" and "noopener" in a["rel"] for a in find(html[FROM_HUB], "a"))


def test_the_notice_is_explained_where_the_model_has_the_threshold_for_it():
    shown = [text(about_html(fake_classifier(threshold=threshold))) for threshold in (None, 4.5)]
    assert ["possibly out of distribution" in one for one in shown] == [False, True]


def test_names_and_sources_of_an_artifact_bring_no_markup():
    html = about_html(fake_classifier(Source("hub", Path("x"), EVIL, f"<i>{SHA}"), (f"{EVIL}1", "dog")))
    assert find(html, "i") == [] and f"{EVIL}1 and dog" in text(html)
    assert find(html, "a")[0]["href"] == f"https://huggingface.co/{EVIL}/tree/<i>{SHA}"
    assert not any(name == "src" or name.startswith("on") for element in elements(html) for name in element)


def test_the_calls_with_their_inputs_and_limits_are_listed():
    shown = text(about_html(fake_classifier(fit="pad")))
    for words in (
        *("POST /api/predict", "POST /api/predict/batch", "POST /api/activation-map"),
        *("GET /api/model", "GET /api/health", "gradio_client has /predict and /model_info"),
        *("top_k from 1 to 3 (3)", "stretch (pad)", "503", "deleted about 15 minutes after"),
        "20 MB a file; 64 MB and 16 files a request; 25 megapixels an image, 64 for a plain",
    ):
        assert words in shown


# The code runs


@pytest.fixture(scope="module")
def served(tiny_artifact, tmp_path_factory):
    with running_app(tmp_path_factory.mktemp("app"), "--model", str(tiny_artifact)) as address:
        yield address


@pytest.fixture
def folder(tmp_path) -> Path:
    """With one image, as the code expects it."""
    across, down = np.meshgrid(np.arange(90), np.arange(60))
    pixels = np.stack([across * 2, down * 4, (across + down) % 256], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path


@pytest.fixture
def expected(tiny_artifact, folder) -> list[tuple[str, float]]:
    return Classifier.load(tiny_artifact).predict(Image.open(folder / "image.png"), top_k=3)


def run(command: list[str], folder: Path, **env: str) -> list[str]:
    """The lines that it prints; it must end well and complain of nothing."""
    env = {"HF_HUB_DISABLE_TELEMETRY": "1"} | {name: value for name, value in os.environ.items()} | env
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    return done.stdout.splitlines()


def printed(code: str, folder: Path) -> object:
    """What Python code prints, as a value."""
    return literal_eval(run([sys.executable, "-c", code], folder)[-1])


def same(answer: dict, expected: list[tuple[str, float]]) -> bool:
    found = [(entry["label"], entry["confidence"]) for entry in answer["confidences"][:3]]
    assert found == [(label, pytest.approx(probability, abs=1e-6)) for label, probability in expected]
    return answer["label"] == expected[0][0]


def test_python_prints_the_classifiers_answer_for_one_image_and_for_several(served, folder, expected):
    assert same(printed(SNIPPETS["python"].replace(PAGE, served), folder), expected)
    code = SNIPPETS["python-batch"].replace(PAGE, served)
    assert [same(one, expected) for one in printed(code, folder)] == [True] * 2
    (folder / "broken.png").write_bytes(b"no image")
    found = printed(code.replace('"image.png"]', '"broken.png"]'), folder)
    assert list(found[0]) != ["error"] and "please save the image as" in found[1]["error"]


def test_gradio_client_prints_the_classifiers_answer(served, folder, expected):
    answer, details = printed(SNIPPETS["python-client"].replace(PAGE, served), folder)
    assert same(answer, expected) and set(details) == {"probably_none_of_these", "milliseconds"}


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_curl_prints_the_answer_and_fails_where_the_server_refuses(served, folder, expected, shell):
    if not (shutil.which("curl") and shutil.which(shell)):
        cannot_run(f"no curl or no {shell} on this machine")
    command = [shell, "-c", SNIPPETS["curl"].replace(PAGE, served)]
    assert same(json.loads(run(command, folder)[0]), expected)
    (folder / "image.png").write_bytes(b"")
    with pytest.raises(AssertionError, match="422"):
        run(command, folder)


def test_javascript_prints_the_answer_in_node_which_has_its_file_as_the_tab_says(served, folder, expected):
    if shutil.which("node") is None:
        pytest.skip("no node on this machine; the browser runs the same function")
    (file,) = [code.text for code in find(about_html(fake_classifier()), "code") if code.text.startswith("const file")]
    code = f"{file}\n{SNIPPETS['javascript'].replace(PAGE, served)}\nconsole.log(JSON.stringify(found));"
    (folder / "ask.mjs").write_text(code)
    *said, line = run(["node", "--no-warnings", "ask.mjs"], folder)
    assert same(json.loads(line), expected) and said[0].startswith(f"{expected[0][0]} [")
    (folder / "image.png").write_bytes(b"no image")
    with pytest.raises(AssertionError, match="please save the image as"):
        run(["node", "--no-warnings", "ask.mjs"], folder)


@pytest.mark.parametrize("kind", ["bundled", "folder", "hub"])
def test_the_model_is_loaded_without_the_page(kind, hub, sha, tiny_artifact, folder, expected):
    hub.commit(REPO, {"config.json": b"{}"})  # of main; the page's commit is the one before
    source = {"bundled": FROM_PROJECT, "folder": FROM_FOLDER, "hub": Source("hub", Path("anywhere"), REPO, sha)}[kind]
    code = snippets(source)["python-load"].replace(MODEL_FOLDER, str(tiny_artifact))
    if kind == "bundled":
        expected = Classifier.load().predict(Image.open(folder / "image.png"), top_k=3)
    env = environment(hub, folder / "home", PYTHONPATH=str(ROOT))
    lines = run([sys.executable, "-c", code], folder, **env)
    assert lines == [f"{label} {round(probability, 3)}" for label, probability in expected]
