"""The page in a real browser: what a visitor does on each tab, on a desktop and on a phone, by mouse and by keyboard.

`SCREENSHOTS=assets/screenshots pytest -m slow tests/test_browser.py -k pictures_of_every_tab` redraws the pictures of
the README and the docs.
"""

import csv
import io
import os
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image, ImageDraw

try:
    from playwright.sync_api import expect
except ImportError:
    expect = None  # the fixture `browser` says so

from model import Classifier
from model.cifar10 import CLASS_NAMES
from model.preprocess import to_square_rgb
from server.limits import MANY_UPLOADS
from tests.conftest import first_call_held, settle, train, write_dataset
from tests.hub_client import REPO, environment
from tests.serving import ROOT, running_app
from tests.test_space import SPACE, write_tree
from tests.visitor import DESKTOP, address_of, open_tab, upload, visit, wait_for_answers
from ui.dataset_browser import PER_PAGE, DatasetBrowser
from ui.predict import EXAMPLES

TABS = ("Predict", "Test images", "Evaluation", "About & API")
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def address(browser, tiny_artifact, tmp_path_factory):
    """A page on the tiny network, which brings made-up test images."""
    with running_app(tmp_path_factory.mktemp("app"), "--model", str(tiny_artifact)) as address:
        yield address


@pytest.fixture(scope="module")
def bundled(browser, tmp_path_factory):
    """A page on the bundled network, which brings no test images."""
    folder = tmp_path_factory.mktemp("bundled")
    with running_app(folder, "--data-dir", str(folder / "none")) as address:
        yield address


def show_lowest_confidence(page) -> None:
    """In the grid, in place of the usual images; the address says so too."""
    indices = "[...document.querySelectorAll('#test-images .tile')].map(tile => tile.dataset.index).join()"
    usual = page.evaluate(indices)
    page.get_by_label("Lowest confidence").click()
    page.wait_for_function("window.location.search.includes('show=unsure')")
    page.wait_for_function(f"(usual) => {indices} !== usual", arg=usual)
    wait_for_answers(page)


@pytest.fixture
def drawing(tmp_path):
    picture = Image.new("RGB", (200, 120), "skyblue")
    ImageDraw.Draw(picture).ellipse((60, 30, 140, 90), fill="brown")
    picture.save(tmp_path / "drawing.png")
    return tmp_path / "drawing.png"


def wait_for_tiles(page, words: str) -> None:
    """Until all test images of the grid say so."""
    page.wait_for_function(
        """(words) => {
          const tiles = [...document.querySelectorAll('#test-images .tile')];
          return tiles.length && tiles.every(tile => tile.ariaLabel.includes(words));
        }""",
        arg=words,
    )


def bars(page, where: str = "#answer") -> list[str]:
    return [text.split("\n") for text in page.locator(f"{where} .bar").all_inner_texts()]


def pixels(image) -> np.ndarray:
    """What an <img> of the page holds, as the browser decodes it: uint8 (H, W, 3)."""
    width, height, data = image.evaluate(
        """async (image) => {
          for (let tries = 0; ; tries++) {
            try { await image.decode(); break; } catch (error) {  // it got another picture meanwhile
              if (tries === 50) throw error;
              await new Promise(resolve => setTimeout(resolve, 50));
            }
          }
          const canvas = document.createElement('canvas');
          [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
          const context = canvas.getContext('2d');
          context.drawImage(image, 0, 0);
          return [canvas.width, canvas.height, [...context.getImageData(0, 0, canvas.width, canvas.height).data]];
        }"""
    )
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]


# Predict


def test_a_visitor_uploads_a_picture_and_sees_bars_the_networks_picture_and_what_spoke_for_a_class(
    browser, bundled, drawing
):
    classifier, picture = Classifier.load(), Image.open(drawing)
    with visit(browser, bundled) as page:
        upload(page, drawing)
        expected = classifier.predict(picture)
        page.locator("#answer h2", has_text=expected[0][0]).wait_for()
        assert [bar[0] for bar in bars(page)] == [label for label, _ in expected]
        assert bars(page)[0][1] == f"{expected[0][1] * 100:.0f}%"
        seen = page.locator("#answer .pixels")
        assert np.array_equal(pixels(seen), np.asarray(to_square_rgb(picture)))
        assert seen.bounding_box()["width"] > 150
        assert seen.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
        assert "Inference time" in page.locator("#answer .small").inner_text()

        assert page.locator("#answer .map:visible").get_attribute("data-class") == str(
            CLASS_NAMES.index(expected[0][0])
        )
        page.locator("#answer .bar").nth(2).click()
        assert page.locator("#answer .map:visible").get_attribute("data-class") == str(
            CLASS_NAMES.index(expected[2][0])
        )
        assert page.locator("#answer .of").inner_text() == expected[2][0]
        assert page.locator("#answer .bar").nth(2).get_attribute("aria-pressed") == "true"


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_the_fit_changes_what_the_network_sees_and_the_answer_at_once(browser, bundled, drawing, fit):
    picture = Image.open(drawing)
    with visit(browser, f"{bundled}?fit={fit}") as page:
        expect(page.locator(f"#fit input[value={fit}]")).to_be_checked()
        upload(page, drawing)
        page.locator("#answer .pixels").wait_for()
        assert np.array_equal(pixels(page.locator("#answer .pixels")), np.asarray(to_square_rgb(picture, fit)))
        page.get_by_label("Center crop").click()
        wanted = np.asarray(to_square_rgb(picture, "crop")).tobytes()
        deadline = time.monotonic() + 60
        while pixels(page.locator("#answer .pixels")).tobytes() != wanted:
            page.wait_for_timeout(100)
            assert time.monotonic() < deadline, "the picture of the new fit never came"
        page.wait_for_function("!window.location.search.includes('fit=')")


@pytest.mark.slow
def test_a_drawing_is_predicted_on_a_click_more_classes_can_be_shown_and_clearing_clears_the_answer(browser, bundled):
    label, _ = Classifier.load().predict(Image.open(EXAMPLES / "ship.png"))[0]
    with visit(browser, bundled) as page:
        page.locator("#examples").get_by_role("button", name="ship").click()
        page.locator("#answer h2", has_text=label).wait_for()
        page.get_by_label("range slider for Top-k classes").press("End")
        page.locator("#answer .bar").nth(9).wait_for()
        page.locator("#upload").get_by_role("button", name="Remove Image").click()
        page.locator("#answer .hint").wait_for()


@pytest.mark.slow
def test_a_picture_of_no_class_gets_a_notice_in_plain_words(browser, bundled, tmp_path):
    blank = Image.new("RGB", (300, 300), (127, 127, 127))
    blank.save(tmp_path / "blank.png")
    classifier = Classifier.load()
    assert not classifier.is_in_distribution(classifier.logits([blank]))[0]
    with visit(browser, bundled) as page:
        upload(page, tmp_path / "blank.png")
        page.locator("#answer .none", has_text="Possibly out of distribution").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"<script>alert(1)</script>", "This file is not an image that can be read here"), (b"", "This file is empty")],
)
def test_a_file_that_is_no_picture_is_told_on_the_page_and_the_next_picture_is_answered(
    browser, bundled, drawing, tmp_path, content, sentence
):
    (tmp_path / "<img src=x>.png").write_bytes(content)
    with visit(browser, bundled) as page:
        upload(page, tmp_path / "<img src=x>.png")
        problem = page.locator("#answer .problem")
        problem.wait_for()
        assert sentence in problem.inner_text() and str(tmp_path) not in problem.inner_text()
        page.locator("#upload").get_by_role("button", name="Remove Image").click()
        upload(page, drawing)
        page.locator("#answer h2").wait_for()


def test_several_pictures_give_a_table_and_the_same_as_csv(browser, bundled, tmp_path):
    (tmp_path / "note.png").write_bytes(b"no picture")
    files = [EXAMPLES / "cat.png", tmp_path / "note.png", EXAMPLES / "truck.png"]
    classifier = Classifier.load()
    with visit(browser, bundled) as page:
        page.get_by_role("button", name="Batch prediction").click()
        page.set_input_files("#uploads input[type=file]", files)
        rows = page.locator("#batch tbody tr")
        rows.nth(2).wait_for()
        for row, name in ((0, "cat"), (2, "truck")):
            text = rows.nth(row).inner_text()
            best = classifier.predict(Image.open(EXAMPLES / f"{name}.png"), top_k=3)
            assert f"{name}.png" in text and all(label in text for label, _ in best)
        assert "This file is not an image" in rows.nth(1).inner_text()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download as CSV").click()
        text = Path(download.value.path()).read_text("utf-8-sig")
        page.set_input_files("#uploads input[type=file]", [EXAMPLES / "cat.png"] * 1 + [EXAMPLES / "dog.png"] * 16)
        page.locator("#uploads .state", has_text="choose 16 or fewer").wait_for()
    table = list(csv.DictReader(io.StringIO(text)))
    assert [row["file"] for row in table] == ["cat.png", "note.png", "truck.png"]
    best = classifier.predict(Image.open(EXAMPLES / "cat.png"))[0]
    assert (table[0]["label_1"], float(table[0]["probability_1"])) == (best[0], pytest.approx(best[1], abs=1e-5))
    assert "not an image" in table[1]["error"]


@pytest.mark.slow
def test_a_picture_that_cannot_be_sent_is_named_with_the_reason(browser, bundled, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(21 * 2**20))
    with visit(browser, bundled, may_fail=True) as page:
        page.get_by_role("button", name="Batch prediction").click()
        state, zone = page.locator("#uploads .state"), "#uploads input[type=file]"
        page.set_input_files(zone, [EXAMPLES / "cat.png", tmp_path / "large.png"])
        expect(state).to_have_text("large.png is too large: a file may have 20 MB at most.")
        page.route("**/gradio_api/upload*", lambda route: route.fulfill(status=503, body=MANY_UPLOADS))
        page.set_input_files(zone, [EXAMPLES / "cat.png"])
        expect(state).to_have_text(f"cat.png could not be sent. {MANY_UPLOADS}")
        page.unroute("**/gradio_api/upload*")
        page.route("**/gradio_api/upload*", lambda route: route.abort())
        page.set_input_files(zone, [EXAMPLES / "dog.png"])
        expect(state).to_have_text("dog.png could not be sent. Check the connection, and try again.")


@pytest.mark.slow
def test_pictures_that_were_chosen_before_do_not_replace_the_later_ones(browser, bundled):
    held = []
    with visit(browser, bundled) as page:
        page.route("**/gradio_api/upload*", lambda route: route.continue_() if held else held.append(route))
        page.get_by_role("button", name="Batch prediction").click()
        page.set_input_files("#uploads input[type=file]", [EXAMPLES / "cat.png"])
        page.locator("#uploads .state", has_text="Sending image 1").wait_for()
        page.set_input_files("#uploads input[type=file]", [EXAMPLES / "dog.png"])
        page.locator("#batch tbody tr", has_text="dog.png").wait_for()
        with page.expect_response("**/gradio_api/upload*"):
            held[0].continue_()
        page.wait_for_timeout(500)
        assert page.locator("#batch tbody th").all_inner_texts() == ["dog.png"]


@pytest.mark.slow
def test_two_visitors_at_once_each_see_their_own_picture_and_answer(browser, bundled, tmp_path):
    colours = {"red": (200, 30, 30), "blue": (30, 30, 200)}
    for name, colour in colours.items():
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
    with visit(browser, bundled) as one, visit(browser, bundled) as other:
        for _ in range(3):
            upload(one, tmp_path / "red.png")
            upload(other, tmp_path / "blue.png")
            for page, name in ((one, "red"), (other, "blue")):
                page.locator("#answer .pixels").wait_for()
                assert (pixels(page.locator("#answer .pixels")) == colours[name]).all()
            for page in (one, other):
                page.locator("#upload").get_by_role("button", name="Remove Image").click()
                page.locator("#answer .hint").wait_for()


# Test images


def test_the_test_images_can_be_filtered_and_one_is_asked_about(browser, address, tiny_artifact):
    matrix = np.array(Classifier.load(tiny_artifact).metrics.test.confusion_matrix)
    mistakes = matrix.sum(1) - matrix.diagonal()
    name = CLASS_NAMES[mistakes.argmax()]
    with visit(browser, address) as page:
        open_tab(page, "Test images")
        page.locator("#test-images .tile").first.wait_for()
        page.get_by_label("Errors", exact=True).click()
        page.locator("#test-images .error").first.wait_for()
        tiles = page.locator("#test-images .tile")
        page.wait_for_function(
            "() => [...document.querySelectorAll('#test-images .tile')].every(t => t.querySelector('.error'))"
        )
        page.locator("#true input").fill(name[:4])  # a list of many classes can be searched
        page.get_by_role("option", name=name).click()
        wait_for_tiles(page, f": true class {name},")
        assert 1 <= tiles.count() <= mistakes.max()
        assert "show=mistakes" in address_of(page) and f"true={name}" in address_of(page)
        tiles.first.click()
        verdict = page.locator("#test-answer .verdict")
        verdict.wait_for()
        said = page.locator("#test-answer h2").inner_text()
        assert said != name and f"Predicted {said}, true class {name}." in verdict.inner_text()
        expect(page.locator("#test-answer .map:visible")).to_have_count(1)


@pytest.mark.slow
def test_the_quiz_is_played_to_its_end_by_keyboard_and_keeps_the_score(browser, address):
    with visit(browser, address) as page:
        open_tab(page, "Test images")
        page.get_by_role("button", name="Quiz: beat the network").click()
        page.get_by_role("button", name="Start the quiz").click()
        mine = theirs = 0
        for turn in range(1, 11):
            page.get_by_role("heading", name=f"Image {turn} of 10").wait_for()
            page.locator("[data-choice]").nth(4).press("Enter")
            told = page.locator(".outcome").inner_text()
            mine += "You are correct" in told
            theirs += "the network is correct" in told
            assert page.locator(".score").inner_text() == f"You {mine}, network {theirs}"
            page.keyboard.press("Enter")  # the button for the next image has the focus
        page.locator("#quiz", has_text="of 10").wait_for()


@pytest.mark.slow
def test_without_test_images_one_button_offers_to_download_them(browser, bundled):
    with visit(browser, bundled) as page:
        open_tab(page, "Test images")
        page.get_by_role("heading", name="CIFAR-10 not found").wait_for()
        page.get_by_role("button", name="Download CIFAR-10 (170 MB)").wait_for()
        assert page.locator("#test-images .tile").count() == 0


# Evaluation


def test_the_evaluation_tab_has_the_numbers_of_metrics_json(browser, bundled):
    metrics = Classifier.load().metrics
    with visit(browser, bundled) as page:
        open_tab(page, "Evaluation")
        expect(page.locator("#confusion tbody tr")).to_have_count(10)
        # reliability before and after; accuracy, loss, rate
        expect(page.locator("svg[role=img]:visible")).to_have_count(5)
        text = page.get_by_role("tabpanel").locator("visible=true").first.inner_text()
        for split in ("test", "val"):
            scores = getattr(metrics, split)
            low, high = scores.accuracy_interval
            assert f"{scores.accuracy:.2%}" in text and f"{low:.2%} to {high:.2%}" in text
        assert "86.77%" in text and "87.16%" in text and "92.49%" in text


# The address, phones, dark mode, keyboard, screen readers


@pytest.mark.slow
def test_a_view_can_be_shared_by_its_address(browser, address, tiny_artifact):
    with visit(browser, address) as page:
        open_tab(page, "Test images")
        page.locator("#test-images .tile").first.wait_for()
        show_lowest_confidence(page)
        page.locator("#test-images .tile").nth(2).click()
        page.locator("#test-answer .verdict").wait_for()
        shared, verdict = address_of(page), page.locator("#test-answer .verdict").inner_text()
        first = page.locator("#test-images .tile").first.get_attribute("data-index")
    assert "tab=test-images" in shared and "show=unsure" in shared and "image=" in shared
    with visit(browser, shared) as page:
        page.locator("#test-answer .verdict").wait_for()
        assert page.locator("#test-answer .verdict").inner_text() == verdict
        expect(page.get_by_role("tab", name="Test images")).to_have_attribute("aria-selected", "true")
        expect(page.locator("#test-images .tile").first).to_have_attribute("data-index", first)
        expect(page.get_by_label("Lowest confidence")).to_be_checked()


@pytest.mark.slow
def test_the_page_of_the_grid_is_shared_with_its_filters_and_other_filters_begin_at_the_first(browser, address):
    def first(page, count: str) -> str:
        page.locator("#test-images .count", has_text=count).wait_for()
        return page.locator("#test-images .tile").first.get_attribute("data-index")

    with visit(browser, address) as page:
        open_tab(page, "Test images")
        first(page, "page 1 of")
        show_lowest_confidence(page)
        page.get_by_role("button", name="Next").click()
        first(page, "page 2 of")
        page.get_by_role("button", name="Next").click()
        third = first(page, "page 3 of")
        shared = address_of(page)
        assert shared.endswith("?tab=test-images&show=unsure&grid-page=3")
        open_tab(page, "Predict")
        open_tab(page, "Test images")
        page.wait_for_timeout(500)
        assert first(page, "page 3 of") == third
    for _ in range(3):  # which event comes first is a matter of luck
        with visit(browser, shared) as page:
            assert first(page, "page 3 of") == third
            page.wait_for_timeout(300)
            assert first(page, "page 3 of") == third and address_of(page) == shared
    with visit(browser, shared) as page:
        first(page, "page 3 of")
        page.get_by_label("All", exact=True).click()
        first(page, "page 1 of")
        page.wait_for_function("!window.location.search.includes('show=')")
        assert address_of(page).endswith("?tab=test-images")
        page.get_by_role("button", name="Next").click()
        first(page, "page 2 of")
        page.get_by_role("button", name="Previous").click()
        first(page, "page 1 of")
        assert address_of(page).endswith("?tab=test-images")


@pytest.mark.slow
def test_the_number_of_classes_is_shared_by_the_address(browser, bundled):
    with visit(browser, bundled) as page:
        slider = page.get_by_label("range slider for Top-k classes")
        slider.press("End")
        page.wait_for_function("window.location.search === '?top=10'")
        shared = address_of(page)
        slider.press("Home")
        for _ in range(4):
            slider.press("ArrowRight")
        page.wait_for_function("window.location.search === ''")
    with visit(browser, shared) as page:
        page.locator("#examples").get_by_role("button", name="ship").click()
        page.locator("#answer .bar").nth(9).wait_for()
        assert address_of(page) == shared


@pytest.mark.slow
def test_a_cell_of_the_confusion_matrix_shows_its_images_and_is_shared_by_the_address(browser, address, tiny_artifact):
    matrix = np.array(Classifier.load(tiny_artifact).metrics.test.confusion_matrix)
    true, said = np.unravel_index(np.where(np.eye(10), 0, matrix).argmax(), matrix.shape)
    names = CLASS_NAMES[true], CLASS_NAMES[said]
    heading = f"{matrix[true, said]:,} {names[0]} images predicted as {names[1]}"
    with visit(browser, address) as page:
        open_tab(page, "Evaluation")
        cell = f"of {matrix[true].sum():,} {names[0]} images predicted as {names[1]}: show them"
        page.get_by_role("button", name=cell).press("Enter")
        page.get_by_role("heading", name=heading).wait_for()
        shared = address_of(page)
        assert shared.endswith(f"?tab=accuracy&row={names[0]}&column={names[1]}")
    with visit(browser, shared) as page:
        page.get_by_role("heading", name=heading).wait_for()
        assert page.locator("#cell .tiles img").count() >= 1
        assert cell in page.locator("#confusion [aria-pressed=true]").get_attribute("aria-label")
        assert address_of(page) == shared
        page.get_by_role("link", name="Browse them").click()
        page.wait_for_url("**tab=test-images**")
        wait_for_tiles(page, f": true class {names[0]}, predicted {names[1]},")


@pytest.mark.slow
@pytest.mark.parametrize("row", ["", "nope", "true \\ said", "<img src=x onerror=alert(1)>", "'); alert(1); ('", "0"])
def test_an_address_that_names_no_cell_and_no_page_shows_the_usual_ones(browser, address, row):
    query = urlencode({"row": row, "column": row, "grid-page": row, "top": row})
    with visit(browser, f"{address}?tab=accuracy&{query}") as page:
        page.locator("#cell", has_text="Select a number above").wait_for()
        page.wait_for_timeout(500)
        assert (
            page.locator("#cell [role=status]").is_visible() and page.locator("#confusion [aria-pressed]").count() == 0
        )
        open_tab(page, "Test images")
        page.locator("#test-images .count", has_text="page 1 of").wait_for()
        open_tab(page, "Predict")
        assert page.get_by_label("range slider for Top-k classes").input_value() == "5"


@pytest.fixture
def grid(tiny_artifact) -> DatasetBrowser:
    """What the page at `address` browses."""
    grid = DatasetBrowser.of(Classifier.load(tiny_artifact), Path("nowhere"))
    assert grid.read()
    return grid


def pages_of(images: list) -> int:
    return -(-len(images) // PER_PAGE)


@pytest.mark.slow
def test_the_images_for_the_filters_of_before_do_not_replace_the_later_ones(browser, address, grid):
    with visit(browser, address) as page:
        open_tab(page, "Test images")
        count = page.locator("#test-images .count")
        count.wait_for()
        with first_call_held(page) as wait:
            page.get_by_label("Lowest confidence").click()
            wait()
            page.get_by_label("Errors", exact=True).click()
            page.wait_for_timeout(1000)
        wait_for_answers(page)
        expect(count).to_contain_text(f"{len(grid.chosen('mistakes'))} of {len(grid.chosen())} images")


@pytest.mark.slow
def test_of_quick_clicks_in_the_grid_the_last_is_shown(browser, address, grid):
    with visit(browser, f"{address}?tab=test-images") as page:
        tiles, count = page.locator("#test-images .tile"), page.locator("#test-images .count")
        tiles.nth(8).wait_for()
        settle(page)
        last = tiles.nth(8).get_attribute("data-index")
        with first_call_held(page) as wait:
            tiles.nth(3).click()
            wait()
            tiles.nth(8).click()
        wait_for_answers(page)
        expect(page.locator("#test-answer .verdict")).to_contain_text(f"Test image {int(last):,}")
        assert f"image={last}" in address_of(page)
        with first_call_held(page) as wait:
            page.get_by_role("button", name="Next").click()
            wait()
            page.get_by_label("Errors", exact=True).click()
        wait_for_answers(page)
        pages = pages_of(grid.chosen("mistakes"))
        assert pages > 1
        expect(count).to_have_text(f"{len(grid.chosen('mistakes'))} of {len(grid.chosen())} images; page 1 of {pages}")
        with first_call_held(page) as wait:
            page.get_by_label("All", exact=True).click()
            wait()
            page.get_by_role("button", name="Next").click()  # of the errors
        wait_for_answers(page)
        expect(count).to_have_text(
            f"{len(grid.chosen())} of {len(grid.chosen())} images; page 1 of {pages_of(grid.chosen())}"
        )
        assert "grid-page" not in address_of(page)


@pytest.mark.slow
def test_an_address_with_a_filter_that_is_none_does_not_keep_the_pages_from_turning(browser, address):
    with visit(browser, f"{address}?tab=test-images&true=nope") as page:
        page.locator("#test-images .count", has_text="page 1 of").wait_for()
        settle(page)
        page.get_by_role("button", name="Next").click()
        page.locator("#test-images .count", has_text="page 2 of").wait_for()


@pytest.mark.slow
def test_the_address_names_the_tab_that_is_shown_also_where_the_grid_comes_late(browser, address):
    with visit(browser, address) as page:
        settle(page)
        with first_call_held(page) as wait:
            open_tab(page, "Test images")
            wait()
            open_tab(page, "Evaluation")
        page.locator("#test-images .tile").first.wait_for(state="attached")
        page.wait_for_timeout(300)
        assert "tab=accuracy" in address_of(page)


@pytest.mark.slow
@pytest.mark.parametrize("tab", ["test-images", "accuracy", "about"])
def test_each_tab_can_be_shared_by_its_address(browser, bundled, tab):
    for _ in range(3):  # which event comes first is a matter of luck
        with visit(browser, f"{bundled}?tab={tab}") as page:
            page.locator(f"[role=tab][data-tab-id='{tab}'][aria-selected=true]").wait_for()
            page.wait_for_timeout(300)
            assert f"tab={tab}" in address_of(page)


@pytest.mark.slow
def test_an_address_that_names_nothing_opens_the_usual_page(browser, address):
    with visit(browser, f"{address}?tab=nope&fit=x&show=<b>&true=7&predicted=&image=x") as page:
        page.wait_for_timeout(500)
        expect(page.get_by_role("tab", name="Predict")).to_have_attribute("aria-selected", "true")
        expect(page.get_by_label("Center crop")).to_be_checked()


def use_everything(page, drawing) -> Iterator[str]:
    """Each tab in the state that a visitor brings it to, by name."""
    upload(page, drawing)
    page.locator("#answer h2").wait_for()
    page.get_by_role("button", name="Batch prediction").click()
    page.set_input_files("#uploads input[type=file]", [drawing])
    page.locator("#batch tbody tr").wait_for()
    yield "Predict"
    open_tab(page, "Test images")
    page.locator("#test-images .tile").nth(3).click()
    page.locator("#test-answer .verdict").wait_for()
    page.get_by_role("button", name="Quiz: beat the network").click()
    page.get_by_role("button", name="Start the quiz").click()
    page.locator("[data-choice]").nth(9).wait_for()
    right = page.locator("#quiz").evaluate("quiz => quiz.getBoundingClientRect().right")
    edges = page.locator("[data-choice]").evaluate_all("all => all.map(one => one.getBoundingClientRect().right)")
    assert len(edges) == 10 and max(edges) <= right
    page.locator("[data-choice]").nth(2).click()
    yield "Test images"
    open_tab(page, "Evaluation")
    page.locator("#confusion button").first.click()
    page.locator(".tiles img").last.wait_for()
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    yield "Evaluation"
    open_tab(page, "About & API")
    page.locator("pre").first.wait_for()
    yield "About & API"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_tab_is_wider_than_the_screen_or_has_a_serious_fault_of_accessibility(
    browser, address, drawing, size, scheme
):
    from axe_playwright_python.sync_playwright import Axe

    with visit(browser, address, viewport=size, color_scheme=scheme) as page:
        for name in use_everything(page, drawing):
            settle(page)
            page.wait_for_function(f"document.documentElement.scrollWidth === {size['width']}")
            found = Axe().run(page).response["violations"]
            serious = [
                (fault["id"], [node["html"][:200] for node in fault["nodes"]])
                for fault in found
                if fault["impact"] in ("serious", "critical")
            ]
            assert serious == [], name


@pytest.mark.slow
def test_what_a_screen_reader_says_is_changed_in_place(browser, address, drawing, tmp_path):
    (tmp_path / "note.png").write_bytes(b"no picture")

    def mark(page, where: str) -> None:
        page.locator(f"{where} [role=status]").evaluate("region => { region.known = true; }")

    def told(page, where: str, words: str) -> None:
        region = page.locator(f"{where} [role=status]", has_text=words)
        region.wait_for(state="attached")
        assert region.evaluate("region => region.known") and page.locator(f"{where} [role=status]").count() == 1

    with visit(browser, address) as page:
        mark(page, "#answer")
        upload(page, drawing)
        page.locator("#answer h2").wait_for()
        told(page, "#answer", f"{page.locator('#answer h2').inner_text()}, ")
        told(page, "#answer", page.locator("#answer .headline p").inner_text())
        page.locator("#upload").get_by_role("button", name="Remove Image").click()
        page.locator("#answer .hint").wait_for()
        upload(page, tmp_path / "note.png")
        told(page, "#answer", "Could not classify this image. This file is not an image")
        open_tab(page, "Test images")
        page.locator("#test-images .tile").first.wait_for()
        mark(page, "#test-answer")
        for place in (0, 1):
            tile = page.locator("#test-images .tile").nth(place)
            tile.click()
            told(page, "#test-answer", f"Test image {tile.get_attribute('data-index')}: true class ")


def tab_to(page, matches: str) -> None:
    """Presses Tab until an element has the focus, and fails where one cannot see that it has it."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("matches => document.activeElement.matches(matches)", matches):
            seen = "(document.activeElement.closest('.zone') ?? document.activeElement)"
            assert page.evaluate(f"getComputedStyle({seen}).outlineStyle") != "none"
            return
    raise AssertionError(f"Tab never reaches {matches}")


@pytest.mark.slow
def test_a_visitor_needs_no_mouse(browser, bundled):
    with visit(browser, bundled) as page:
        page.on("filechooser", lambda chooser: chooser.set_files([EXAMPLES / "cat.png", EXAMPLES / "dog.png"]))
        tab_to(page, "#fit input[value=pad]")
        page.keyboard.press("Space")
        page.wait_for_function("window.location.search === '?fit=pad'")
        tab_to(page, "#examples button[data-name=frog]")
        page.keyboard.press("Enter")
        page.locator("#answer h2").wait_for()
        tab_to(page, "#answer .bar[aria-pressed=false]")
        page.keyboard.press("Space")
        assert page.locator("#answer .bar").nth(1).get_attribute("aria-pressed") == "true"
        tab_to(page, "#batch-accordion button")
        page.keyboard.press("Enter")
        page.locator("#uploads .zone").wait_for()
        tab_to(page, "#uploads input[type=file]")
        page.keyboard.press("Enter")
        page.locator("#batch tbody tr").nth(1).wait_for()
        tab_to(page, "#batch .download")
        with page.expect_download():
            page.keyboard.press("Enter")
        tab_to(page, "[role=tab][data-tab-id=accuracy]")
        page.keyboard.press("Enter")
        page.locator("#confusion").wait_for()
        page.wait_for_function("window.location.search.includes('tab=accuracy')")


@pytest.mark.slow
def test_the_test_images_need_no_mouse(browser, address, grid):
    mistakes = grid.chosen("mistakes")
    with visit(browser, address) as page:
        count, tiles = page.locator("#test-images .count"), page.locator("#test-images .tile")
        tab_to(page, "[role=tab][data-tab-id=test-images]")
        page.keyboard.press("Enter")
        tiles.first.wait_for()
        tab_to(page, "#show input[value=mistakes]")
        page.keyboard.press("Space")
        count.locator(f"text=/^{len(mistakes)} of {len(grid.chosen())} images/").wait_for()
        tab_to(page, "#test-images .page-link:enabled")
        page.keyboard.press("Enter")
        count.locator(f"text=page 2 of {pages_of(mistakes)}").wait_for()
        assert page.evaluate("document.activeElement.textContent") == "Next"
        tab_to(page, "#true input")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_function("window.location.search.includes('true=automobile')")
        wait_for_tiles(page, ": true class automobile,")
        tab_to(page, "#test-images .tile")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.locator("#test-answer .verdict").wait_for()
        assert f"image={tiles.first.get_attribute('data-index')}" in address_of(page)
        tab_to(page, "#test-answer .bar[aria-pressed=false]")
        page.keyboard.press("Enter")
        assert page.locator("#test-answer .bar").nth(1).get_attribute("aria-pressed") == "true"


# Pictures of the page


def drawn_images(count: int, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """The example drawings, each time turned, cropped and coloured otherwise."""
    labels, images = np.arange(count) % 10, []
    for label in labels:
        with Image.open(EXAMPLES / f"{CLASS_NAMES[label]}.png") as drawing:
            turned = drawing.convert("RGB").rotate(random.uniform(-8, 8), Image.Resampling.BILINEAR)
        side = random.randint(180, 220)
        left, top = random.randint(18, 238 - side, 2)
        small = turned.crop((left, top, left + side, top + side)).resize((32, 32), Image.Resampling.BOX)
        colours = np.array(small.convert("HSV"))
        colours[..., 0] += np.uint8(random.randint(256))
        image = np.asarray(Image.fromarray(colours, "HSV").convert("RGB"))
        images.append(image[:, :: random.choice([-1, 1])])
    return np.stack(images), labels


@pytest.fixture(scope="module")
def drawn(browser, tmp_path_factory) -> Iterator[str]:
    """A page on a small network that was trained on drawings, whose test images may be shown anywhere."""
    data_dir = write_dataset(tmp_path_factory.mktemp("drawn"), drawn_images, train_per_batch=300)
    run_dir = train(data_dir, tmp_path_factory.mktemp("run") / "drawn", "--max-epochs", "3")
    with running_app(tmp_path_factory.mktemp("app"), "--model", str(run_dir / "artifact")) as address:
        yield address


@pytest.mark.slow
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_pictures_of_every_tab(browser, bundled, drawn, size, tmp_path):
    """Of the bundled network, but for the test images, which no picture may show."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    suffix = "-phone" if size is PHONE else ""

    def shoot(page, name: str) -> None:
        page.mouse.move(0, 0)
        settle(page)
        path = folder / f"{name}{suffix}.png"
        page.screenshot(path=path, full_page=True)
        with Image.open(path) as picture:
            assert picture.width == size["width"] and picture.height > 400
            picture.convert("RGB").quantize(128).save(path, optimize=True)  # a third of the bytes

    with visit(browser, bundled, viewport=size) as page:
        page.locator("#examples").get_by_role("button", name="horse").click()
        page.locator("#answer h2").wait_for()
        shoot(page, "predict")
        for name, title in (("accuracy", "Evaluation"), ("about", "About & API")):
            open_tab(page, title)
            shoot(page, name)
    with visit(browser, drawn, viewport=size) as page:
        for name in use_everything(page, EXAMPLES / "horse.png"):
            if name == "Test images":
                shoot(page, "test-images")
                break


# A model from the Hub


@pytest.mark.slow
def test_the_page_on_a_pulled_model_predicts_and_shows_its_samples_and_numbers(
    browser, hub, sha, tiny_artifact, drawing, tmp_path
):
    classifier = Classifier.load(tiny_artifact)
    with running_app(tmp_path, "--model", REPO, env=environment(hub, tmp_path / "home")) as address:
        with visit(browser, address) as page:
            page.locator("#head dd", has_text=f"commit {sha[:12]}").wait_for()
            assert page.locator("#notice").count() == 0
            try_all(page, classifier, drawing)


def try_all(page, classifier, drawing):
    """A prediction, a test image of the samples, the accuracy."""
    upload(page, drawing)
    page.locator("#answer h2", has_text=classifier.predict(Image.open(drawing))[0][0]).wait_for()
    open_tab(page, "Test images")
    page.locator("#test-images .tile").nth(1).click()
    page.locator("#test-answer .verdict", has_text="true class ").wait_for()
    open_tab(page, "Evaluation")
    page.get_by_text(f"{classifier.metrics.test.accuracy:.2%}").locator("visible=true").first.wait_for()


@pytest.mark.slow
def test_from_the_lean_install_to_a_visitor_on_a_space(browser, hub, tiny_artifact, drawing, tmp_path, lean_python):
    """Publish, host, and run what the Space holds as Spaces would; where CI=true, with its requirements alone."""
    env = environment(hub, tmp_path / "home")
    for words in (["publish", str(tiny_artifact), REPO], ["space", SPACE, "--model", REPO]):
        subprocess.run([lean_python, "-m", "trainer", *words], cwd=ROOT, env=env, check=True, timeout=120)
    root, variables = write_tree(hub, tmp_path / "space"), hub.repo(SPACE, "space").variables
    assert "\ngradio==" in (root / "requirements.txt").read_text()
    with running_app(tmp_path, env=env | variables, root=root, python=lean_python) as address:
        with visit(browser, address) as page:
            page.locator("#head dd", has_text=f"commit {variables['MODEL_REVISION'][:12]}").wait_for()
            try_all(page, Classifier.load(tiny_artifact), drawing)


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


@pytest.mark.slow
def test_the_notice_says_which_model_it_is_and_why(browser, tmp_path):
    env = environment("http://127.0.0.1:9", tmp_path / "home")
    with running_app(tmp_path, "--model", REPO, env=env) as address:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(address)
        text = page.locator("#notice").inner_text()
        assert "The connection to the Hub failed for ann/resnet" in text
        assert "This page uses the bundled model instead of ann/resnet." in text
        page.locator("#notice [role=status]").wait_for()
        page.wait_for_function("document.documentElement.scrollWidth === 390")
        page.close()
