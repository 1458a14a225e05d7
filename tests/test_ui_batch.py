import base64
import csv
import io
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model import Classifier
from model.classifier import Prediction
from model.preprocess import to_square_rgb
from tests.markup import EVIL, find, pixels, text
from ui import batch
from ui.answer import percent
from ui.batch import Row, cells, csv_text, table_html
from ui.uploads import open_upload


@pytest.fixture(scope="module")
def classifier(tiny_artifact):
    return Classifier.load(tiny_artifact)


@pytest.fixture
def images() -> list[Image.Image]:
    random = np.random.RandomState(2)
    return [Image.fromarray(random.randint(0, 256, (40, 60 + 7 * k, 3), np.uint8)) for k in range(3)]


def stored(folder: Path, content: Image.Image | bytes, place: str, orig_name: object) -> dict:
    """As the page names a file that it sent: where the server put it, and its name on the visitor's machine."""
    if isinstance(content, bytes):
        (folder / place).write_bytes(content)
    else:
        content.save(folder / place)
    return {"path": str(folder / place), "orig_name": orig_name}


def offered(html: str) -> list[list[str]]:
    """The rows of the CSV behind the link."""
    (link,) = find(html, "a", "download")
    head, data = link["href"].split(",")
    assert (head, link["download"]) == ("data:text/csv;charset=utf-8;base64", "predictions.csv")
    raw = base64.b64decode(data, validate=True)
    assert raw.startswith(b"\xef\xbb\xbf")  # else a spreadsheet takes it for another encoding
    return list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))


def parsed(rows: list[Row], names: list[str]) -> list[list[str]]:
    return list(csv.reader(io.StringIO(csv_text(rows, names), newline="")))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_each_image_has_a_row_with_its_thumbnail_its_name_and_the_best_three(classifier, uploads, images, fit):
    files = [stored(uploads, image, f"{k}.png", f"mine {k}.jpg") for k, image in enumerate(images)]
    html = batch.table_of(classifier, files, fit, 16, "1 pad")
    assert [cell.text for cell in find(html, "th")[:5]] == ["Image", "File", "Top 1", "Top 2", "Top 3"]
    best = [[f"{name} {percent(p)}" for name, p in classifier.predict(image, 3, fit)] for image in images]
    assert [cell.text for cell in find(html, "td") if cell.text] == sum(best, [])
    names = [cell.text.removesuffix("possibly out of distribution") for cell in find(html, "th")[5:]]
    assert names == [f"mine {k}.jpg" for k in range(3)]
    for thumbnail, image in zip(find(html, "img", "pixels"), images, strict=True):
        assert np.array_equal(pixels(thumbnail["src"]), np.asarray(to_square_rgb(image, fit)))
    assert find(html, "p", "sr-only")[0]["data-asked"] == "1 pad"


def test_a_bad_image_has_a_row_that_says_why_and_costs_the_others_nothing(classifier, uploads, images):
    files = [
        stored(uploads, images[0], "a.png", "a.png"),
        stored(uploads, b"no picture", "b.png", "b.png"),
        {"path": str(uploads / "gone.png"), "orig_name": "c.png"},
        {"path": "/etc/hostname", "orig_name": "d.png"},
        stored(uploads, images[1], "e.png", "e.png"),
    ]
    html = batch.table_of(classifier, files, "crop", 16)
    problems = find(html, "td", "wrong")
    assert [cell["colspan"] for cell in problems] == ["3"] * 3 and len(find(html, "img", "pixels")) == 2
    for cell, words in zip(problems, ("please save the ", "is gone", "Upload the "), strict=True):
        assert words in cell.text
    assert str(uploads) not in html and "gone.png" not in html and "hostname" not in html
    assert [row[2] for row in offered(html)[1:]] == ["", *(cell.text for cell in problems), ""]


def test_the_csv_holds_the_best_three_and_the_probability_of_every_class(classifier, uploads, images):
    files = [stored(uploads, image, f"{k}.png", f"{k}.png") for k, image in enumerate(images)]
    head, *rows = offered(batch.table_of(classifier, files, "pad", 16))
    places = [f"{what}_{place}" for place in (1, 2, 3) for what in ("label", "probability")]
    every = [f"p_{name}" for name in classifier.class_names]
    assert head == ["file", "probably_none_of_these", "error", *places, *every]
    for k, (row, image) in enumerate(zip(rows, images, strict=True)):
        best = [cell for name, p in classifier.predict(image, 3, "pad") for cell in (name, f"{p:.6f}")]
        unknown = not classifier.is_in_distribution(classifier.logits([image], "pad"))[0]
        assert row[:9] == [f"{k}.png", str(unknown).lower(), "", *best]
        every = classifier.probabilities([image], "pad")[0]
        np.testing.assert_allclose([float(cell) for cell in row[9:]], every, atol=1e-6)


def test_what_may_be_out_of_distribution_is_marked_in_both():
    rows = [Row(f"{known}.png", Prediction(np.array([0.1, 0.9]), known, 1.0), SQUARE) for known in (True, False)]
    html = table_html(rows, ["cat", "dog"])
    assert [mark.text for mark in find(html, "small")] == ["possibly out of distribution"]
    assert [row[1] for row in offered(html)[1:]] == ["false", "true"]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([{"path": "a"}] * 17, "Too many images: give 16 at once, or fewer."),
        ([], "No images were given: upload some."),
        ("image.png", "No images were given: upload some."),
        ({"path": "a"}, "No images were given: upload some."),
    ],
)
def test_a_request_that_is_none_as_a_whole_is_refused_in_place_of_the_table(classifier, files, sentence):
    html = batch.table_of(classifier, files, "crop", 16)
    assert find(html, "div", "problem") and sentence in text(html) and not find(html, "table")


def test_the_network_runs_once_for_all_images_and_never_for_none(classifier, uploads, images, monkeypatch):
    asked, run = [], classifier._run
    monkeypatch.setattr(classifier, "_run", lambda images: asked.append(len(images)) or run(images))
    files = [stored(uploads, image, f"{k}.png", f"{k}.png") for k, image in enumerate(images)]
    found = batch.classify_each(classifier, map(open_upload, [*files[:2], {"path": "/etc/hostname"}, files[2]]), "pad")
    assert asked == [3]
    assert [found[k][0].best(10) for k in (0, 1, 3)] == [one.best(10) for one in classifier.classify(images, "pad")]
    assert found[2][1] is None and "Upload the " in found[2][0]
    assert [row[1] for row in batch.classify_each(classifier, map(open_upload, [None, 7]), "pad")] == [None, None]
    assert asked == [3, 3]


@pytest.mark.parametrize(
    ("upload", "name"),
    [
        ({"orig_name": "a b.png"}, "a b.png"),
        ({"orig_name": "C:\\images\\cat.png"}, "cat.png"),
        ({"orig_name": "../../etc/passwd"}, "passwd"),
        ({"orig_name": "Katze \N{CAT FACE} é.png"}, "Katze \N{CAT FACE} é.png"),
        ({"orig_name": "a\r\nb\tc\0d\x1b[31m\u202e\ud800.png"}, "abcd[31m.png"),
        ({"orig_name": "x" * 500}, "x" * 80),
        ({"orig_name": "folder/"}, "image"),
        ({"orig_name": ""}, "image"),
        ({"orig_name": None}, "image"),
        ({"orig_name": ["a"]}, "image"),
        ({"orig_name": 7}, "image"),
        ({}, "image"),
        ("a.png", "image"),
        (None, "image"),
    ],
)
def test_a_file_has_the_visitors_name_for_it_without_folders_and_control_characters(upload, name):
    assert batch.file_name(upload) == name


SQUARE = Image.new("RGB", (32, 32))


def test_no_file_name_class_name_or_sentence_brings_markup_and_all_come_out_whole():
    names = [f"{EVIL}{k}" for k in range(4)]
    found = Prediction(np.array([0.1, 0.2, 0.3, 0.4]), False, 1.0)
    html = table_html([Row(f"{EVIL}.png", found, SQUARE), Row(f"{EVIL}.gif", EVIL, None)], names, EVIL)
    assert find(html, "i") == [] and find(html, "p", "sr-only")[0]["data-asked"] == EVIL
    assert [cell.text for cell in find(html, "th")[5:]] == [f"{EVIL}.pngpossibly out of distribution", f"{EVIL}.gif"]
    best = [f"{names[3]} 40%", f"{names[2]} 30%", f"{names[1]} 20%"]
    assert [cell.text for cell in find(html, "td")] == ["", *best, "", EVIL]
    head, *rows = offered(html)
    assert head[-4:] == [f"p_{name}" for name in names]
    assert [row[0] for row in rows] == [f"{EVIL}.png", f"{EVIL}.gif"]
    assert rows[0][1:5] == ["true", "", names[3], "0.400000"] and rows[1][1:] == ["", EVIL]


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "=", "-"])
def test_what_a_spreadsheet_would_run_gets_an_apostrophe_in_the_csv_alone(start):
    names, found = [start, "b", "c"], Prediction(np.array([0.5, 0.3, 0.2]), True, 1.0)
    rows = [Row(start, found, SQUARE), Row(start, "No.", None), Row("a=1.png", found, SQUARE)]
    head, *written = parsed(rows, names)
    assert [row[0] for row in written] == [f"'{start}", f"'{start}", "a=1.png"]
    assert written[0][3] == f"'{start}" and written[0][5] == "b" and head[9] == f"p_{start}"
    assert not any(cell[:1] in ("=", "+", "-", "@") for row in (head, *written) for cell in row if cell)
    shown = cells(rows[0], names)
    assert (shown["name"], shown["best"][0]) == (start, (start, "50%"))


def test_commas_quotes_and_names_in_other_scripts_survive_the_csv():
    name = 'a, "b"; \N{CAT FACE}ß.png'
    row = Row(name, Prediction(np.array([0.5, 0.3, 0.2]), True, 1.0), SQUARE)
    head, row = offered(table_html([row], ["x, y", '"z"', "w"]))
    assert row[0] == name and row[3] == "x, y" and row[5] == '"z"' and head[9:] == ["p_x, y", 'p_"z"', "p_w"]


def test_a_model_of_two_classes_has_two_places():
    rows = [Row("a", Prediction(np.array([0.25, 0.75]), True, 1.0), SQUARE), Row("b", "No.", None)]
    head, row, _ = parsed(rows, ["x", "y"])
    assert head[3:] == ["label_1", "probability_1", "label_2", "probability_2", "p_x", "p_y"]
    assert row[3:] == ["y", "0.750000", "x", "0.250000", "0.250000", "0.750000"]
    html = table_html(rows, ["x", "y"])
    assert find(html, "td", "wrong")[0]["colspan"] == "2" and find(html, "th")[3].text == "Top 2"


def test_a_batch_that_takes_too_long_says_so_for_the_images_that_are_left(classifier, monkeypatch):
    now = iter(range(0, 100, 6))
    monkeypatch.setattr(batch.time, "monotonic", lambda: next(now))
    images = [nullcontext(Image.new("RGB", (32, 32))) for _ in range(3)]
    found = [one for one, _ in batch.classify_each(classifier, images, "crop")]
    assert isinstance(found[0], Prediction) and found[1:] == [batch.TOO_LONG] * 2
