"""The tab "About & API": its code is run as it stands there, against a running page."""

import json
import os
import re
import shutil
import subprocess
import sys
from ast import literal_eval
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from model import Classifier, artifact
from model.hub import BUNDLED, Source
from model.preprocess import open_image
from tests.conftest import cannot_run
from tests.hub_client import REPO, environment
from tests.image_files import noise_png
from tests.markup import find, text
from tests.serving import ROOT, running_app
from ui.about import MODEL_FOLDER, PAGE, SNIPPETS, about_html, snippets

SHA = "0123456789abcdef" * 2 + "01234567"

FROM_PROJECT = Source("bundled", BUNDLED)
FROM_FOLDER = Source("folder", Path("/home/ann/secret/artifact"))
FROM_HUB = Source("hub", Path("/home/ann/secret/cache"), "ann/resnet", SHA)


def about(source: Source = FROM_PROJECT, **config) -> str:
    """The tab for a model of three classes with the numbers of the bundled one, but for those of `config`."""
    found = artifact.read(BUNDLED)
    config, names = replace(found.config, **config), ("cat", "dog", "cow")
    model = SimpleNamespace(class_names=names, config=config, metrics=found.metrics, source=source)
    return about_html(model, max_images=16, max_request_bytes=64 * 2**20)


# What it says


def test_every_snippet_is_shown_with_a_copy_button_and_stands_in_the_docs():
    html = about(FROM_HUB)
    shown = {code["id"]: code.text for code in find(html, "code") if "id" in code}
    assert shown == {f"code-{name}": code for name, code in snippets(FROM_HUB).items()}
    buttons = {button["data-code"]: button["aria-label"] for button in find(html, "button", "copy")}
    assert buttons.keys() == shown.keys()
    assert [(f"Copy: {pre['aria-label']}", pre["tabindex"]) for pre in find(html, "pre")] == [
        (label, "0") for label in buttons.values()
    ]
    docs = re.findall(r"```(?:sh|python|js)\n(.*?)\n```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    assert sorted(docs) == sorted(code for name, code in SNIPPETS.items() if name != "python-load")
    assert "#" not in SNIPPETS["curl"] and "!" not in SNIPPETS["curl"]  # an interactive shell takes these for its own


def test_the_model_is_named_by_its_source_and_never_by_where_it_lies_on_the_server():
    html = {source: about(source) for source in (FROM_PROJECT, FROM_FOLDER, FROM_HUB)}
    links = {source: [link["href"] for link in find(shown, "a")] for source, shown in html.items()}
    assert not any("secret" in shown or "/home" in shown for shown in html.values())
    hub = "https://huggingface.co/ann/resnet"
    assert links == {FROM_PROJECT: [], FROM_FOLDER: [], FROM_HUB: [f"{hub}/tree/{SHA}", f"{hub}/blob/{SHA}/README.md"]}
    (card,) = (code.text for code in find(html[FROM_PROJECT], "code") if code.text.startswith("assets/"))
    assert (ROOT / card).is_file()
    assert all(a["target"] == "_blank" and "noopener" in a["rel"] for a in find(html[FROM_HUB], "a"))


def test_the_calls_with_their_inputs_and_limits_are_listed():
    shown = text(about(fit="pad"))
    for words in (
        *("POST /api/predict", "POST /api/predict/batch", "POST /api/activation-map"),
        *("GET /api/model", "GET /api/health", "gradio_client has /predict and /model_info"),
        *("top_k from 1 to 3 (3)", "stretch (pad)", "503", "deleted about 15 minutes after"),
        "20 MB a file; 64 MB and 16 files a request; 25 megapixels an image, 64 for a plain",
    ):
        assert words in shown
    assert ["possibly out of distribution" in text(about(threshold=one)) for one in (None, 4.5)] == [False, True]


# The code runs


@pytest.fixture(scope="module")
def served(tiny_artifact, tmp_path_factory):
    with running_app(tmp_path_factory.mktemp("app"), "--model", str(tiny_artifact)) as address:
        yield address


@pytest.fixture
def folder(tmp_path) -> Path:
    """With one image, as the code expects it."""
    (tmp_path / "image.png").write_bytes(noise_png(5))
    return tmp_path


@pytest.fixture
def expected(tiny_artifact) -> list[tuple[str, float]]:
    return Classifier.load(tiny_artifact).predict(open_image(noise_png(5)), top_k=3)


def run(command: list[str], folder: Path, **env: str) -> list[str]:
    """The lines that it prints; it must end well and complain of nothing."""
    env = {"HF_HUB_DISABLE_TELEMETRY": "1"} | dict(os.environ) | env
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    return done.stdout.splitlines()


def python(code: str, folder: Path) -> object:
    """What it prints, as a value."""
    return literal_eval(run([sys.executable, "-c", code], folder)[-1])


def same(answer: dict, expected: list[tuple[str, float]]) -> bool:
    found = [(entry["label"], entry["confidence"]) for entry in answer["confidences"][:3]]
    assert found == [(label, pytest.approx(probability, abs=1e-6)) for label, probability in expected]
    return answer["label"] == expected[0][0]


def test_python_prints_the_classifiers_answer_for_one_image_and_for_several(served, folder, expected):
    code = {name: code.replace(PAGE, served) for name, code in SNIPPETS.items()}
    assert same(python(code["python"], folder), expected)
    answer, details = python(code["python-client"], folder)
    assert same(answer, expected) and set(details) == {"probably_none_of_these", "milliseconds"}
    (folder / "broken.png").write_bytes(b"no image")
    found = python(code["python-batch"].replace('"image.png"]', '"broken.png"]'), folder)
    assert same(found[0], expected) and "please save the image as" in found[1]["error"]


def test_curl_and_node_print_the_answer_and_fail_where_the_server_refuses(served, folder, expected):
    (file,) = [code.text for code in find(about(), "code") if code.text.startswith("const file")]
    code = f"{file}\n{SNIPPETS['javascript'].replace(PAGE, served)}\nconsole.log(JSON.stringify(found));"
    (folder / "ask.mjs").write_text(code)
    commands = {
        "curl": (["sh", "-c", SNIPPETS["curl"].replace(PAGE, served)], "422"),
        "node": (["node", "--no-warnings", "ask.mjs"], "please save the image as"),
    }
    if shutil.which("curl") is None:
        cannot_run("no curl on this machine")
    there = [name for name in commands if shutil.which(name)]  # without node: the browser runs the same function
    for name in there:
        assert same(json.loads(run(commands[name][0], folder)[-1]), expected)
    (folder / "image.png").write_bytes(b"no image")
    for name in there:
        with pytest.raises(AssertionError, match=commands[name][1]):
            run(commands[name][0], folder)


@pytest.mark.parametrize("kind", ["bundled", "folder", "hub"])
def test_the_model_is_loaded_without_the_page(kind, hub, sha, tiny_artifact, folder, expected):
    hub.commit(REPO, {"config.json": b"{}"})  # of main; the page's commit is the one before
    source = {"bundled": FROM_PROJECT, "folder": FROM_FOLDER, "hub": Source("hub", Path("anywhere"), REPO, sha)}[kind]
    code = snippets(source)["python-load"].replace(MODEL_FOLDER, str(tiny_artifact))
    if kind == "bundled":
        expected = Classifier.load().predict(open_image(noise_png(5)), top_k=3)
    lines = run([sys.executable, "-c", code], folder, **environment(hub, folder / "home", PYTHONPATH=str(ROOT)))
    assert lines == [f"{label} {round(probability, 3)}" for label, probability in expected]
