import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from model import Classifier
from model.artifact import ArtifactError
from model.cifar10 import CLASS_NAMES, FOLDER, DatasetError, read_test
from tests.hostile import chunk
from tests.markup import EVIL, elements, find, picture, pixels, text
from ui import test_images as module
from ui.answer import percent
from ui.page import build_page
from ui.test_images import (
    ANY,
    Browser,
    absent_html,
    build_tab,
    find_test_images,
    read_samples,
    verdict_html,
)


def classifier_at(folder: Path, names=CLASS_NAMES) -> SimpleNamespace:
    return SimpleNamespace(folder=folder, class_names=names)


@pytest.fixture
def samples(tiny_artifact, tmp_path) -> Path:
    """A copy of the artifact's samples/ that a test may damage."""
    return Path(shutil.copytree(tiny_artifact / "samples", tmp_path / "samples"))


# Where the images come from


def test_the_samples_of_an_artifact_are_both_sheets_each_image_once_as_in_the_test_set(tiny_artifact, tiny_cifar):
    official, labels = read_test(tiny_cifar)
    found = find_test_images(classifier_at(tiny_artifact), Path("nowhere"))
    about = json.loads((tiny_artifact / "samples" / "samples.json").read_text())
    sheets = [{entry["index"] for entry in about[name]["images"]} for name in ("test", "mistakes")]
    assert sheets[0] & sheets[1] and sheets[1] - sheets[0]  # the case that matters
    assert found.indices == sorted(sheets[0] | sheets[1])
    assert np.array_equal(found.images, official[found.indices])
    assert found.labels == labels[found.indices].tolist()
    assert {found.indices[position] for position in found.drawn} == sheets[0] and len(found.drawn) == len(sheets[0])


def test_a_complete_cifar_folder_is_preferred_to_the_samples(tiny_artifact, tiny_cifar):
    official, labels = read_test(tiny_cifar)
    found = find_test_images(classifier_at(tiny_artifact), tiny_cifar)
    assert found.indices == list(found.drawn) == list(range(250)) and found.labels == labels.tolist()
    assert np.array_equal(found.images, official)


def test_an_incomplete_cifar_folder_does_not_hide_the_samples(tiny_artifact, tiny_cifar, tmp_path):
    shutil.copytree(tiny_cifar / FOLDER, tmp_path / FOLDER)
    (tmp_path / FOLDER / "data_batch_3").unlink()
    assert len(find_test_images(classifier_at(tiny_artifact), tmp_path).indices) < 250


def test_with_neither_samples_nor_data_it_says_so(tmp_path):
    with pytest.raises(DatasetError) as caught:
        find_test_images(classifier_at(tmp_path), tmp_path / "data")
    assert str(caught.value) == "This model comes without sample images, and CIFAR-10 is not on this server yet."


def test_a_cifar_folder_does_not_serve_a_model_of_other_classes(tiny_artifact, tiny_cifar, tmp_path):
    with pytest.raises(DatasetError, match="its classes are not those of CIFAR-10"):
        find_test_images(classifier_at(tmp_path, ("cat", "dog")), tiny_cifar)
    names = tuple(reversed(CLASS_NAMES))
    assert len(find_test_images(classifier_at(tiny_artifact, names), tiny_cifar).indices) < 250


def test_a_damaged_cifar_folder_is_told_to_visitors_without_its_path_and_to_the_host_with_it(
    made_up_cifar, tmp_path, caplog
):
    """The made-up files do not have the official md5."""
    with pytest.raises(DatasetError) as caught:
        find_test_images(classifier_at(tmp_path), made_up_cifar)
    assert str(caught.value) == "The CIFAR-10 files on this server are damaged or altered."
    assert str(made_up_cifar) in caplog.text and "test_batch is damaged or altered" in caplog.text


def test_a_damaged_cifar_folder_does_not_hide_the_samples(tiny_artifact, made_up_cifar, caplog):
    found = find_test_images(classifier_at(tiny_artifact), made_up_cifar)
    assert found.indices == read_samples(tiny_artifact / "samples", 10).indices
    assert "test_batch is damaged or altered" in caplog.text


def test_a_network_without_mistakes_has_one_sheet(samples):
    edit(samples, lambda about: about["mistakes"].update(images=[]))
    (samples / "mistakes.png").unlink()
    assert len(read_samples(samples, 10).indices) == 200


def edit(samples: Path, change) -> None:
    about = json.loads((samples / "samples.json").read_text())
    change(about)
    (samples / "samples.json").write_text(json.dumps(about))


def with_tiles_of_64(samples: Path) -> None:
    edit(samples, lambda about: about.update(tile=64))
    sheet = Image.open(samples / "test.png")
    sheet.resize((sheet.width * 2, sheet.height * 2)).save(samples / "test.png")


def with_a_short_chunk(png: bytes) -> bytes:
    """Behind the pixels, where Pillow finds it when it loads them."""
    at = png.index(b"IEND") - 4
    return png[:at] + chunk(b"gAMA", b"\0") + png[at:]


def with_a_broken_chunk(png: bytes) -> bytes:
    """Its pixels come in two chunks, with one between them whose name is none: Pillow finds that when it loads them."""
    at = png.index(b"IDAT") - 4
    end = at + 8 + int.from_bytes(png[at : at + 4], "big")
    halves = png[at + 8 : at + 108], png[at + 108 : end]
    return png[:at] + chunk(b"IDAT", halves[0]) + chunk(bytes(4), b"") + chunk(b"IDAT", halves[1]) + png[end + 4 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda samples: (samples / "samples.json").unlink(),
        lambda samples: (samples / "samples.json").write_text("{"),
        lambda samples: (samples / "samples.json").write_text("[]"),
        lambda samples: (samples / "test.png").unlink(),
        lambda samples: (samples / "test.png").write_bytes((samples / "test.png").read_bytes()[:500]),
        lambda samples: (samples / "test.png").write_bytes(with_a_broken_chunk((samples / "test.png").read_bytes())),
        lambda samples: (samples / "test.png").write_bytes(with_a_short_chunk((samples / "test.png").read_bytes())),
        lambda samples: Image.new("RGB", (640, 32)).save(samples / "test.png"),
        lambda samples: Image.new("RGB", (640, 320)).save(samples / "test.png", format="JPEG"),
        lambda samples: with_tiles_of_64(samples),
        lambda samples: edit(samples, lambda about: about.update(columns=0)),
        lambda samples: edit(samples, lambda about: about.update(columns=-1)),
        lambda samples: edit(samples, lambda about: about.update(columns=10**12)),
        lambda samples: edit(samples, lambda about: about.update(columns=2.5)),
        lambda samples: edit(samples, lambda about: about["test"].update(images=about["test"]["images"] * 6)),
        lambda samples: edit(samples, lambda about: about["test"].update(images=[])),
        lambda samples: (samples / "samples.json").write_text("[" * 100_000),
        lambda samples: Image.new("1", (20_000, 9_000)).save(samples / "test.png"),
        lambda samples: edit(samples, lambda about: about["test"]["images"][3].update(index=float("inf"))),
        lambda samples: edit(samples, lambda about: about["test"]["images"][3].update(label=10)),
        lambda samples: edit(samples, lambda about: about["test"]["images"][3].pop("index")),
        lambda samples: edit(samples, lambda about: about["test"].update(images=7)),
        lambda samples: edit(samples, lambda about: about["test"]["images"][3].update(label=-1)),
        lambda samples: edit(samples, lambda about: about["test"]["images"][3].update(label="0")),
        lambda samples: edit(samples, lambda about: about.pop("mistakes")),
        lambda samples: (samples / "mistakes.png").unlink(),
        lambda samples: edit(samples, lambda about: about["mistakes"].update(sheet="../test.png")),
        lambda samples: edit(samples, lambda about: about["mistakes"]["images"][0].update(label=10)),
    ],
)
def test_damaged_samples_are_refused_with_what_to_do(samples, damage):
    damage(samples)
    with pytest.raises(DatasetError) as caught:
        read_samples(samples, 10)
    assert "Export the artifact again, or delete that folder" in str(caught.value)


# What is shown of them


@pytest.fixture(scope="module")
def browser(tiny_artifact) -> Browser:
    browser = Browser.of(Classifier.load(tiny_artifact), Path("nowhere"))
    assert browser.read() is not None
    return browser


@pytest.fixture
def own_browser(tiny_artifact, tmp_path) -> Browser:
    """One that a test may change, of a copy of the artifact."""
    folder = Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))
    return Browser.of(Classifier.load(folder), tmp_path / "data")


@pytest.fixture(scope="module")
def rows(tiny_artifact) -> dict[int, tuple[str, str, float]]:
    """Index -> true class, predicted class, confidence, of the images in samples/; read without the page."""
    about = json.loads((tiny_artifact / "samples" / "samples.json").read_text())
    here = {entry["index"] for name in ("test", "mistakes") for entry in about[name]["images"]}
    with (tiny_artifact / "predictions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    return {
        int(row["index"]): (
            CLASS_NAMES[int(row["label"])],
            CLASS_NAMES[int(row["predicted"])],
            float(row["confidence"]),
        )
        for row in table
        if int(row["index"]) in here
    }


def test_a_class_may_be_called_like_a_filter(browser):
    names = ("any", "all", *CLASS_NAMES[2:])
    named = Browser(SimpleNamespace(class_names=names), browser.data_dir, browser.predictions, browser.tests)
    named.rows.update(browser.rows)
    assert named.chosen(true="any") == browser.chosen(true=CLASS_NAMES[0]) != browser.chosen()


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
def test_each_choice_shows_its_images_in_its_order(browser, rows, show):
    assert chosen(browser, show) == expected(rows, show)
    assert 30 < len(expected(rows, "mistakes")) < len(rows)  # the made-up network errs, but not always


@pytest.mark.parametrize("show", ["all", "mistakes", "confident", "unsure"])
def test_the_true_and_the_predicted_class_narrow_every_choice(browser, rows, show):
    for true in (ANY, *CLASS_NAMES):
        for predicted in (ANY, *CLASS_NAMES):
            assert chosen(browser, show, true, predicted) == expected(rows, show, true, predicted)


@pytest.mark.parametrize("word", ["", "lion", None, 3, ["cat"], {}, EVIL, "Cat"])
def test_a_filter_that_is_none_lets_everything_through(browser, rows, word):
    assert chosen(browser, word, word, word) == expected(rows, "all")
    assert chosen(browser, "mistakes", word, "dog") == expected(rows, "mistakes", predicted="dog")


def tiles(html: str) -> list[int]:
    return [int(tile["data-index"]) for tile in find(html, "button", "test")]


def test_the_pages_of_the_grid_hold_every_image_once_in_order(browser, rows):
    pages = [browser.grid_html("unsure", ANY, ANY, page) for page in range(6)]
    assert sum(map(tiles, pages), []) == expected(rows, "unsure")
    assert [len(tiles(page)) for page in pages] == [40] * 5 + [8]
    assert find(pages[0], "p", "count")[0].text == "208 of 208 images; page 1 of 6"
    for number, page in enumerate(pages):
        turns = find(page, "button", "turn")
        assert [(turn.text, turn["data-page"]) for turn in turns] == [
            ("Previous", str(number - 1)),
            ("Next", str(number + 1)),
        ]
        assert ["disabled" in turn for turn in turns] == [number == 0, number == 5]


@pytest.mark.parametrize(
    ("page", "shown"),
    [(-1, 1), (-(10**30), 1), (6, 6), (10**30, 6), (True, 2), ("2", 1), (2.0, 1), (None, 1), ([2], 1), (EVIL, 1)],
)
def test_a_page_that_is_not_there_is_the_nearest_and_what_is_none_the_first(browser, page, shown):
    count = find(browser.grid_html("all", ANY, ANY, page), "p", "count")[0].text
    assert count == f"208 of 208 images; page {shown} of 6"


def test_beside_images_that_are_here_for_a_mistake_the_grid_says_how_many(browser):
    drawn, every = len(browser.tests.drawn), len(browser.tests.indices)
    told = f"{drawn} of the {every} images were picked at random; {every - drawn} more are here because"
    assert drawn < every and told in text(browser.grid_html("all", ANY, ANY))
    whole = Browser(browser.classifier, browser.data_dir, browser.predictions, rows=browser.rows)
    whole.tests = replace(browser.tests, drawn=range(every))
    assert "picked" not in text(whole.grid_html("all", ANY, ANY))
    whole.tests = replace(browser.tests, drawn=range(every - 1))
    assert "; 1 more is here because" in text(whole.grid_html("all", ANY, ANY))


def test_where_no_image_is_like_that_it_says_so(browser):
    html = browser.grid_html("mistakes", "cat", "cat")
    assert text(html).startswith("0 of 208 images; page 1 of 1No image is like that.") and tiles(html) == []
    assert all("disabled" in turn for turn in find(html, "button", "turn"))


def test_a_tile_shows_the_image_and_says_truth_answer_and_how_sure(browser, rows):
    html = browser.grid_html("mistakes", ANY, ANY)
    for tile, image in zip(find(html, "button", "test"), find(html, "img", "pixels"), strict=True):
        index = int(tile["data-index"])
        true, predicted, confidence = rows[index]
        assert tile["aria-label"] == f"Test image {index}: {true}, called {predicted}, {percent(confidence)} sure"
        assert tile.text == f"{predicted} {percent(confidence)}"
        position = browser.tests.indices.index(index)
        assert np.array_equal(pixels(image["src"]), browser.tests.images[position])
    assert len(find(html, "span", "wrong")) == 40


def test_of_right_answers_none_is_marked_wrong(browser, rows):
    right = next(name for name in CLASS_NAMES if expected(rows, "all", name, name))
    html = browser.grid_html("all", right, right)
    assert tiles(html) and not find(html, "span", "wrong")


# A cell of the confusion matrix


def heading(count: int, true: str, called: str) -> str:
    return f"{count:,} {true} {'image' if count == 1 else 'images'} called {called}"


def test_a_cell_shows_its_images_the_most_confident_first_and_counts_those_of_the_whole_test_set(browser, rows):
    matrix = browser.classifier.metrics.test.confusion_matrix
    for true, name in enumerate(CLASS_NAMES):
        for predicted, called in enumerate(CLASS_NAMES):
            html = browser.cell_html(true, predicted)
            here = sorted(expected(rows, "all", name, called), key=lambda index: -rows[index][2])
            assert find(html, "h3")[0].text == heading(matrix[true][predicted], name, called)
            assert [image["alt"].split(":")[0] for image in find(html, "img")] == [f"Test image {i}" for i in here]
            if not here:
                assert "None of them is among the 208 sample images of this model." in text(html)
                continue
            assert f"{len(here)} of {matrix[true][predicted]:,} shown" in text(html)
            (link,) = find(html, "a")
            assert parse_qs(urlsplit(link["href"]).query) == {
                "tab": ["test-images"],
                "true": [name],
                "predicted": [called],
            }


def test_of_a_full_cell_the_most_confident_are_shown(browser, rows, monkeypatch):
    monkeypatch.setattr(module, "PER_CELL", 3)
    pair = max(((t, p) for t in range(10) for p in range(10)), key=lambda pair: len(of_cell(rows, *pair)))
    html = browser.cell_html(*pair)
    best = sorted(of_cell(rows, *pair), key=lambda index: -rows[index][2])[:3]
    assert [image["alt"].split(":")[0] for image in find(html, "img")] == [f"Test image {i}" for i in best]
    assert "3 of 25 shown, the most confident first." in text(html)


def of_cell(rows, true: int, predicted: int) -> list[int]:
    return expected(rows, "all", CLASS_NAMES[true], CLASS_NAMES[predicted])


def test_without_images_a_cell_says_where_to_get_them(own_browser):
    shutil.rmtree(own_browser.classifier.folder / "samples")
    html = own_browser.cell_html(1, 5)
    count = own_browser.classifier.metrics.test.confusion_matrix[1][5]
    assert text(html) == (
        f"{heading(count, 'automobile', 'dog')}This model comes without sample images, and CIFAR-10 is not on this "
        "server yet. The Test images tab can get them."
    )
    own_browser.classifier.class_names = tuple(reversed(CLASS_NAMES))
    assert text(own_browser.cell_html(1, 5)).endswith("its classes are not those of CIFAR-10.")


# One image


@pytest.mark.parametrize("which", ["right", "wrong"])
def test_an_image_is_asked_about_again_beside_the_truth(browser, rows, which):
    index = next(i for i in sorted(rows, reverse=True) if (rows[i][0] == rows[i][1]) is (which == "right"))
    html = browser.answer_html(index)
    image = browser.tests.images[browser.tests.indices.index(index)]
    true, predicted, confidence = rows[index]
    (verdict,) = find(html, "div", "verdict")
    assert verdict.classes == ["verdict", which]
    assert verdict.text == f"{which.capitalize()}The network says {predicted}. It is {true}.Test image {index}"
    best = browser.classifier.predict(Image.fromarray(image), 5)
    assert [bar["data-name"] for bar in find(html, "button", "bar")] == [name for name, _ in best]
    assert best[0] == (predicted, pytest.approx(confidence, abs=1e-4))
    spoken, words = elements(html)[0], f"Test image {index} is {true}. The network says {predicted}, "
    assert spoken["role"] == "status" and spoken.text.startswith(f"{words}{percent(best[0][1])} sure.")
    seen = find(html, "img", "pixels")[0]
    assert np.array_equal(pixels(seen["src"]), image) and seen["alt"].startswith(f"Test image {index}, ")
    assert picture([one for one in find(html, "img") if not one.classes][0]["src"]).size == (224, 224)


@pytest.mark.parametrize("index", [None, True, "3", "", -1, 2.0, 10.0, 10**9, 10**30, [10], {"index": 10}, EVIL])
def test_an_image_that_is_not_there_is_told(browser, index):
    html = browser.answer_html(index)
    assert find(html, "div", "problem") and "This test image is not here: choose another one." in text(html)
    assert not find(html, "img")


def test_without_images_none_is_there(own_browser):
    shutil.rmtree(own_browser.classifier.folder / "samples")
    assert "This test image is not here" in text(own_browser.answer_html(10))


@pytest.mark.parametrize(("said", "outcome"), [("cat", "Right"), ("dog", "Wrong")])
def test_the_verdict_says_right_or_wrong_in_words(said, outcome):
    assert text(verdict_html(said, "cat", 1234)) == f"{outcome}The network says {said}. It is cat.Test image 1,234"


def test_no_class_name_brings_markup(own_browser):
    own_browser.read()
    names = tuple(f"{EVIL}{k}" for k in range(10))
    own_browser.classifier.class_names = names
    grid, cell = own_browser.grid_html("all", names[1], ANY), own_browser.cell_html(1, 5)
    answer, verdict = own_browser.answer_html(own_browser.tests.indices[0]), verdict_html(*names[:2], 0)
    for html in (grid, cell, answer, verdict):
        assert find(html, "i") == []
    assert find(grid, "button", "test")
    assert all(f": {names[1]}, called {EVIL}" in tile["aria-label"] for tile in find(grid, "button", "test"))
    count = own_browser.classifier.metrics.test.confusion_matrix[1][5]
    assert find(cell, "h3")[0].text == heading(count, names[1], names[5])
    query = parse_qs(urlsplit(find(cell, "a")[0]["href"]).query)
    assert (query["true"], query["predicted"]) == ([names[1]], [names[5]])
    assert f"It is {names[own_browser.tests.labels[0]]}." in text(answer)
    assert text(verdict) == f"WrongThe network says {names[0]}. It is {names[1]}.Test image 0"
    html = absent_html(EVIL, True)
    assert EVIL in text(html) and find(html, "i") == []


# What does not belong together


def test_predictions_that_are_not_those_of_the_metrics_refuse_the_artifact(own_browser):
    path = own_browser.classifier.folder / "predictions.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ArtifactError, match="predictions.csv"):
        Browser.of(own_browser.classifier, own_browser.data_dir)


@pytest.mark.parametrize("change", [{"label": 4}, {"index": 250}, {"index": -1}])
@pytest.mark.parametrize("sheet", ["test", "mistakes"])
def test_images_that_predictions_csv_contradicts_are_not_shown(own_browser, sheet, change):
    folder = own_browser.classifier.folder / "samples"
    edit(folder, lambda about: about[sheet]["images"][-1].update(change))
    assert own_browser.read() is None and own_browser.tests is None
    assert own_browser.problem == "The test images are not those that this model's predictions.csv speaks of."
    assert own_browser.problem in text(own_browser.cell_html(0, 0))
    assert "This test image is not here" in text(own_browser.answer_html(10))


def test_a_cifar_folder_whose_labels_predictions_csv_contradicts_is_not_shown(own_browser, tiny_cifar):
    own_browser.data_dir = tiny_cifar
    own_browser.predictions.label[0] = 7
    assert own_browser.read() is None and "not those that this model's predictions.csv" in own_browser.problem


# The tab


def functions(browser: Browser) -> dict[str, Callable]:
    with gr.Blocks() as page:
        with gr.Tab("Test images") as tab:
            build_tab(browser, tab)
    return {event.fn.__name__: event.fn for event in page.fns.values() if event.fn}


def test_the_tab_offers_the_download_until_the_images_are_there_and_then_shows_them(
    own_browser, tiny_cifar, monkeypatch
):
    shutil.rmtree(own_browser.classifier.folder / "samples")
    calls = functions(own_browser)
    absent, present, why, get, grid = calls["refresh"]("all", ANY, ANY)
    assert (absent.visible, present.visible, get.visible, grid) == (True, False, True, "")
    assert "CIFAR-10 is not on this server yet." in text(why)
    asked = []
    monkeypatch.setattr(module.download, "download", lambda *of: asked.append(of[0]))
    calls["bring"](lambda share, desc: None)
    assert asked == [own_browser.data_dir]
    own_browser.data_dir = tiny_cifar
    absent, present, why, get, grid = calls["refresh"]("all", ANY, ANY)
    assert (absent.visible, present.visible, get.visible, why) == (False, True, False, "")
    assert "250 of 250 images; page 1 of 7" in text(grid)
    assert "250 of 250 images; page 3 of 7" in text(calls["refresh"]("all", ANY, ANY, 2)[-1])


def test_a_download_that_fails_is_told_in_its_sentence(own_browser, monkeypatch):
    def fails(data_dir, progress):
        progress(0.5, "85 of 170 MB")
        raise DatasetError("CIFAR-10 could not be downloaded (Not Found). Try again later.")

    monkeypatch.setattr(module.download, "download", fails)
    shutil.rmtree(own_browser.classifier.folder / "samples")
    told = []
    with pytest.raises(gr.Error) as caught:
        functions(own_browser)["bring"](lambda share, desc: told.append((share, desc)))
    assert caught.value.message == "CIFAR-10 could not be downloaded (Not Found). Try again later."
    assert told == [(0.5, "85 of 170 MB")]


def test_nothing_is_downloaded_where_the_images_are_there_or_it_would_not_help(own_browser, monkeypatch):
    monkeypatch.setattr(module.download, "download", lambda *of: pytest.fail("a download began"))
    functions(own_browser)["bring"](lambda share, desc: None)
    own_browser.tests, own_browser.classifier.class_names = None, tuple(reversed(CLASS_NAMES))
    shutil.rmtree(own_browser.classifier.folder / "samples")
    with pytest.raises(gr.Error) as caught:
        functions(own_browser)["bring"](lambda share, desc: None)
    assert "its classes are not those of CIFAR-10" in caught.value.message


@pytest.mark.parametrize(("sent", "page"), [(2, 3), ("2", 1), (None, 1), (2.0, 1), (10**9, 6)])
def test_the_grid_turns_to_a_page_whatever_the_browser_sends(browser, sent, page):
    assert f"page {page} of 6" in text(functions(browser)["refresh"]("all", ANY, ANY, sent)[-1])


def without_samples(artifact: Path, folder: Path) -> Classifier:
    shutil.copytree(artifact, folder, ignore=shutil.ignore_patterns("samples"))
    return Classifier.load(folder)


def test_a_download_is_offered_where_it_helps_and_nowhere_else(tiny_artifact, tmp_path):
    classifier = without_samples(tiny_artifact, tmp_path / "artifact")
    browser = Browser.of(classifier, tmp_path / "data")
    assert browser.read() is None and browser.download_helps
    assert "The button downloads" in absent_html(browser.problem, browser.download_helps)
    classifier.class_names = tuple(reversed(CLASS_NAMES))
    browser = Browser.of(classifier, tmp_path / "data")
    assert browser.read() is None and not browser.download_helps
    assert "button" not in absent_html(browser.problem, browser.download_helps)


def test_a_page_can_be_turned_that_was_opened_before_the_server_started_anew(tiny_artifact, tmp_path):
    def turn(classifier):
        page = build_page(classifier, tmp_path / "data")
        found = next(event.fn for event in page.fns.values() if event.fn and event.fn.__name__ == "refresh")
        _, _, why, _, grid = found("all", ANY, ANY, 1)
        return why, grid

    why, grid = turn(Classifier.load(tiny_artifact))
    assert why == "" and "page 2 of" in grid
    why, grid = turn(without_samples(tiny_artifact, tmp_path / "artifact"))
    assert "CIFAR-10 is not on this server yet" in why and grid == ""
