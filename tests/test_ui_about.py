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
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

try:
    from playwright.sync_api import expect
except ImportError:
    expect = None  # the fixture `browser` says so

from model import Classifier, artifact
from model.hub import BUNDLED, Source
from tests.conftest import cannot_run, settle
from tests.hub_client import REPO, environment
from tests.serving import ROOT, running_app
from ui.about import (
    CURL,
    FOLDER,
    JAVASCRIPT,
    PAGE,
    PYTHON,
    PYTHON_BATCH,
    PYTHON_CLIENT,
    about,
    python_load,
)

about = partial(about, max_images=16, max_request_bytes=64 * 2**20)

SHA = "0123456789abcdef" * 2 + "01234567"
AXE_SERIOUS = ("serious", "critical")

FROM_PROJECT = Source("bundled", BUNDLED)
FROM_FOLDER = Source("folder", Path("/home/ann/secret/artifact"))
FROM_HUB = Source("hub", Path("/home/ann/secret/cache"), "ann/resnet", SHA)


def fake_classifier(source: Source = FROM_PROJECT, names: tuple[str, ...] = ("cat", "dog", "cow"), **config):
    """With the numbers of the bundled model, but for those of `config`."""
    found = artifact.read(BUNDLED)
    return SimpleNamespace(
        class_names=names, config=replace(found.config, **config), metrics=found.metrics, source=source
    )


def code_shown(html: str) -> dict[str, str]:
    """The snippets of the tab, by the name in their id."""
    return {
        name: unescape(code) for name, code in re.findall(r'<code id="code-([\w-]+)">(.*?)</code>', html, re.DOTALL)
    }


# What it says


def test_the_code_in_the_tab_is_the_code_that_these_tests_run():
    assert code_shown(about(fake_classifier())) == {
        "curl": CURL,
        "python": PYTHON,
        "python-batch": PYTHON_BATCH,
        "python-client": PYTHON_CLIENT,
        "javascript": JAVASCRIPT,
        "python-load": python_load(FROM_PROJECT),
    }


def test_the_docs_have_the_same_code():
    blocks = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    shown = [(kind, code.rstrip("\n")) for kind, code in blocks if kind != "json"]
    python = [("python", code.rstrip("\n")) for code in (PYTHON, PYTHON_BATCH, PYTHON_CLIENT)]
    assert shown == [("sh", CURL), *python[:2], ("js", JAVASCRIPT.rstrip("\n")), python[2]]
    assert (CURL.count("\n"), PYTHON.count("\n"), PYTHON_CLIENT.count("\n"), JAVASCRIPT.count("\n")) == (0, 3, 3, 6)


def test_every_snippet_has_a_heading_a_copy_button_and_code_that_the_keyboard_reaches():
    html = about(fake_classifier())
    for name in code_shown(html):
        part = re.search(rf'<article class="snippet" id="use-{name}">.*?</article>', html, re.DOTALL)[0]
        title = re.search("<h3>(.*?)</h3>", part)[1]
        assert f'data-code="code-{name}" aria-label="Copy: {title}"' in part
        assert f'<pre tabindex="0" role="group" aria-label="{title}">' in part


def links(html: str) -> list[str]:
    return re.findall(r'<a href="([^"]*)"', html)


def test_a_model_from_the_hub_is_linked_with_its_card_at_its_commit():
    html = about(fake_classifier(FROM_HUB))
    assert links(html)[:2] == [
        f"https://huggingface.co/ann/resnet/tree/{SHA}",
        f"https://huggingface.co/ann/resnet/blob/{SHA}/README.md",
    ]
    assert f'Classifier.load(\n    "ann/resnet",\n    revision="{SHA}",\n)' in code_shown(html)["python-load"]


def test_the_bundled_model_has_its_card_in_the_project_and_needs_no_argument():
    html = about(fake_classifier())
    card = re.search(r"<code>(assets/.*?)</code>", html)[1]
    assert (ROOT / card).is_file()
    assert not any("huggingface" in link for link in links(html))
    assert "Classifier.load()" in code_shown(html)["python-load"]


def test_a_folder_of_the_server_is_named_nowhere():
    html = about(fake_classifier(FROM_FOLDER))
    assert "secret" not in html and "/home" not in html
    assert f'Classifier.load("{FOLDER}")' in code_shown(html)["python-load"]


def test_the_notice_is_explained_where_the_model_has_the_threshold_for_it():
    assert "probably none of these, the page says so" not in about(fake_classifier(threshold=None))
    assert "probably none of these, the page says so" in about(fake_classifier(threshold=4.5))


def test_names_and_sources_of_an_artifact_are_escaped():
    html = about(fake_classifier(Source("hub", Path("x"), '<b>/"x', "<i>"), ("<u>cat", "dog")))
    assert "<b>" not in html and "<i>" not in html and "<u>" not in html
    assert "&lt;u&gt;cat and dog" in html


@pytest.mark.parametrize("source", [FROM_PROJECT, FROM_FOLDER, FROM_HUB])
def test_links_open_in_a_tab_of_their_own_and_nothing_loads_by_itself(source):
    html = about(fake_classifier(source))
    assert html.count("<a ") == html.count('target="_blank" rel="noopener noreferrer"') == len(links(html)) > 0
    assert not re.search(r"<(img|link|iframe|script|video|audio|object|embed|source)\b|\bsrc=|url\(|\bon\w+=", html)
    assert "url(" not in (ROOT / "ui" / "static" / "about.css").read_text() and "@import" not in html


def test_the_calls_with_their_inputs_and_limits_are_listed():
    text = re.sub("<[^>]*>", "", about(fake_classifier(fit="pad")))
    for told in (
        "POST /api/predict",
        "POST /api/predict/batch",
        "POST /api/activation-map",
        "GET /api/model",
        "GET /api/health",
        "gradio_client has /predict and /model_info",
        "top_k from 1 to 3 (3)",
        "stretch (pad)",
        "503",
    ):
        assert told in text
    assert "20 MB a file; 64 MB and 16 files a request; 25 megapixels an image, 64 for a plain" in text
    assert "deleted about 15 minutes after" in text


# The code runs


@pytest.fixture(scope="module")
def served(tiny_artifact, tmp_path_factory):
    with running_app(tmp_path_factory.mktemp("app"), "--model", str(tiny_artifact)) as address:
        yield address


@pytest.fixture
def folder(tmp_path) -> Path:
    """With one picture, as the code expects it."""
    across, down = np.meshgrid(np.arange(90), np.arange(60))
    pixels = np.stack([across * 2, down * 4, (across + down) % 256], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path


@pytest.fixture
def expected(tiny_artifact, folder) -> list[tuple[str, float]]:
    return Classifier.load(tiny_artifact).predict(Image.open(folder / "picture.png"), top_k=3)


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
    found = python(code.replace('"picture.png"]', '"broken.png"]'), folder)
    assert list(found[0]) != ["error"] and "please save the image as" in found[1]["error"]


def test_gradio_client_prints_the_classifiers_answer(served, folder, expected):
    answer, details = python(PYTHON_CLIENT.replace(PAGE, served), folder)
    assert same(answer, expected) and set(details) == {"probably_none_of_these", "milliseconds"}


def test_the_model_is_loaded_from_a_folder_without_the_page(tiny_artifact, folder, expected):
    code = python_load(FROM_FOLDER).replace(FOLDER, str(tiny_artifact))
    assert run([sys.executable, "-c", code], folder, PYTHONPATH=str(ROOT)) == printed(expected)


def test_the_bundled_model_is_loaded_without_the_page(folder):
    lines = run([sys.executable, "-c", python_load(FROM_PROJECT)], folder, PYTHONPATH=str(ROOT))
    assert lines == printed(Classifier.load().predict(Image.open(folder / "picture.png"), top_k=3))


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
    (folder / "picture.png").write_bytes(b"")
    with pytest.raises(AssertionError, match="422"):  # -f: curl fails where the server refuses
        run([shell, "-c", CURL.replace(PAGE, served)], folder)


def test_curl_code_holds_nothing_that_an_interactive_shell_takes_for_something_else():
    assert "#" not in CURL and "!" not in CURL


def test_javascript_prints_the_answer_in_node(served, folder, expected):
    if shutil.which("node") is None:
        pytest.skip("no node on this machine; the browser runs the same function")
    code = NODE_FILE + JAVASCRIPT.replace(PAGE, served)
    (folder / "ask.mjs").write_text(code + "console.log(JSON.stringify(found));")
    *said, line = run(["node", "ask.mjs"], folder)
    assert same(json.loads(line), expected) and said[0].startswith(f"{expected[0][0]} [")


NODE_FILE = "const file = new Blob([await (await import('node:fs/promises')).readFile('picture.png')]);\n"
"""As the tab says of Node."""


def test_the_tab_says_where_node_has_its_file_from():
    assert NODE_FILE[len("const file = ") : -2] in unescape(about(fake_classifier()))


# In a browser


@pytest.fixture
def open_tab(browser, served):
    """Opens the tab in a new page of the size and colour scheme; the page's errors are in its `errors`."""
    contexts = []

    def open_tab(width: int = 1280, scheme: str = "light", **settings):
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 844}, color_scheme=scheme, **settings))
        contexts[-1].set_default_timeout(60_000)  # the machine may be slow, and busy
        page = contexts[-1].new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
        page.goto(served)
        page.get_by_role("tab", name="About & API").click()
        page.locator("#about .snippet").first.wait_for()
        page.set_viewport_size({"width": width, "height": 844})  # now: a phone has the tab in a menu
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
    sent = code_shown(about(fake_classifier(FROM_FOLDER)))
    shown = {name: page.locator(f"#code-{name}").text_content() for name in sent}
    assert shown == {name: code.replace(PAGE, served) for name, code in sent.items()}
    assert served in shown["curl"] and PAGE not in "".join(shown.values())
    assert page.errors == []


@pytest.mark.slow
def test_javascript_prints_the_answer_in_a_browser(open_tab, served, folder, expected):
    page = open_tab()
    page.evaluate("document.body.prepend(Object.assign(document.createElement('input'), {type: 'file', id: 'chosen'}))")
    page.set_input_files("#chosen", folder / "picture.png")
    with page.expect_console_message(lambda message: message.type == "log") as said:
        page.evaluate(IN_BROWSER.format(code=page.locator("#code-javascript").text_content()))
    assert logged(said.value, expected)


IN_BROWSER = "(async () => {{ const file = document.querySelector('#chosen, input[type=file]').files[0]; {code} }})()"


def logged(message, expected: list[tuple[str, float]]) -> bool:
    label, confidences = (argument.json_value() for argument in message.args)
    return same({"label": label, "confidences": confidences}, expected)


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
def test_javascript_works_on_a_page_of_another_site(browser, served, another_site, folder, expected):
    page = browser.new_page()
    page.goto(another_site)
    page.set_input_files("input", folder / "picture.png")
    with page.expect_console_message(lambda message: message.type == "log") as said:
        page.evaluate(IN_BROWSER.format(code=JAVASCRIPT.replace(PAGE, served)))
    assert logged(said.value, expected)
    page.close()


@pytest.mark.slow
def test_javascript_throws_what_the_server_says_of_a_file_that_is_no_picture(open_tab, served):
    page = open_tab()
    code = page.locator("#code-javascript").text_content()
    told = page.evaluate(
        f"(async () => {{ const file = new File(['nothing'], 'a.png'); {code} }})().catch(error => error.message)"
    )
    assert "please save the image as" in told


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


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_a_phone_scrolls_long_lines_inside_their_box(open_tab, width, scheme):
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        cannot_run("axe-playwright-python is not installed")
    page = open_tab(width, scheme)
    settle(page)
    found = Axe().run(page, context="#about").response["violations"]
    assert [rule["id"] for rule in found if rule["impact"] in AXE_SERIOUS] == []
    page.wait_for_function(f"document.documentElement.scrollWidth === {width}")
    cards = page.locator("#about .card")
    assert cards.evaluate_all("cards => cards.filter(card => card.scrollWidth > card.clientWidth).length") == 0
    if width == 390:
        assert page.locator("#use-javascript pre").evaluate("pre => pre.scrollWidth > pre.clientWidth")
