"""The tab "About & API": its code is run as it stands there, against a running page."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from ast import literal_eval
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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

CURL, PYTHON, PYTHON_BATCH, PYTHON_CLIENT, JAVASCRIPT = (
    SNIPPETS[name] for name in ("curl", "python", "python-batch", "python-client", "javascript")
)


def python_load(source: Source) -> str:
    return snippets(source)["python-load"]


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
    blocks = re.findall(r"```(\w+)\n(.*?)\n```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    shown = sorted(block for block in blocks if block[0] != "json")
    python = [("python", code) for code in (PYTHON, PYTHON_BATCH, PYTHON_CLIENT)]
    assert shown == sorted([("sh", CURL), *python, ("js", JAVASCRIPT)])
    assert (CURL.count("\n"), PYTHON.count("\n"), PYTHON_CLIENT.count("\n"), JAVASCRIPT.count("\n")) == (0, 2, 2, 5)


def links(html: str) -> list[str]:
    return [link["href"] for link in find(html, "a")]


def test_a_model_from_the_hub_is_linked_with_its_card_at_its_commit():
    assert links(about_html(fake_classifier(FROM_HUB)))[:2] == [
        f"https://huggingface.co/ann/resnet/tree/{SHA}",
        f"https://huggingface.co/ann/resnet/blob/{SHA}/README.md",
    ]
    assert f'Classifier.load(\n    "ann/resnet",\n    revision="{SHA}",\n)' in python_load(FROM_HUB)


def test_the_bundled_model_has_its_card_in_the_project_and_needs_no_argument():
    html = about_html(fake_classifier())
    (card,) = (code.text for code in find(html, "code") if code.text.startswith("assets/"))
    assert (ROOT / card).is_file() and not any("huggingface" in link for link in links(html))
    assert "Classifier.load()" in python_load(FROM_PROJECT)


def test_a_folder_of_the_server_is_named_nowhere():
    html = about_html(fake_classifier(FROM_FOLDER))
    assert "secret" not in html and "/home" not in html
    assert f'Classifier.load("{MODEL_FOLDER}")' in python_load(FROM_FOLDER)


@pytest.mark.parametrize(("threshold", "there"), [(None, False), (4.5, True)])
def test_the_notice_is_explained_where_the_model_has_the_threshold_for_it(threshold, there):
    assert ("possibly out of distribution" in text(about_html(fake_classifier(threshold=threshold)))) == there


def test_names_and_sources_of_an_artifact_are_escaped():
    html = about_html(fake_classifier(Source("hub", Path("x"), EVIL, f"<i>{SHA}"), (f"{EVIL}1", "dog")))
    assert find(html, "i") == [] and f"{EVIL}1 and dog" in text(html)
    assert links(html)[0] == f"https://huggingface.co/{EVIL}/tree/<i>{SHA}"


@pytest.mark.parametrize("source", [FROM_PROJECT, FROM_FOLDER, FROM_HUB])
def test_links_open_in_a_tab_of_their_own_and_nothing_loads_by_itself(source):
    found = elements(about_html(fake_classifier(source)))
    anchors = [element for element in found if element.tag == "a"]
    assert len(anchors) == (0, 0, 2)[(FROM_PROJECT, FROM_FOLDER, FROM_HUB).index(source)] and all(
        (a["target"], a["rel"]) == ("_blank", "noopener noreferrer") for a in anchors
    )
    loading = {"img", "link", "iframe", "script", "video", "audio", "object", "embed", "source"}
    assert not loading & {element.tag for element in found}
    assert not any(name == "src" or name.startswith("on") for element in found for name in element.attributes)


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


def printed(answer: list[tuple[str, float]]) -> list[str]:
    return [f"{label} {round(probability, 3)}" for label, probability in answer]


def python(code: str, folder: Path) -> object:
    """What the code prints, as a value."""
    return literal_eval(run([sys.executable, "-c", code], folder)[-1])


def test_python_prints_the_classifiers_answer(served, folder, expected):
    code = PYTHON.replace(PAGE, served).replace("/api/predict", "/api/predict?top_k=3")
    assert same(python(code, folder), expected)
    assert len(python(PYTHON.replace(PAGE, served), folder)["confidences"]) == 5


def test_python_prints_the_answers_for_several_images_and_why_one_has_none(served, folder, expected):
    code = PYTHON_BATCH.replace(PAGE, served)
    assert [same(one | {"confidences": one["confidences"][:3]}, expected) for one in python(code, folder)] == [True] * 2
    (folder / "broken.png").write_bytes(b"not a picture")
    found = python(code.replace('"image.png"]', '"broken.png"]'), folder)
    assert list(found[0]) != ["error"] and "please save the image as" in found[1]["error"]


def test_gradio_client_prints_the_classifiers_answer(served, folder, expected):
    answer, details = python(PYTHON_CLIENT.replace(PAGE, served), folder)
    assert same(answer, expected) and set(details) == {"probably_none_of_these", "milliseconds"}


def test_the_model_is_loaded_from_a_folder_without_the_page(tiny_artifact, folder, expected):
    code = python_load(FROM_FOLDER).replace(MODEL_FOLDER, str(tiny_artifact))
    assert run([sys.executable, "-c", code], folder, PYTHONPATH=str(ROOT)) == printed(expected)


def test_the_bundled_model_is_loaded_without_the_page(folder):
    lines = run([sys.executable, "-c", python_load(FROM_PROJECT)], folder, PYTHONPATH=str(ROOT))
    assert lines == printed(Classifier.load().predict(Image.open(folder / "image.png"), top_k=3))


def test_the_model_is_loaded_from_the_hub_at_the_commit_of_the_page(hub, sha, folder, expected):
    hub.commit(REPO, {"config.json": b"{}"})  # of main; the page's commit is the one before
    env = environment(hub, folder / "home", PYTHONPATH=str(ROOT))
    assert run(
        [sys.executable, "-c", python_load(Source("hub", Path("anywhere"), REPO, sha))], folder, **env
    ) == printed(expected)


def same(answer: dict, expected: list[tuple[str, float]]) -> bool:
    found = [(entry["label"], entry["confidence"]) for entry in answer["confidences"]]
    assert found == [(label, pytest.approx(probability, abs=1e-6)) for label, probability in expected]
    return answer["label"] == expected[0][0]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_curl_prints_the_answer(served, folder, expected, shell):
    if not (shutil.which("curl") and shutil.which(shell)):
        cannot_run(f"no curl or no {shell} on this machine")
    lines = run([shell, "-c", CURL.replace(PAGE, served)], folder)
    assert same(json.loads(lines[0]), expected)
    (folder / "image.png").write_bytes(b"")
    with pytest.raises(AssertionError, match="422"):  # -f: curl fails where the server refuses
        run([shell, "-c", CURL.replace(PAGE, served)], folder)


def test_curl_code_holds_nothing_that_an_interactive_shell_takes_for_something_else():
    assert "#" not in CURL and "!" not in CURL


def test_javascript_prints_the_answer_in_node(served, folder, expected):
    if shutil.which("node") is None:
        pytest.skip("no node on this machine; the browser runs the same function")
    code = NODE_FILE + JAVASCRIPT.replace(PAGE, served)
    (folder / "ask.mjs").write_text(code + "\nconsole.log(JSON.stringify(found));")
    *said, line = run(["node", "ask.mjs"], folder)
    assert same(json.loads(line), expected) and said[0].startswith(f"{expected[0][0]} [")


NODE_FILE = "const file = new Blob([await (await import('node:fs/promises')).readFile('image.png')]);\n"
"""As the tab says of Node."""


def test_the_tab_says_where_node_has_its_file_from():
    assert NODE_FILE[len("const file = ") : -2] in text(about_html(fake_classifier()))


# In a browser


@pytest.fixture
def open_tab(browser, served):
    """Opens the tab in a new page; the page's errors are in its `errors`."""
    contexts = []

    def open_tab(**settings):
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 844}, **settings))
        contexts[-1].set_default_timeout(60_000)  # the machine may be slow, and busy
        page = contexts[-1].new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
        page.goto(served)
        page.get_by_role("tab", name="About & API").click()
        page.locator("#about .snippet").first.wait_for()
        # what is said for 2.5 seconds is said until `later`, lest a busy machine looks too late
        page.evaluate(
            """() => {
              const usual = window.setTimeout.bind(window), held = [];
              window.setTimeout = (call, wait, ...rest) => wait === 2500 ? held.push(call) : usual(call, wait, ...rest);
              window.later = () => held.splice(0).forEach(call => call());
            }"""
        )
        return page

    yield open_tab
    for context in contexts:
        context.close()


@pytest.mark.slow
def test_the_code_carries_the_address_of_the_page_as_the_visitor_sees_it(open_tab, served):
    page = open_tab()
    sent = snippets(FROM_FOLDER)
    shown = {name: page.locator(f"#code-{name}").text_content() for name in sent}
    assert shown == {name: code.replace(PAGE, served) for name, code in sent.items()}
    assert served in shown["curl"] and PAGE not in "".join(shown.values())
    assert page.errors == []


@pytest.fixture
def another_site(tmp_path) -> Iterator[str]:
    """The address of a page with an input for files, which is not ours."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("<!doctype html><input type=file>")
    handler = partial(SimpleHTTPRequestHandler, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_javascript_works_on_a_page_of_another_site_and_throws_why_there_is_no_answer(
    browser, served, another_site, folder, expected
):
    code = JAVASCRIPT.replace(PAGE, served)
    code = f"(async () => {{ const file = document.querySelector('input').files[0]; {code} }})()"
    page = browser.new_page()
    page.goto(another_site)
    page.set_input_files("input", folder / "image.png")
    with page.expect_console_message(lambda message: message.type == "log") as said:
        page.evaluate(code)
    label, confidences = (argument.json_value() for argument in said.value.args)
    assert same({"label": label, "confidences": confidences}, expected)
    (folder / "note.png").write_text("nothing")
    page.set_input_files("input", folder / "note.png")
    assert "please save the image as" in page.evaluate(f"{code}.catch(error => error.message)")
    page.close()


@pytest.mark.slow
def test_copy_puts_the_code_on_the_clipboard_and_says_so(open_tab, served):
    page = open_tab(permissions=["clipboard-read", "clipboard-write"])
    button = page.get_by_role("button", name="Copy: curl")
    button.focus()
    page.keyboard.press("Enter")
    page.locator("#about [role=status]", has_text="Copied").wait_for(state="attached")
    assert button.inner_text() == "Copied"
    assert page.evaluate("navigator.clipboard.readText()") == CURL.replace(PAGE, served)
    page.evaluate("window.later()")
    page.locator("#use-curl button", has_text=re.compile("^Copy$")).wait_for()


@pytest.mark.slow
def test_copy_works_without_the_clipboard_of_a_secure_page(open_tab, served):
    page = open_tab(permissions=["clipboard-read"])
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed')); }")
    page.get_by_role("button", name="Copy: Python", exact=True).click()
    page.locator("#about [role=status]", has_text="Copied").wait_for(state="attached")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == PYTHON.replace(PAGE, served).strip()


@pytest.mark.slow
def test_where_nothing_can_be_copied_the_code_is_selected_and_the_key_is_named(open_tab, served):
    page = open_tab()
    page.evaluate(
        "() => { navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed'));"
        "document.execCommand = () => false; }"
    )
    page.get_by_role("button", name="Copy: curl").click()
    page.locator("#about [role=status]", has_text="Press Ctrl+C").wait_for(state="attached")
    assert page.evaluate("getSelection().toString()").strip() == CURL.replace(PAGE, served).strip()
