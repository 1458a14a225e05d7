"""Batch prediction: a table and a CSV file of what the network makes of several files."""

import base64
import csv
import io
from contextlib import nullcontext

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

SQUARE = Image.new("RGB", (32, 32))


@pytest.fixture(scope="module")
def classifier(tiny_artifact):
    return Classifier.load(tiny_artifact)


@pytest.fixture
def images() -> list[Image.Image]:
    random = np.random.RandomState(2)
    return [Image.fromarray(random.randint(0, 256, (40, 60 + 7 * k, 3), np.uint8)) for k in range(3)]


@pytest.fixture
def files(uploads, images) -> list[dict]:
    """As the page names files that it sent: where the server put them, and their names on the visitor's machine."""
    for k, image in enumerate(images):
        image.save(uploads / f"{k}.png")
    return [{"path": str(uploads / f"{k}.png"), "orig_name": f"mine {k}.jpg"} for k in range(len(images))]


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


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_each_image_has_a_row_in_the_table_and_in_the_csv(classifier, files, images, fit):
    html = batch.table_of(classifier, files, fit, 16, "1 pad")
    assert [cell.text for cell in find(html, "th")[:5]] == ["Image", "File", "Top 1", "Top 2", "Top 3"]
    best = [classifier.predict(image, 3, fit) for image in images]
    shown = [f"{name} {percent(p)}" for three in best for name, p in three]
    assert [cell.text for cell in find(html, "td") if cell.text] == shown
    names = [cell.text.removesuffix("possibly out of distribution") for cell in find(html, "th")[5:]]
    assert names == [f"mine {k}.jpg" for k in range(3)]
    for thumbnail, image in zip(find(html, "img", "pixels"), images, strict=True):
        assert np.array_equal(pixels(thumbnail["src"]), np.asarray(to_square_rgb(image, fit)))
    assert find(html, "p", "sr-only")[0]["data-asked"] == "1 pad"
    found = batch.classify_each(classifier, map(nullcontext, images), fit)
    assert len({one.milliseconds for one, _ in found}) == 1  # one run of the network

    head, *rows = offered(html)
    places = [f"{what}_{place}" for place in (1, 2, 3) for what in ("label", "probability")]
    assert head == ["file", "probably_none_of_these", "error", *places, *(f"p_{n}" for n in classifier.class_names)]
    for name, row, image, three in zip(names, rows, images, best, strict=True):
        unknown = not classifier.is_in_distribution(classifier.logits([image], fit))[0]
        assert row[:9] == [name, str(unknown).lower(), "", *(cell for n, p in three for cell in (n, f"{p:.6f}"))]
        every = classifier.probabilities([image], fit)[0]
        np.testing.assert_allclose([float(cell) for cell in row[9:]], every, atol=1e-6)


def test_a_bad_image_has_a_row_that_says_why_and_costs_the_others_nothing(classifier, uploads, files):
    (uploads / "b.png").write_bytes(b"no image")
    bad = [str(uploads / "b.png"), str(uploads / "gone.png"), "/etc/hostname"]
    bad = [{"path": path, "orig_name": "b.png"} for path in bad]
    html = batch.table_of(classifier, [files[0], *bad, files[1]], "crop", 16)
    problems = find(html, "td", "wrong")
    assert [cell["colspan"] for cell in problems] == ["3"] * 3 and len(find(html, "img", "pixels")) == 2
    for cell, words in zip(problems, ("please save the ", "is gone", "Upload the "), strict=True):
        assert words in cell.text
    assert str(uploads) not in html and "gone.png" not in html and "hostname" not in html
    assert [row[2] for row in offered(html)[1:]] == ["", *(cell.text for cell in problems), ""]
    assert len(find(batch.table_of(classifier, bad, "crop", 16), "td", "wrong")) == 3


def test_what_may_be_out_of_distribution_is_marked_in_both():
    rows = [Row(f"{known}.png", Prediction(np.array([0.1, 0.9]), known, 1.0), SQUARE) for known in (True, False)]
    html = table_html(rows, ["cat", "dog"])
    assert [mark.text for mark in find(html, "small")] == ["possibly out of distribution"]
    assert [row[1] for row in offered(html)[1:]] == ["false", "true"]


@pytest.mark.parametrize("files", [[], "image.png", {"path": "a"}, [{"path": "a"}] * 17])
def test_a_request_that_is_none_as_a_whole_is_refused_in_place_of_the_table(classifier, files):
    html = batch.table_of(classifier, files, "crop", 16)
    sentence = "Too many images: give 16" if len(files) == 17 else "No images were given: upload some."
    assert find(html, "div", "problem") and sentence in text(html) and not find(html, "table")


@pytest.mark.parametrize(
    ("upload", "name"),
    [
        ({"orig_name": "C:\\images\\cat.png"}, "cat.png"),
        ({"orig_name": "../../etc/passwd"}, "passwd"),
        ({"orig_name": "a\r\nb\tc\0d\x1b[31m\u202e\ud800 \N{CAT FACE}é.png"}, "abcd[31m \N{CAT FACE}é.png"),
        ({"orig_name": "x" * 500}, "x" * 80),
        *((nothing, "image") for nothing in ({"orig_name": "folder/"}, {"orig_name": ["a"]}, {}, "a.png", None)),
    ],
)
def test_a_file_has_the_visitors_name_for_it_without_folders_and_control_characters(upload, name):
    assert batch.file_name(upload) == name


def test_no_file_name_class_name_or_sentence_brings_markup_and_all_come_out_whole():
    names = [f'{EVIL}{k}, "x"' for k in range(4)]
    found = Prediction(np.array([0.1, 0.2, 0.3, 0.4]), False, 1.0)
    html = table_html([Row(f"{EVIL}.png", found, SQUARE), Row(f"{EVIL}.gif", EVIL, None)], names, EVIL)
    assert find(html, "i") == [] and find(html, "p", "sr-only")[0]["data-asked"] == EVIL
    assert [cell.text for cell in find(html, "th")[5:]] == [f"{EVIL}.pngpossibly out of distribution", f"{EVIL}.gif"]
    best = [f"{names[3]} 40%", f"{names[2]} 30%", f"{names[1]} 20%"]
    assert [cell.text for cell in find(html, "td")] == ["", *best, "", EVIL]
    head, *rows = offered(html)
    assert head[-4:] == [f"p_{name}" for name in names]
    assert rows[0][:5] == [f"{EVIL}.png", "true", "", names[3], "0.400000"] and rows[1] == [f"{EVIL}.gif", "", EVIL]


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_what_a_spreadsheet_would_run_gets_an_apostrophe_in_the_csv_alone(start):
    names, found = [start, "b", "c"], Prediction(np.array([0.5, 0.3, 0.2]), True, 1.0)
    rows = [Row(start, found, SQUARE), Row(start, "No.", None), Row("a=1.png", found, SQUARE)]
    head, *written = parsed(rows, names)
    assert [row[0] for row in written] == [f"'{start}", f"'{start}", "a=1.png"]
    assert written[0][3] == f"'{start}" and written[0][5] == "b" and head[9] == f"p_{start}"
    shown = cells(rows[0], names)
    assert (shown["name"], shown["best"][0]) == (start, (start, "50%"))


def test_a_model_of_two_classes_has_two_places():
    rows = [Row("a", Prediction(np.array([0.25, 0.75]), True, 1.0), SQUARE), Row("b", "No.", None)]
    head, row, _ = parsed(rows, ["x", "y"])
    assert head[3:] == ["label_1", "probability_1", "label_2", "probability_2", "p_x", "p_y"]
    assert row[3:] == ["y", "0.750000", "x", "0.250000", "0.250000", "0.750000"]
    assert find(table_html(rows, ["x", "y"]), "td", "wrong")[0]["colspan"] == "2"


def test_a_batch_that_takes_too_long_says_so_for_the_images_that_are_left(classifier, monkeypatch):
    monkeypatch.setattr(batch, "BATCH_SECONDS", -1)
    found = batch.classify_each(classifier, [nullcontext(SQUARE)] * 2, "crop")
    assert found == [(batch.TOO_LONG, None)] * 2
