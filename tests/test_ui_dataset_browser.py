"""The Test images tab: where the images come from, filters, pages, cells of the confusion matrix, one image, quiz."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from model import Classifier
from model.artifact import ArtifactError
from model.cifar10 import CLASS_NAMES, FOLDER, DatasetError, read_test
from tests.markup import EVIL, find, image_in, pixels, text
from ui import dataset_browser as module
from ui.answer import percent
from ui.dataset_browser import DatasetBrowser, build_tab, drawn_grid
from ui.dataset_images import NoDataset, find_images, read_samples
from ui.quiz import quiz_html, rounds_of

NO_SAMPLES = "The model on this page has no sample images."


@pytest.fixture(scope="module")
def browser(tiny_artifact) -> DatasetBrowser:
    browser = DatasetBrowser(Classifier.load(tiny_artifact), Path("nowhere"))
    assert browser.read() is not None
    return browser


@pytest.fixture
def own_browser(tiny_artifact, tmp_path) -> DatasetBrowser:
    """One that a test may change, of a copy of the artifact."""
    folder = Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))
    return DatasetBrowser(Classifier.load(folder), tmp_path / "data")


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
        index: (*(CLASS_NAMES[int(table[index][name])] for name in ("label", "predicted")), float(row["confidence"]))
        for index in browser.tests.indices
        if (row := table[index])
    }


def expected(rows, show: str, true: str | None = None, predicted: str | None = None) -> list[int]:
    """The indices that the filters let through, in their order."""
    sign = {"confident": -1, "unsure": 1}.get(show, 0)
    return [
        index
        for index in sorted(rows, key=lambda index: (sign * rows[index][2], index))
        if true in (None, rows[index][0])
        and predicted in (None, rows[index][1])
        and (show in ("all", "unsure") or rows[index][0] != rows[index][1])
    ]


# Where the images come from


def test_the_samples_of_an_artifact_are_both_sheets_each_image_once(browser, tiny_artifact, tiny_cifar):
    official, labels = read_test(tiny_cifar)
    about = json.loads((tiny_artifact / "samples" / "samples.json").read_text())
    sheets = [{entry["index"] for entry in about[name]["images"]} for name in ("test", "mistakes")]
    assert sheets[0] & sheets[1] and sheets[1] - sheets[0]  # the case that matters
    found = browser.tests
    assert found.indices == sorted(sheets[0] | sheets[1]) and found.labels == labels[found.indices].tolist()
    assert np.array_equal(found.images, official[found.indices])
    assert [found.indices[position] for position in found.drawn] == sorted(sheets[0])


def test_an_intact_cifar_folder_is_preferred_to_samples_for_a_model_of_its_classes(
    browser, own_browser, tiny_cifar, tmp_path, caplog
):
    classifier, samples = own_browser.classifier, browser.tests.indices
    official, labels = read_test(tiny_cifar)
    found = find_images(classifier, tiny_cifar)
    assert found.indices == list(found.drawn) == list(range(250)) and found.labels == labels.tolist()
    assert np.array_equal(found.images, official)
    classifier.class_names = tuple(reversed(CLASS_NAMES))
    assert find_images(classifier, tiny_cifar).indices == samples
    classifier.class_names = CLASS_NAMES
    shutil.copytree(tiny_cifar / FOLDER, tmp_path / FOLDER)
    with (tmp_path / FOLDER / "test_batch").open("ab") as file:
        file.write(b"altered")
    assert find_images(classifier, tmp_path).indices == samples
    shutil.rmtree(classifier.folder / "samples")
    with pytest.raises(NoDataset, match="^The CIFAR-10 files on this server are damaged or altered.$"):
        find_images(classifier, tmp_path)
    assert str(tmp_path) in caplog.text and "test_batch is damaged or altered" in caplog.text  # for the host alone
    (tmp_path / FOLDER / "data_batch_3").unlink()
    with pytest.raises(NoDataset, match=NO_SAMPLES):
        find_images(classifier, tmp_path)


@pytest.fixture
def samples(own_browser) -> Path:
    """The samples/ of the artifact, which a test may damage."""
    return own_browser.classifier.folder / "samples"


def edit(samples: Path, change: Callable) -> None:
    about = json.loads((samples / "samples.json").read_text())
    change(about)
    (samples / "samples.json").write_text(json.dumps(about))


def test_a_network_without_mistakes_has_one_sheet(samples):
    edit(samples, lambda about: about["mistakes"].update(images=[]))
    (samples / "mistakes.png").unlink()
    assert len(read_samples(samples, 10, 32).indices) == 200


LISTINGS = {
    "zero columns": lambda about: about.update(columns=0),
    "half a column": lambda about: about.update(columns=2.5),
    "large tiles": lambda about: about.update(tile=64),
    "too many images": lambda about: about["test"].update(images=about["test"]["images"] * 6),
    "a number for images": lambda about: about["test"].update(images=7),
    "an infinite index": lambda about: about["test"]["images"][3].update(index=float("inf")),
    "no index": lambda about: about["test"]["images"][3].pop("index"),
    "an unknown label": lambda about: about["test"]["images"][3].update(label=10),
    "a sheet of another folder": lambda about: about["mistakes"].update(sheet="../mistakes.png"),
}
FILES = {
    "too many columns": lambda folder: (
        Image.new("RGB", (32 * 1001, 32)).save(folder / "test.png"),
        edit(folder, lambda about: about.update(columns=1001, mistakes={"images": []})),
    ),
    "no listing": lambda folder: (folder / "samples.json").unlink(),
    "deep JSON": lambda folder: (folder / "samples.json").write_text("[" * 100_000),
    "a list": lambda folder: (folder / "samples.json").write_text("[]"),
    "no PNG": lambda folder: (folder / "test.png").unlink(),
    "half a PNG": lambda folder: (folder / "test.png").write_bytes((folder / "test.png").read_bytes()[:500]),
    "a small sheet": lambda folder: Image.new("RGB", (640, 32)).save(folder / "test.png"),
    "a JPEG": lambda folder: Image.new("RGB", (640, 320)).save(folder / "test.png", format="JPEG"),
    "a bomb": lambda folder: Image.new("1", (20_000, 9_000)).save(folder / "test.png"),
}


@pytest.mark.parametrize("damage", [*LISTINGS, *FILES])
def test_damaged_samples_are_refused_with_what_to_do(samples, damage):
    if damage == "a sheet of another folder":
        (samples / "mistakes.png").rename(samples.parent / "mistakes.png")
    if damage in LISTINGS:
        edit(samples, LISTINGS[damage])
    else:
        FILES[damage](samples)
    with pytest.raises(DatasetError, match="Export the artifact again, or delete that folder"):
        read_samples(samples, 10, 32)


def test_predictions_that_are_not_those_of_the_metrics_refuse_the_artifact(own_browser):
    path = own_browser.classifier.folder / "predictions.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ArtifactError, match="predictions.csv"):
        DatasetBrowser(own_browser.classifier, own_browser.data_dir)


@pytest.mark.parametrize("change", [{"label": 4}, {"index": 250, "label": 9}])
def test_images_that_predictions_csv_contradicts_are_not_shown(own_browser, samples, change):
    edit(samples, lambda about: about["mistakes"]["images"][-1].update(change))
    assert own_browser.read() is None and own_browser.tests is None
    assert own_browser.problem == "The test images are not those that this model's predictions.csv speaks of."
    assert own_browser.problem in text(own_browser.cell_html(0, 0))
    assert "This test image is not here" in text(own_browser.answer_html("10"))


# The grid


def shown(browser, **asked) -> list[int]:
    """The indices on the page that an address asks for."""
    return [int(tile["data-index"]) for tile in find(browser.grid_html(urlencode(asked)), "button", "tile")]


@pytest.mark.parametrize("show", ["all", "mistakes", "confident", "unsure"])
def test_each_choice_shows_its_images_in_its_order_and_both_classes_narrow_it(browser, rows, show):
    assert 30 < len(expected(rows, "mistakes")) < len(rows)  # the made-up network errs, but not always
    for true in (None, *CLASS_NAMES):
        for predicted in (None, *CLASS_NAMES):
            found = [browser.tests.indices[position] for position in browser.chosen(show, true, predicted)]
            assert found == expected(rows, show, true, predicted)


def test_the_pages_of_the_grid_hold_every_image_once_and_link_to_their_neighbors(browser, rows):
    pages = [shown(browser, show="unsure", **{"grid-page": page}) for page in range(1, 7)]
    assert sum(pages, []) == expected(rows, "unsure") and [len(page) for page in pages] == [40] * 5 + [8]
    for page, disabled in ((1, [True, False]), (2, [False, False]), (6, [False, True])):
        html = browser.grid_html(f"grid-page={page}")
        assert find(html, "p", "count")[0].text == f"208 of 208 images; page {page} of 6"
        links = find(html, "button", "page-link")
        assert [(one.text, one["data-page"]) for one in links] == [("Previous", str(page - 1)), ("Next", str(page + 1))]
        assert ["disabled" in one for one in links] == disabled
    assert shown(browser, true="cat", predicted="dog", show="mistakes") == expected(rows, "mistakes", "cat", "dog")
    html = browser.grid_html("show=mistakes&true=cat&predicted=cat")
    assert "0 of 208 images; page 1 of 1" in text(html) and "No image matches these filters." in text(html)


def test_what_an_address_names_and_there_is_not_is_no_filter_and_the_nearest_page(browser):
    for word in ("", "lion", "Cat", "<any>", EVIL):
        asked = urlencode(dict.fromkeys(("show", "true", "predicted", "grid-page"), word))
        html = browser.grid_html(asked)
        assert "208 of 208 images; page 1 of 6" in text(html)
        assert find(html, "div", "page-links")[0]["data-asked"] == asked  # repeated, so that the script knows
    for page, nearest in (("0", 1), ("7", 6), ("9" * 8, 6), ("9" * 30, 1), ("2.0", 1), ("\u0665", 1)):
        assert f"page {nearest} of 6" in text(browser.grid_html(urlencode({"grid-page": page}))), page


def test_an_error_is_captioned_by_both_classes_and_a_correct_prediction_by_one(browser, rows):
    for asked in ("show=mistakes", "true=cat&predicted=cat"):
        for tile in find(browser.grid_html(asked), "button", "tile"):
            true, predicted, confidence = rows[int(tile["data-index"])]
            assert tile.text.split() == [*([] if true == predicted else [true, "→"]), predicted, percent(confidence)]
            words = f"true class {true}, predicted {predicted}, confidence {percent(confidence)}"
            assert tile["aria-label"] == f"Test image {tile['data-index']}: {words}"
    for position in range(20):
        assert np.array_equal(pixels(browser.tile(position).image), browser.tests.images[position])


def test_beside_images_that_are_here_for_an_error_the_grid_says_how_many(own_browser):
    every = len(own_browser.read().indices)
    for drawn, words in ((200, "+ 8 misclassified images."), (207, "+ 1 misclassified image."), (208, None)):
        own_browser.tests = replace(own_browser.tests, drawn=range(drawn))
        note = [one.text for one in find(own_browser.grid_html(""), "p", "note")]
        assert every == 208 and note == ([f"{drawn} images drawn at random {words}"] if words else [])


# A cell of the confusion matrix, and one image


def test_a_cell_shows_its_images_the_most_confident_first_and_counts_all(browser, rows, monkeypatch):
    monkeypatch.setattr(module, "PER_CELL", 3)
    matrix = browser.classifier.metrics.test.confusion_matrix
    for true, name in enumerate(CLASS_NAMES):
        for predicted, other in enumerate(CLASS_NAMES):
            html, count = browser.cell_html(true, predicted), matrix[true][predicted]
            here = sorted(expected(rows, "all", name, other), key=lambda index: -rows[index][2])
            assert find(html, "h3")[0].text == f"{count:,} {name} image{'s'[: count != 1]} predicted as {other}"
            images = [int(image["alt"].split(":")[0].removeprefix("Test image ")) for image in find(html, "img")]
            assert images == here[:3]
            if not here:
                assert "None of them is among the 208 sample images of this model." in text(html)
                continue
            assert f"{len(here[:3])} of {count:,} shown, the most confident first." in text(html)
            query = parse_qs(urlsplit(find(html, "a")[0]["href"]).query)
            assert query == {"tab": ["test-images"], "true": [name], "predicted": [other]}


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


# The tab


def calls(browser: DatasetBrowser) -> dict[str, Callable]:
    with gr.Blocks() as page:
        build_tab(browser)
    return {event.fn.__name__: event.fn for event in page.fns.values() if event.fn}


def test_whatever_a_browser_asks_for_there_is_a_grid_and_an_answer(browser):
    functions = calls(browser)
    for asked in (None, True, 10, "", "-1", "2.0", "9" * 8, "9" * 30, [10], {"show": "all"}, EVIL * 9):
        event = gr.EventData(None, {"asked": asked})
        assert "page 1 of 6" in text(functions["draw_grid"](event)[-1])
        html = functions["draw_image"](event)
        assert "This test image is not here: choose another one." in find(html, "div", "problem")[0].text
        assert not find(html, "img") and find(html, "p", "sr-only")[0]["data-asked"] == str(asked)
    assert "page 1 of 6" in text(functions["draw_grid"](gr.EventData(None, {}))[-1])


def visible(drawn: list) -> list:
    """Whether the part without images, the part with them, and the download button show."""
    absent, present, _, get, _ = drawn
    return [absent.visible, present.visible, get.visible]


def test_the_download_is_offered_until_the_images_are_there_and_its_failure_told(bare_browser, tiny_cifar, monkeypatch):
    drawn = drawn_grid(bare_browser, "")
    assert visible(drawn) == [True, "hidden", True] and drawn[-1] == ""
    assert text(drawn[2]) == f"CIFAR-10 not found {NO_SAMPLES} Download the dataset to browse it."
    assert text(bare_browser.cell_html(1, 5)).endswith(f"{NO_SAMPLES} Download CIFAR-10 on the Test images tab.")
    assert "data-asked" not in find(bare_browser.answer_html("1"), "p", "sr-only")[0]  # a download may bring it
    steps = []

    def fails(data_dir, progress):
        progress(0.5, "85 of 170 MB")
        raise DatasetError(f"{data_dir.name} could not be downloaded.")

    monkeypatch.setattr(module.download, "download", fails)
    bring = calls(bare_browser)["bring"]
    with pytest.raises(gr.Error, match="data could not be downloaded."):
        bring(lambda share, desc: steps.append((share, desc)))
    assert steps == [(0.5, "85 of 170 MB")]
    bare_browser.data_dir = tiny_cifar
    drawn = drawn_grid(bare_browser, "grid-page=3")
    assert visible(drawn) == [False, True, False] and drawn[2] == ""
    assert "250 of 250 images; page 3 of 7" in text(drawn[-1])
    bring(None)  # the images are there


def test_no_download_is_offered_where_it_would_not_help(bare_browser):
    bare_browser.classifier.class_names = tuple(reversed(CLASS_NAMES))
    drawn = drawn_grid(bare_browser, "")
    assert visible(drawn) == [True, "hidden", False]
    assert "No test images" in text(drawn[2]) and "Download" not in text(drawn[2])
    assert text(bare_browser.cell_html(1, 5)).endswith("`python -m trainer export RUN_DIR --samples`.")
    with pytest.raises(gr.Error, match="brings no sample images"):
        calls(bare_browser)["bring"](None)


# The quiz


def play(browser, seed: int = 0) -> list[dict]:
    return rounds_of(browser, np.random.default_rng(seed))


def test_ten_different_images_are_asked_each_with_its_true_and_its_predicted_class(browser, rows, monkeypatch):
    rounds = play(browser)
    assert len({one["index"] for one in rounds}) == 10
    for one in rounds:
        true, predicted, confidence = rows[one["index"]]
        assert np.array_equal(pixels(one["image"]), browser.tests.images[browser.tests.indices.index(one["index"])])
        assert (CLASS_NAMES[one["label"]], CLASS_NAMES[one["predicted"]]) == (true, predicted)
        assert one["confidence"] == percent(confidence)
    monkeypatch.setattr(browser.classifier, "class_names", tuple(f"{EVIL}{k}" for k in range(10)))
    (quiz,) = find(quiz_html(browser, rounds), "div")
    assert json.loads(quiz["data-names"])[9] == f"{EVIL}9" and json.loads(quiz["data-rounds"]) == rounds


def test_every_image_has_its_turn_in_the_quiz_but_those_that_are_here_for_an_error(own_browser):
    own_browser.tests = replace(own_browser.read(), drawn=range(12))
    played = [frozenset(one["index"] for one in play(own_browser, seed)) for seed in range(40)]
    assert set.union(*map(set, played)) == set(own_browser.tests.indices[:12]) and len(set(played)) > 20
    own_browser.tests = replace(own_browser.tests, drawn=range(3))
    assert sorted(one["index"] for one in play(own_browser)) == own_browser.tests.indices[:3]


def test_without_images_there_is_the_start_of_the_quiz_and_no_round(bare_browser):
    html = quiz_html(bare_browser, play(bare_browser))
    assert "Start the quiz" in text(html) and "data-rounds" not in find(html, "div", "quiz")[0]
