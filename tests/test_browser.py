"""The page in a real browser: one visit from the first upload to the confusion matrix."""

import os
import shutil
import subprocess
import sys
import venv
from urllib.parse import urlsplit

import pytest
from PIL import Image, ImageDraw

from model import Classifier
from model.cifar10 import CLASS_NAMES
from tests.hub_client import REPO, environment
from tests.serving import ROOT, running_app
from tests.test_space import SPACE, write_tree
from ui.predict import EXAMPLES

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def cannot_run(reason: str) -> None:
    """Skips on a person's machine; where CI=true says that the browser must be there, fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        cannot_run("playwright is not installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        cannot_run("no Chromium on this machine")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def address(browser, tiny_artifact, tmp_path_factory):
    with running_app(tmp_path_factory.mktemp("app"), "--model", str(tiny_artifact)) as address:
        yield address


@pytest.fixture
def drawing(tmp_path):
    picture = Image.new("RGB", (200, 120), "skyblue")
    ImageDraw.Draw(picture).ellipse((60, 30, 140, 90), fill="brown")
    picture.save(tmp_path / "drawing.png")
    return tmp_path / "drawing.png"


def test_a_visitor_uploads_a_picture_asks_about_a_test_image_and_reads_the_accuracy(
    browser, address, tiny_artifact, drawing
):
    classifier = Classifier.load(tiny_artifact)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)

    page.goto(address)
    page.set_input_files("#picture input[type=file]", drawing)
    label, probability = classifier.predict(Image.open(drawing))[0]
    page.locator("#prediction h2", has_text=label).wait_for()
    assert page.locator("#prediction .confidence").first.inner_text() == f"{probability * 100:.0f}%"
    assert page.locator("#prediction .confidence").count() == 5
    page.locator("#seen img").wait_for()
    assert page.locator("#seen img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
    assert page.locator("#seen img").bounding_box()["width"] > 150
    assert page.locator("#seen img").evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"

    page.get_by_role("tab", name="Test images").click()
    page.locator("#test-images .thumbnail-item").nth(1).click()
    page.locator("#verdict", has_text="It is automobile.").wait_for()
    verdict = page.locator("#verdict").inner_text()
    said = page.locator("#test-prediction h2").inner_text()
    assert f"The network says {said} " in verdict
    assert verdict.startswith("Right" if said == "automobile" else "Wrong")

    page.get_by_role("tab", name="Accuracy").click()
    row = page.locator("#summary tbody tr").first.inner_text().split("\t")
    assert row[:2] == ["Test", f"{classifier.metrics['test']['accuracy']:.2%}"]
    assert page.locator("#confusion tbody tr").count() == 10

    hosts = {urlsplit(url).hostname for url in requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
    assert errors == []
    page.close()


def test_a_drawing_is_predicted_on_a_click_and_clearing_the_picture_clears_the_answer(browser, address, tiny_artifact):
    classifier = Classifier.load(tiny_artifact)
    page = browser.new_page()
    page.goto(address)
    page.locator("#examples .thumbnail-item", has_text="ship").click()
    label, _ = classifier.predict(Image.open(EXAMPLES / "ship.png"))[0]
    page.locator("#prediction h2", has_text=label).wait_for()
    page.get_by_label("range slider for Classes to show").press("End")
    page.locator("#prediction .confidence").nth(9).wait_for()
    page.locator("#picture").get_by_role("button", name="Remove Image").click()
    page.locator("#prediction h2").wait_for(state="detached")
    page.close()


def test_one_class_of_test_images_can_be_chosen(browser, address):
    page = browser.new_page()
    page.goto(address)
    page.get_by_role("tab", name="Test images").click()
    assert page.locator("#test-images .caption-label").all_inner_texts()[:10] == list(CLASS_NAMES)
    page.get_by_role("combobox", name="Show").click()
    page.get_by_role("option", name="horse").click()
    page.locator("#test-images .caption-label", has_text="airplane").first.wait_for(state="detached")
    assert page.locator("#test-images .caption-label").all_inner_texts() == ["horse"] * 20
    page.locator("#test-images .thumbnail-item").nth(19).click()
    page.locator("#verdict", has_text="It is horse.").wait_for()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_tab_is_wider_than_a_phone_and_wide_tables_scroll_inside_their_card(browser, address, scheme):
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.goto(address)
    for name in ("Predict", "Test images", "Accuracy"):
        page.get_by_role("tab", name=name).click()
        page.get_by_role("tabpanel").locator("visible=true").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    cards = page.locator(".report .card")
    cards.first.wait_for()
    assert cards.evaluate_all("cards => cards.filter(card => card.scrollWidth > card.clientWidth).length") == 0
    assert page.get_by_role("region", name="Confusion matrix").evaluate("region => region.scrollWidth") > 390
    page.close()


# A model from the Hub


def test_the_page_on_a_pulled_model_predicts_and_shows_its_samples_and_numbers(
    browser, hub, sha, tiny_artifact, drawing, tmp_path
):
    classifier = Classifier.load(tiny_artifact)
    with running_app(tmp_path, "--model", REPO, env=environment(hub, tmp_path / "home")) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address)
        page.locator("#head dd", has_text=f"commit {sha[:12]}").wait_for()
        assert page.locator("#notice").count() == 0
        visit(page, classifier, drawing)
        page.close()


def visit(page, classifier, drawing):
    """A prediction, a test image of the samples, the accuracy."""
    page.set_input_files("#picture input[type=file]", drawing)
    page.locator("#prediction h2", has_text=classifier.predict(Image.open(drawing))[0][0]).wait_for()
    page.get_by_role("tab", name="Test images").click()
    page.locator("#test-images .thumbnail-item").nth(1).click()
    page.locator("#verdict", has_text="It is automobile.").wait_for()
    page.get_by_role("tab", name="Accuracy").click()
    row = page.locator("#summary tbody tr").first.inner_text().split("\t")
    assert row[:2] == ["Test", f"{classifier.metrics['test']['accuracy']:.2%}"]


def test_from_the_lean_install_to_a_visitor_on_a_space(browser, hub, tiny_artifact, drawing, tmp_path, lean_python):
    """Publish, host, and run what the Space holds as Spaces would; where CI=true, with its requirements alone."""
    env = environment(hub, tmp_path / "home")
    for words in (["publish", str(tiny_artifact), REPO], ["space", SPACE, "--model", REPO]):
        subprocess.run([lean_python, "-m", "trainer", *words], cwd=ROOT, env=env, check=True, timeout=120)
    root, variables = write_tree(hub, tmp_path / "space"), hub.repo(SPACE, "space").variables
    assert (root / "requirements.txt").read_bytes() == (ROOT / "requirements-app.txt").read_bytes()
    with running_app(tmp_path, env=env | variables, root=root, python=lean_python) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address)
        page.locator("#head dd", has_text=f"commit {variables['MODEL_REVISION'][:12]}").wait_for()
        visit(page, Classifier.load(tiny_artifact), drawing)
        page.close()


@pytest.fixture(scope="module")
def lean_python(tmp_path_factory) -> str:
    """An interpreter that has requirements-app.txt and nothing else where CI=true, else this one."""
    if os.environ.get("CI") != "true":
        return sys.executable
    folder = tmp_path_factory.mktemp("lean") / "venv"
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    requirements = str(ROOT / "requirements-app.txt")
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True, timeout=600)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True).returncode != 0
    return python


def test_the_notice_says_which_model_it_is_and_why(browser, tmp_path):
    env = environment("http://127.0.0.1:9", tmp_path / "home")
    with running_app(tmp_path, "--model", REPO, env=env) as address:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(address)
        text = page.locator("#notice").inner_text()
        assert "The connection to the Hub failed for ann/resnet" in text
        assert "This page uses the bundled model instead of ann/resnet." in text
        assert page.locator("#notice [role=status]").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.close()
