"""The page in a real browser: what a visitor does on each tab, on a desktop and on a phone, by mouse and by keyboard.

`SCREENSHOTS=assets/screenshots pytest -m slow tests/test_browser.py -k screenshots` redraws the screenshots of README
and docs. Camera, clipboard and a server that restarts: tests/test_upload_field.py.
"""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image

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
from tests.image_files import noise_png
from tests.markup import pixels
from tests.serving import ROOT, running_app
from tests.test_space import SPACE, write_tree
from tests.visitor import DESKTOP, address_of, clear, open_tab, upload, visit, wait_for_answers
from ui.about import PAGE, SNIPPETS
from ui.dataset_browser import PER_PAGE, DatasetBrowser
from ui.predict import EXAMPLES

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def address(browser, tiny_artifact, tmp_path_factory):
    """A page on the tiny network, which brings made-up test images."""
    with running_app(tmp_path_factory.mktemp("app"), "--model", str(tiny_artifact)) as address:
        yield address


@pytest.fixture
def grid(tiny_artifact) -> DatasetBrowser:
    """What the page at `address` browses."""
    grid = DatasetBrowser(Classifier.load(tiny_artifact), Path("nowhere"))
    assert grid.read()
    return grid


@pytest.fixture
def drawing(tmp_path):
    """Not square, and like no example."""
    (tmp_path / "drawing.png").write_bytes(noise_png(60))
    return tmp_path / "drawing.png"


def model_input(page) -> np.ndarray:
    """The image in "Model input": uint8 (32, 32, 3)."""
    return pixels(page.locator("#answer .pixels").get_attribute("src"))


def count_of(page, words: str):
    """The line above the grid, once it says so."""
    count = page.locator("#test-images .count", has_text=words)
    count.wait_for()
    return count


def first_tile(page, count: str) -> str:
    """The index of the first image of the grid, once its line says `count`."""
    count_of(page, count)
    return page.locator("#test-images .tile").first.get_attribute("data-index")


def wait_for_tiles(page, words: str) -> None:
    """Until all test images of the grid say so."""
    page.wait_for_function(
        """(words) => {
          const tiles = [...document.querySelectorAll('#test-images .tile')];
          return tiles.length && tiles.every(tile => tile.ariaLabel.includes(words));
        }""",
        arg=words,
    )


def wait_for_search(page, search: str) -> None:
    page.wait_for_function("search => window.location.search === search", arg=search)


# Predict


def test_a_visitor_uploads_an_image_and_compares_class_activation_maps(browser, address, tiny_artifact, drawing):
    expected = Classifier.load(tiny_artifact).predict(Image.open(drawing))
    with visit(browser, address) as page:
        upload(page, drawing)
        page.locator("#answer h2", has_text=expected[0][0]).wait_for()
        bars = page.locator("#answer .bar")
        assert [text.split("\n")[0] for text in bars.all_inner_texts()] == [label for label, _ in expected]
        assert np.array_equal(model_input(page), np.asarray(to_square_rgb(Image.open(drawing))))
        assert page.locator("#answer .pixels").bounding_box()["width"] > 150
        for place in (0, 2):
            bars.nth(place).click()
            label = expected[place][0]
            shown = page.locator("#answer .map:visible").get_attribute("data-class")
            assert shown == str(CLASS_NAMES.index(label)) and page.locator("#answer .of").inner_text() == label
            assert bars.nth(place).get_attribute("aria-pressed") == "true"


@pytest.mark.slow
def test_settings_change_the_answer_and_an_example_is_marked_while_it_is_shown(browser, bundled, drawing, tmp_path):
    label, _ = Classifier.load().predict(Image.open(EXAMPLES / "ship.png"))[0]
    with visit(browser, f"{bundled}?fit=pad") as page:
        expect(page.locator("#fit input[value=pad]")).to_be_checked()
        page.get_by_label("range slider for Top-k classes").press("End")
        wait_for_search(page, "?fit=pad&top=10")
        ship = page.locator("#examples").get_by_role("button", name="ship")
        ship.click()
        page.locator("#answer h2", has_text=label).wait_for()
        expect(page.locator("#answer .bar")).to_have_count(10)
        expect(ship).to_have_attribute("aria-pressed", "true")
        clear(page)
        expect(page.locator("#examples [aria-pressed=true]")).to_have_count(0)
        upload(page, shutil.copy(drawing, tmp_path / "ship.png"))  # called like the example, but another image
        page.locator("#answer .pixels").wait_for()
        expect(page.locator("#examples [aria-pressed=true]")).to_have_count(0)
        for choice, fit in (("Stretch", "stretch"), ("Center crop", "crop")):
            before = page.locator("#answer .pixels").get_attribute("src")
            page.get_by_label(choice).click()
            expect(page.locator("#answer .pixels")).not_to_have_attribute("src", before)
            assert np.array_equal(model_input(page), np.asarray(to_square_rgb(Image.open(drawing), fit)))
        wait_for_search(page, "?top=10")

    (tmp_path / "<img src=x>.png").write_bytes(b"<script>alert(1)</script>")
    Image.new("RGB", (300, 300), (127, 127, 127)).save(tmp_path / "blank.png")
    with visit(browser, bundled) as page:
        upload(page, tmp_path / "<img src=x>.png")
        page.locator("#answer .problem", has_text="This file is not an image that can be read here").wait_for()
        clear(page)
        upload(page, tmp_path / "blank.png")
        page.locator("#answer .none", has_text="Possibly out of distribution").wait_for()


@pytest.mark.slow
def test_a_batch_gives_a_table_and_the_same_as_csv_and_names_what_cannot_be_sent(browser, bundled, tmp_path):
    (tmp_path / "note.png").write_bytes(b"no image")
    (tmp_path / "large.png").write_bytes(bytes(21 * 2**20))
    held, zone, classifier = [], "#uploads input[type=file]", Classifier.load()
    with visit(browser, bundled, may_fail=True) as page:
        page.get_by_role("button", name="Batch prediction").click()
        page.set_input_files(zone, [EXAMPLES / "cat.png", tmp_path / "note.png", EXAMPLES / "truck.png"])
        rows, state = page.locator("#batch tbody tr"), page.locator("#uploads .state")
        rows.nth(2).wait_for()
        for row, name in ((0, "cat"), (2, "truck")):
            best = classifier.predict(Image.open(EXAMPLES / f"{name}.png"), top_k=3)
            assert all(word in rows.nth(row).inner_text() for word in (f"{name}.png", *(label for label, _ in best)))
        assert "This file is not an image" in rows.nth(1).inner_text()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download as CSV").click()
        lines = Path(download.value.path()).read_text("utf-8-sig").splitlines()
        assert [line.split(",")[0] for line in lines] == ["file", "cat.png", "note.png", "truck.png"]

        page.set_input_files(zone, [EXAMPLES / "cat.png"] * 17)
        expect(state).to_have_text("These are 17 images: choose 16 or fewer.")
        page.set_input_files(zone, [EXAMPLES / "cat.png", tmp_path / "large.png"])
        expect(state).to_have_text("large.png is too large: a file may have 20 MB at most.")
        for answer, reason in (
            (lambda route: route.fulfill(status=503, body=MANY_UPLOADS), MANY_UPLOADS),
            (lambda route: route.abort(), "Check the connection, and try again."),
        ):
            page.route("**/gradio_api/upload*", answer)
            page.set_input_files(zone, [EXAMPLES / "cat.png"])
            expect(state).to_have_text(f"cat.png could not be sent. {reason}")
            page.unroute("**/gradio_api/upload*")

        page.route("**/gradio_api/upload*", lambda route: route.continue_() if held else held.append(route))
        page.set_input_files(zone, [EXAMPLES / "cat.png"])
        expect(state).to_have_text("Sending image 1 of 1")
        page.set_input_files(zone, [EXAMPLES / "dog.png"])  # in place of the first, which comes late
        page.locator("#batch tbody tr", has_text="dog.png").wait_for()
        with page.expect_response("**/gradio_api/upload*"):
            held[0].continue_()
        page.wait_for_timeout(500)
        assert page.locator("#batch tbody th").all_inner_texts() == ["dog.png"]


# Test images


def test_test_images_are_filtered_and_one_is_asked_about_again(browser, address, tiny_artifact):
    matrix = np.array(Classifier.load(tiny_artifact).metrics.test.confusion_matrix)
    name = CLASS_NAMES[(matrix.sum(1) - matrix.diagonal()).argmax()]
    with visit(browser, address) as page:
        open_tab(page, "Test images")
        page.locator("#test-images .tile").first.wait_for()
        page.get_by_label("Errors", exact=True).click()
        page.wait_for_function(
            "() => [...document.querySelectorAll('#test-images .tile')].every(t => t.querySelector('.error'))"
        )
        page.locator("#true input").fill(name[:4])  # a list of many classes can be searched
        page.get_by_role("option", name=name).click()
        wait_for_tiles(page, f": true class {name},")
        assert "show=mistakes" in address_of(page) and f"true={name}" in address_of(page)
        page.locator("#test-images .tile").first.click()
        verdict = page.locator("#test-answer .verdict")
        verdict.wait_for()
        predicted = page.locator("#test-answer h2").inner_text()
        assert predicted != name and f"Predicted {predicted}, true class {name}." in verdict.inner_text()
        expect(page.locator("#test-answer .map:visible")).to_have_count(1)


@pytest.mark.slow
def test_filters_page_and_image_are_shared_by_the_address(browser, address):
    with visit(browser, address) as page:
        open_tab(page, "Test images")
        usual = first_tile(page, "page 1 of")
        page.get_by_label("Lowest confidence").click()
        page.wait_for_function("location.search.includes('show=unsure')")  # the choice begins at page 1
        for number in (2, 3):
            page.get_by_role("button", name="Next").click()
            third = first_tile(page, f"page {number} of")
        page.locator("#test-images .tile").nth(2).click()
        page.locator("#test-answer .verdict").wait_for()
        shared, verdict = address_of(page), page.locator("#test-answer .verdict").inner_text()
        assert re.search(r"\?tab=test-images&show=unsure&grid-page=3&image=\d+$", shared)
        open_tab(page, "Predict")
        open_tab(page, "Test images")
        page.wait_for_timeout(300)
        assert first_tile(page, "page 3 of") == third != usual
    for _ in range(3):  # which event comes first is a matter of luck
        with visit(browser, shared) as page:
            expect(page.locator("#test-answer .verdict")).to_have_text(verdict, use_inner_text=True)
            assert first_tile(page, "page 3 of") == third and address_of(page) == shared
            expect(page.get_by_role("tab", name="Test images")).to_have_attribute("aria-selected", "true")
    with visit(browser, shared) as page:
        count_of(page, "page 3 of")
        page.get_by_label("All", exact=True).click()
        assert first_tile(page, "page 1 of") == usual
        page.get_by_role("button", name="Next").click()
        count_of(page, "page 2 of")
        page.get_by_role("button", name="Previous").click()
        count_of(page, "page 1 of")
        assert re.search(r"\?tab=test-images&image=\d+$", address_of(page))


@pytest.mark.slow
def test_of_quick_clicks_the_last_one_is_shown(browser, address, grid):
    errors, every = len(grid.chosen("mistakes")), len(grid.chosen())
    with visit(browser, address) as page:
        settle(page)
        with first_call_held(page) as wait:
            open_tab(page, "Test images")
            wait()
            open_tab(page, "Evaluation")
        page.locator("#test-images .tile").first.wait_for(state="attached")
        page.wait_for_timeout(300)
        assert "tab=accuracy" in address_of(page)
        open_tab(page, "Test images")
        tiles = page.locator("#test-images .tile")
        settle(page)
        last = tiles.nth(8).get_attribute("data-index")
        filters = [page.get_by_label(name, exact=True) for name in ("Errors", "All")]
        for first, second, count in (
            (tiles.nth(3), tiles.nth(8), every),
            (page.get_by_label("Lowest confidence"), filters[0], errors),
            (filters[1], page.get_by_role("button", name="Next"), every),  # the next errors
            (page.get_by_role("button", name="Next"), filters[0], errors),
        ):
            with first_call_held(page) as wait:
                first.click()
                wait()
                second.click()
            wait_for_answers(page)
            pages = -(-count // PER_PAGE)
            expect(page.locator("#test-images .count")).to_have_text(f"{count} of {every} images; page 1 of {pages}")
        expect(page.locator("#test-answer .verdict")).to_contain_text(f"Test image {int(last):,}")
        assert f"image={last}" in address_of(page) and "grid-page" not in address_of(page)


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
            outcome = page.locator(".outcome").inner_text()
            mine += "You are correct" in outcome
            theirs += "the network is correct" in outcome
            assert page.locator(".score").inner_text() == f"You {mine}, network {theirs}"
            page.keyboard.press("Enter")  # the button for the next image has the focus
        page.locator("#quiz", has_text="of 10").wait_for()


# Evaluation


def cell(page, true: str, predicted: str):
    return page.get_by_role("button", name=re.compile(f"of .* {true} images predicted as {predicted}: show them"))


@pytest.mark.slow
def test_the_evaluation_tab_has_the_numbers_and_a_matrix_for_arrow_keys(browser, bundled):
    metrics = Classifier.load().metrics
    counts = metrics.test.confusion_matrix
    with visit(browser, bundled) as page:
        open_tab(page, "Evaluation")
        expect(page.locator("svg[role=img]:visible")).to_have_count(5)  # two diagrams; accuracy, loss, rate
        text = page.locator("#summary").inner_text()
        assert f"{metrics.test.accuracy:.2%}" in text and f"{metrics.val.accuracy:.2%}" in text

        row_1 = [k for k in range(10) if counts[1][k]]
        assert row_1[0] == 0 and 2 < len(row_1) < 10  # there are empty cells to move past
        page.locator('#confusion button[tabindex="0"]').focus()
        walk = [("ArrowDown", 1, 0), *(("ArrowRight", 1, k) for k in row_1[1:]), ("ArrowUp", 0, row_1[-1])]
        walk += [("End", 0, 9), ("ArrowRight", 0, 9), ("Home", 0, 0), ("ArrowUp", 0, 0), ("End", 0, 9)]
        for key, true, predicted in walk:
            page.keyboard.press(key)
            assert page.evaluate("document.activeElement.textContent") == f"{counts[true][predicted]:,}", key
        assert page.locator('#confusion button[tabindex="0"]').count() == 1
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Space")
        status = f"{counts[1][9]:,} of 1,000 automobile images predicted as truck: shown below the matrix."
        expect(page.locator("#cell [role=status]")).to_have_text(status)
        page.locator("#cell", has_text="no sample images. Download CIFAR-10 on the Test images tab").wait_for()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('#confusion')") is None
        open_tab(page, "Test images")
        page.get_by_role("heading", name="CIFAR-10 not found").wait_for()
        page.get_by_role("button", name="Download CIFAR-10 (170 MB)").wait_for()


@pytest.mark.slow
def test_a_cell_of_the_confusion_matrix_shows_its_images_and_is_shared(browser, address, tiny_artifact):
    matrix = np.array(Classifier.load(tiny_artifact).metrics.test.confusion_matrix)
    true, predicted = np.unravel_index(np.where(np.eye(10), 0, matrix).argmax(), matrix.shape)
    names = CLASS_NAMES[true], CLASS_NAMES[predicted]
    heading = f"{matrix[true, predicted]:,} {names[0]} images predicted as {names[1]}"
    with visit(browser, address) as page:
        open_tab(page, "Evaluation")
        page.set_viewport_size({"width": 1280, "height": 300})
        with first_call_held(page) as wait:  # what comes late does not replace the later one
            page.locator("#confusion .hit button").first.click()
            wait()
            cell(page, *names).click()
            page.get_by_role("heading", name=heading).wait_for()
        wait_for_answers(page)
        assert page.locator("#cell h3").all_inner_texts() == [heading]
        page.wait_for_function("document.querySelector('#cell h3').getBoundingClientRect().bottom <= innerHeight")
        shared = address_of(page)
        assert shared.endswith(f"?tab=accuracy&row={names[0]}&column={names[1]}")
    with visit(browser, shared, viewport=PHONE) as page:
        page.get_by_role("heading", name=heading).wait_for()
        assert page.locator("#cell .tiles img").count() >= 1
        assert page.locator("#confusion [aria-pressed=true]").text_content() == str(matrix[true, predicted])
        assert address_of(page) == shared
        page.get_by_role("link", name="Browse them").click()
        page.wait_for_url("**tab=test-images**")
        wait_for_tiles(page, f": true class {names[0]}, predicted {names[1]},")


# The address


@pytest.mark.slow
def test_an_address_that_names_nothing_there_is_opens_the_usual_page(browser, address):
    names = ("row", "column", "grid-page", "top", "fit", "show", "true", "predicted", "image")
    asked = urlencode(dict.fromkeys(names, "'); alert(1); <img src=x onerror=alert(1)>"))
    with visit(browser, f"{address}?tab=accuracy&{asked}") as page:
        page.locator("#cell", has_text="Select a number above").wait_for()
        page.wait_for_timeout(500)
        assert page.locator("#confusion [aria-pressed]").count() == 0
        open_tab(page, "Test images")
        count_of(page, "page 1 of")
        settle(page)
        page.get_by_role("button", name="Next").click()
        count_of(page, "page 2 of")
        open_tab(page, "Predict")
        assert page.get_by_label("range slider for Top-k classes").input_value() == "5"
        expect(page.get_by_label("Center crop")).to_be_checked()


# About & API


@pytest.mark.slow
@pytest.mark.parametrize("way", ["clipboard", "selection", "none"])
def test_code_carries_the_address_of_the_page_and_is_copied(browser, address, way):
    permissions = ["clipboard-read"] if way == "selection" else ["clipboard-read", "clipboard-write"]
    with visit(browser, f"{address}?tab=about", permissions=permissions) as page:
        if way != "clipboard":  # as on a page that is not secure
            page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed')); }")
        if way == "none":
            page.evaluate("() => { document.execCommand = () => false; }")
        expected = SNIPPETS["python"].replace(PAGE, address)
        assert page.locator("#code-python").text_content() == expected
        assert PAGE not in "".join(page.locator("pre code").all_text_contents())
        button = page.get_by_role("button", name="Copy: Python", exact=True)
        button.press("Enter")
        word = "Press Ctrl+C" if way == "none" else "Copied"
        page.locator("#about [role=status]", has_text=word).wait_for(state="attached")
        copied = page.evaluate("getSelection().toString()" if way == "none" else "navigator.clipboard.readText()")
        assert copied.strip() == expected
        expect(button).to_have_text("Copy")


# Phones, dark mode, keyboard, screen readers


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
@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_no_tab_is_wider_than_the_screen_or_has_a_serious_fault_of_accessibility(
    browser, address, drawing, size, scheme
):
    from axe_playwright_python.sync_playwright import Axe

    with visit(browser, address, viewport=size, color_scheme=scheme) as page:
        for name in use_everything(page, drawing):
            settle(page)
            page.wait_for_function(f"document.documentElement.scrollWidth === {size['width']}")
            serious = [
                (fault["id"], [node["html"][:200] for node in fault["nodes"]])
                for fault in Axe().run(page).response["violations"]
                if fault["impact"] in ("serious", "critical")
            ]
            assert serious == [], name


@pytest.mark.slow
def test_what_a_screen_reader_says_is_changed_in_place(browser, address, drawing, tmp_path):
    (tmp_path / "note.png").write_bytes(b"no image")

    def mark(page, where: str) -> None:
        page.locator(f"{where} [role=status]").evaluate("region => { region.known = true; }")

    def said(page, where: str, words: str) -> None:
        region = page.locator(f"{where} [role=status]", has_text=words)
        region.wait_for(state="attached")
        assert region.evaluate("region => region.known") and page.locator(f"{where} [role=status]").count() == 1

    with visit(browser, address) as page:
        mark(page, "#answer")
        upload(page, drawing)
        page.locator("#answer h2").wait_for()
        said(page, "#answer", f"{page.locator('#answer h2').inner_text()}, confidence ")
        clear(page)
        upload(page, tmp_path / "note.png")
        said(page, "#answer", "Could not classify this image. This file is not an image")
        open_tab(page, "Test images")
        page.locator("#test-images .tile").first.wait_for()
        mark(page, "#test-answer")
        for place in (0, 1):
            tile = page.locator("#test-images .tile").nth(place)
            tile.click()
            said(page, "#test-answer", f"Test image {tile.get_attribute('data-index')}: true class ")


def tab_to(page, matches: str, key: str) -> None:
    """Presses Tab until an element has the focus, fails where one cannot see that it has it, and presses `key`."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("matches => document.activeElement.matches(matches)", matches):
            seen = "(document.activeElement.closest('.zone') ?? document.activeElement)"
            assert page.evaluate(f"getComputedStyle({seen}).outlineStyle") != "none"
            page.keyboard.press(key)
            return
    raise AssertionError(f"Tab never reaches {matches}")


@pytest.mark.slow
def test_a_visitor_needs_no_mouse(browser, address, grid):
    errors = len(grid.chosen("mistakes"))
    with visit(browser, address) as page:
        page.on("filechooser", lambda chooser: chooser.set_files([EXAMPLES / "cat.png", EXAMPLES / "dog.png"]))
        tab_to(page, "#fit input[value=pad]", "Space")
        wait_for_search(page, "?fit=pad")
        tab_to(page, "#examples button[data-name=frog]", "Enter")
        page.locator("#answer h2").wait_for()
        tab_to(page, "#answer .bar[aria-pressed=false]", "Space")
        expect(page.locator("#answer .bar").nth(1)).to_have_attribute("aria-pressed", "true")
        tab_to(page, "#batch-accordion button", "Enter")
        page.locator("#uploads .zone").wait_for()
        tab_to(page, "#uploads input[type=file]", "Enter")
        page.locator("#batch tbody tr").nth(1).wait_for()
        with page.expect_download():
            tab_to(page, "#batch .download", "Enter")

        tab_to(page, "[role=tab][data-tab-id=test-images]", "Enter")
        page.locator("#test-images .tile").first.wait_for()
        tab_to(page, "#show input[value=mistakes]", "Space")
        count_of(page, f"{errors} of {len(grid.chosen())} images")
        tab_to(page, "#test-images .page-link:enabled", "Enter")
        count_of(page, f"page 2 of {-(-errors // PER_PAGE)}")
        assert page.evaluate("document.activeElement.textContent") == "Next"
        tab_to(page, "#true input", "ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        wait_for_tiles(page, ": true class automobile,")
        tab_to(page, "#test-images .tile", "Enter")
        page.locator("#test-answer .verdict").wait_for()
        tab_to(page, "#test-answer .bar[aria-pressed=false]", "Enter")
        expect(page.locator("#test-answer .bar").nth(1)).to_have_attribute("aria-pressed", "true")


# Screenshots


def drawn_images(count: int, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """The example drawings, each time turned, cropped and colored otherwise."""
    labels, images = np.arange(count) % 10, []
    for label in labels:
        with Image.open(EXAMPLES / f"{CLASS_NAMES[label]}.png") as drawing:
            turned = drawing.convert("RGB").rotate(random.uniform(-8, 8), Image.Resampling.BILINEAR)
        side = random.randint(180, 220)
        left, top = random.randint(18, 238 - side, 2)
        small = turned.crop((left, top, left + side, top + side)).resize((32, 32), Image.Resampling.BOX)
        hsv = np.array(small.convert("HSV"))
        hsv[..., 0] += np.uint8(random.randint(256))
        image = np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))
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
def test_screenshots_of_every_tab(browser, bundled, drawn, size, tmp_path):
    """Of the bundled network, but for the test images, which no screenshot may show."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def shoot(page, name: str) -> None:
        page.mouse.move(0, 0)
        settle(page)
        path = folder / f"{name}{'-phone' if size is PHONE else ''}.png"
        page.screenshot(path=path, full_page=True)
        with Image.open(path) as image:
            assert image.width == size["width"] and image.height > 400
            image.convert("RGB").quantize(128).save(path, optimize=True)  # a third of the bytes

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
def test_from_the_lean_install_to_a_visitor_on_a_space(browser, hub, tiny_artifact, drawing, tmp_path, lean_python):
    """Publish, host, and run what the Space holds as Spaces would; where CI=true, with its requirements alone."""
    env, classifier = environment(hub, tmp_path / "home"), Classifier.load(tiny_artifact)
    for words in (["publish", str(tiny_artifact), REPO], ["space", SPACE, "--model", REPO]):
        subprocess.run([lean_python, "-m", "trainer", *words], cwd=ROOT, env=env, check=True, timeout=120)
    root, variables = write_tree(hub, tmp_path / "space"), hub.repo(SPACE, "space").variables
    assert "\ngradio==" in (root / "requirements.txt").read_text()
    with running_app(tmp_path, env=env | variables, root=root, python=lean_python) as address:
        with visit(browser, address) as page:
            page.locator("#head dd", has_text=f"commit {variables['MODEL_REVISION'][:12]}").wait_for()
            assert page.locator("#notice").count() == 0
            upload(page, drawing)
            page.locator("#answer h2", has_text=classifier.predict(Image.open(drawing))[0][0]).wait_for()
            open_tab(page, "Test images")
            page.locator("#test-images .tile").nth(1).click()
            page.locator("#test-answer .verdict", has_text="true class ").wait_for()
            open_tab(page, "Evaluation")
            expect(page.locator("#summary")).to_contain_text(f"{classifier.metrics.test.accuracy:.2%}")
