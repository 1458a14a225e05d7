"""The Test images tab: filters, pages, cells of the confusion matrix, and one image asked about again."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlencode, urlsplit

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from model import Classifier
from model.artifact import ArtifactError
from model.cifar10 import CLASS_NAMES, DatasetError
from tests.markup import EVIL, find, image_in, pixels, text
from ui import dataset_browser as module
from ui.answer import percent
from ui.dataset_browser import ANY, DatasetBrowser, build_tab, drawn_grid


@pytest.fixture(scope="module")
def browser(tiny_artifact) -> DatasetBrowser:
    browser = DatasetBrowser.of(Classifier.load(tiny_artifact), Path("nowhere"))
    assert browser.read() is not None
    return browser


@pytest.fixture
def own_browser(tiny_artifact, tmp_path) -> DatasetBrowser:
    """One that a test may change, of a copy of the artifact."""
    folder = Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))
    return DatasetBrowser.of(Classifier.load(folder), tmp_path / "data")


@pytest.fixture
def bare_browser(own_browser) -> DatasetBrowser:
    """One without test images."""
    shutil.rmtree(own_browser.classifier.folder / "samples")
    return own_browser


@pytest.fixture(scope="module")
def rows(tiny_artifact, browser) -> dict[int, tuple[str, str, float]]:
    """Index -> true class, predicted class, confidence, of the images in samples/; read without the page."""
    with (tiny_artifact / "predictions.csv").open(newline="") as file:
        table = {int(row["index"]): row for row in csv.DictReader(file)}
    return {
        index: (
            CLASS_NAMES[int(table[index]["label"])],
            CLASS_NAMES[int(table[index]["predicted"])],
            float(table[index]["confidence"]),
        )
        for index in browser.tests.indices
    }


def expected(rows, show: str, true: str = ANY, predicted: str = ANY) -> list[int]:
    """The indices that the filters let through, in their order."""
    order: dict[str, Callable] = {
        "confident": lambda index: (-rows[index][2], index),
        "unsure": lambda index: (rows[index][2], index),
    }
    return [
        index
        for index in sorted(rows, key=order.get(show, lambda index: index))
        if true in (ANY, rows[index][0])
        and predicted in (ANY, rows[index][1])
        and (show in ("all", "unsure") or rows[index][0] != rows[index][1])
    ]


def chosen(browser, *filters) -> list[int]:
    return [browser.tests.indices[position] for position in browser.chosen(*filters)]


@pytest.mark.parametrize("show", ["all", "mistakes", "confident", "unsure"])
def test_each_choice_shows_its_images_in_its_order_and_both_classes_narrow_it(browser, rows, show):
    assert 30 < len(expected(rows, "mistakes")) < len(rows)  # the made-up network errs, but not always
    for true in (ANY, *CLASS_NAMES):
        for predicted in (ANY, *CLASS_NAMES):
            assert chosen(browser, show, true, predicted) == expected(rows, show, true, predicted)


@pytest.mark.parametrize("word", ["", "lion", None, ["cat"], EVIL, "Cat"])
def test_a_filter_that_is_none_lets_everything_through(browser, rows, word):
    assert chosen(browser, word, word, word) == expected(rows, "all")
    assert chosen(browser, "mistakes", word, "dog") == expected(rows, "mistakes", predicted="dog")


def test_a_class_may_be_called_like_a_filter(browser):
    names = ("any", "all", *CLASS_NAMES[2:])
    named = DatasetBrowser(SimpleNamespace(class_names=names), browser.data_dir, browser.predictions, browser.tests)
    named.rows.update(browser.rows)
    assert named.chosen(true="any") == browser.chosen(true=CLASS_NAMES[0]) != browser.chosen()


def test_the_pages_of_the_grid_hold_every_image_once_in_order(browser, rows):
    pages = [browser.grid("unsure", page=str(page)) for page in range(1, 7)]
    assert [tile.index for grid in pages for tile in grid.tiles] == expected(rows, "unsure")
    assert [(one.page, one.pages, one.count, one.total) for one in pages] == [(k, 6, 208, 208) for k in range(1, 7)]
    for page, shown in (("0", 1), ("7", 6), ("9" * 8, 6), ("9" * 30, 1), ("2.0", 1), ("\u0665", 1), (2, 1), (EVIL, 1)):
        assert browser.grid(page=page).page == shown, page


def grid_html(browser, asked: str = "") -> str:
    return drawn_grid(browser, asked)[-1]


def test_the_grid_shows_what_an_address_asks_for_and_repeats_it(browser, rows):
    asked = "show=mistakes&true=cat&grid-page=1&image=3"
    html = grid_html(browser, asked)
    assert [int(tile["data-index"]) for tile in find(html, "button", "tile")] == expected(rows, "mistakes", "cat")
    assert find(html, "div", "page-links")[0]["data-asked"] == asked
    for page, disabled in ((1, [True, False]), (2, [False, False]), (6, [False, True])):
        html = grid_html(browser, f"grid-page={page}")
        assert find(html, "p", "count")[0].text == f"208 of 208 images; page {page} of 6"
        links = find(html, "button", "page-link")
        assert [(one.text, one["data-page"]) for one in links] == [("Previous", str(page - 1)), ("Next", str(page + 1))]
        assert ["disabled" in one for one in links] == disabled
    html = grid_html(browser, "show=mistakes&true=cat&predicted=cat")
    assert "0 of 208 images; page 1 of 1" in text(html) and "No image matches these filters." in text(html)


def test_an_error_is_captioned_by_both_classes_and_a_correct_prediction_by_one(browser, rows):
    for asked in ("show=mistakes", "true=cat&predicted=cat"):
        for tile in find(grid_html(browser, asked), "button", "tile"):
            true, predicted, confidence = rows[int(tile["data-index"])]
            assert tile.text.split() == [*([] if true == predicted else [true, "→"]), predicted, percent(confidence)]
            words = f"true class {true}, predicted {predicted}, confidence {percent(confidence)}"
            assert tile["aria-label"] == f"Test image {tile['data-index']}: {words}"
    for position in range(20):
        assert np.array_equal(pixels(browser.tile(position).image), browser.tests.images[position])


def test_beside_images_that_are_here_for_an_error_the_grid_says_how_many(own_browser):
    drawn, every = len(own_browser.read().drawn), len(own_browser.tests.indices)
    note = f"{drawn} images drawn at random + {every - drawn} misclassified images."
    assert drawn < every and find(grid_html(own_browser), "p", "note")[0].text == note
    own_browser.tests = replace(own_browser.tests, drawn=range(every - 1))
    assert find(grid_html(own_browser), "p", "note")[0].text.endswith("+ 1 misclassified image.")
    own_browser.tests = replace(own_browser.tests, drawn=range(every))
    assert not find(grid_html(own_browser), "p", "note")


# A cell of the confusion matrix


def images_of(html: str) -> list[int]:
    return [int(image["alt"].split(":")[0].removeprefix("Test image ")) for image in find(html, "img")]


def test_a_cell_shows_its_images_the_most_confident_first_and_counts_all(browser, rows, monkeypatch):
    monkeypatch.setattr(module, "PER_CELL", 3)
    matrix = browser.classifier.metrics.test.confusion_matrix
    for true, name in enumerate(CLASS_NAMES):
        for predicted, other in enumerate(CLASS_NAMES):
            html, count = browser.cell_html(true, predicted), matrix[true][predicted]
            here = sorted(expected(rows, "all", name, other), key=lambda index: -rows[index][2])
            image = "image" if count == 1 else "images"
            assert find(html, "h3")[0].text == f"{count:,} {name} {image} predicted as {other}"
            assert images_of(html) == here[:3]
            if not here:
                assert "None of them is among the 208 sample images of this model." in text(html)
                continue
            assert f"{len(here[:3])} of {count:,} shown, the most confident first." in text(html)
            query = parse_qs(urlsplit(find(html, "a")[0]["href"]).query)
            assert query == {"tab": ["test-images"], "true": [name], "predicted": [other]}


def test_without_images_a_cell_says_where_to_get_them(bare_browser):
    shown = text(bare_browser.cell_html(1, 5))
    assert shown.endswith("The model on this page has no sample images. Download CIFAR-10 on the Test images tab.")
    bare_browser.classifier.class_names = tuple(reversed(CLASS_NAMES))
    assert text(bare_browser.cell_html(1, 5)).endswith("`python -m trainer export RUN_DIR --samples`.")


# One image


@pytest.mark.parametrize("outcome", ["Correct", "Incorrect"])
def test_an_image_is_predicted_again_beside_its_true_class(browser, rows, outcome):
    index = next(i for i in sorted(rows, reverse=True) if (rows[i][0] == rows[i][1]) is (outcome == "Correct"))
    html = browser.answer_html(str(index))
    image = browser.tests.images[browser.tests.indices.index(index)]
    true, predicted, confidence = rows[index]
    verdict = f"{outcome} Predicted {predicted}, true class {true}. Test image {index}"
    assert find(html, "div", "verdict")[0].text == verdict
    best = browser.classifier.predict(Image.fromarray(image), 5)
    assert [bar["data-name"] for bar in find(html, "button", "bar")] == [name for name, _ in best]
    assert best[0] == (predicted, pytest.approx(confidence, abs=1e-4))
    assert np.array_equal(pixels(find(html, "img", "pixels")[0]["src"]), image)
    assert image_in([one for one in find(html, "img") if not one.classes][0]["src"]).size == (224, 224)
    assert find(html, "p", "sr-only")[0]["data-asked"] == str(index)


@pytest.mark.parametrize("asked", [None, True, 10, "", "-1", "2.0", "9" * 8, "9" * 30, [10], EVIL])
def test_an_image_that_is_not_there_is_named_as_such(browser, asked):
    html = browser.answer_html(asked)
    assert "This test image is not here: choose another one." in find(html, "div", "problem")[0].text
    assert not find(html, "img") and find(html, "p", "sr-only")[0]["data-asked"] == str(asked)


def test_no_class_name_brings_markup(own_browser):
    own_browser.read()
    own_browser.classifier.class_names = names = tuple(f"{EVIL}{k}" for k in range(10))
    asked = urlencode({"true": names[1]})
    grid, cell = grid_html(own_browser, asked), own_browser.cell_html(1, 5)
    answer = own_browser.answer_html(str(own_browser.tests.indices[0]))
    assert all(find(html, "i") == [] for html in (grid, cell, answer, grid_html(own_browser, EVIL)))
    assert find(grid, "div", "page-links")[0]["data-asked"] == asked
    captions = [tile["aria-label"] for tile in find(grid, "button", "tile")]
    assert all(f": true class {names[1]}, predicted {EVIL}" in caption for caption in captions)
    query = parse_qs(urlsplit(find(cell, "a")[0]["href"]).query)
    assert (query["true"], query["predicted"]) == ([names[1]], [names[5]])


# What does not belong together


def test_predictions_that_are_not_those_of_the_metrics_refuse_the_artifact(own_browser):
    path = own_browser.classifier.folder / "predictions.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ArtifactError, match="predictions.csv"):
        DatasetBrowser.of(own_browser.classifier, own_browser.data_dir)


@pytest.mark.parametrize("change", [{"label": 4}, {"index": 250}])
def test_images_that_predictions_csv_contradicts_are_not_shown(own_browser, change):
    path = own_browser.classifier.folder / "samples" / "samples.json"
    about = json.loads(path.read_text())
    about["mistakes"]["images"][-1].update(change)
    path.write_text(json.dumps(about))
    assert own_browser.read() is None and own_browser.tests is None
    assert own_browser.problem == "The test images are not those that this model's predictions.csv speaks of."
    assert own_browser.problem in text(own_browser.cell_html(0, 0))
    assert "This test image is not here" in text(own_browser.answer_html("10"))


# The tab


def calls(browser: DatasetBrowser) -> dict[str, Callable]:
    with gr.Blocks() as page:
        build_tab(browser)
    return {event.fn.__name__: event.fn for event in page.fns.values() if event.fn}


def visible(drawn: list) -> list:
    """Whether the part without images, the part with them, and the download button show."""
    absent, present, _, get, _ = drawn
    return [absent.visible, present.visible, get.visible]


def test_the_tab_offers_the_download_until_the_images_are_there_and_then_shows_them(
    bare_browser, tiny_cifar, monkeypatch
):
    drawn = drawn_grid(bare_browser, "")
    assert visible(drawn) == [True, "hidden", True] and drawn[-1] == ""
    assert text(drawn[2]) == (
        "CIFAR-10 not found The model on this page has no sample images. Download the dataset to browse it."
    )
    asked = []
    monkeypatch.setattr(module.download, "download", lambda data_dir, progress: asked.append(data_dir))
    bring = calls(bare_browser)["bring"]
    bring(lambda share, desc: None)
    assert asked == [bare_browser.data_dir]
    bare_browser.data_dir = tiny_cifar
    drawn = drawn_grid(bare_browser, "grid-page=3")
    assert visible(drawn) == [False, True, False] and drawn[2] == ""
    assert "250 of 250 images; page 3 of 7" in text(drawn[-1])
    bring(lambda share, desc: None)  # the images are there
    assert len(asked) == 1


def test_no_download_is_offered_where_it_would_not_help(bare_browser, monkeypatch):
    monkeypatch.setattr(module.download, "download", lambda *of: pytest.fail("a download began"))
    bare_browser.classifier.class_names = tuple(reversed(CLASS_NAMES))
    drawn = drawn_grid(bare_browser, "")
    assert visible(drawn) == [True, "hidden", False]
    assert "No test images" in text(drawn[2]) and "Download" not in text(drawn[2])
    with pytest.raises(gr.Error, match="brings no sample images"):
        calls(bare_browser)["bring"](lambda share, desc: None)


def test_a_download_that_fails_says_why(bare_browser, monkeypatch):
    def fails(data_dir, progress):
        progress(0.5, "85 of 170 MB")
        raise DatasetError("CIFAR-10 could not be downloaded (Not Found). Try again later.")

    monkeypatch.setattr(module.download, "download", fails)
    steps = []
    with pytest.raises(gr.Error, match="could not be downloaded .Not Found.. Try again later."):
        calls(bare_browser)["bring"](lambda share, desc: steps.append((share, desc)))
    assert steps == [(0.5, "85 of 170 MB")]


@pytest.mark.parametrize("sent", [{}, {"asked": None}, {"asked": {"show": "all"}}, {"asked": EVIL * 99}])
def test_whatever_a_browser_asks_for_there_is_a_grid_and_an_answer(browser, sent):
    event = gr.EventData(None, sent)
    assert "page 1 of 6" in text(calls(browser)["draw_grid"](event)[-1])
    assert find(calls(browser)["draw_image"](event), "div", "problem")
