import base64
import csv
import io
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model import Classifier
from model.classifier import Prediction
from model.preprocess import to_square_rgb
from tests.markup import EVIL, elements, find, pixels, text
from ui import batch
from ui.answer import percent
from ui.uploads import open_upload


@pytest.fixture(scope="module")
def classifier(tiny_artifact):
    return Classifier.load(tiny_artifact)


@pytest.fixture
def pictures() -> list[Image.Image]:
    random = np.random.RandomState(2)
    return [Image.fromarray(random.randint(0, 256, (40, 60 + 7 * k, 3), np.uint8)) for k in range(3)]


def stored(folder: Path, content: Image.Image | bytes, place: str, orig_name: object) -> dict:
    """As the page names a file that it sent: where the server put it, and its name on the visitor's machine."""
    if isinstance(content, bytes):
        (folder / place).write_bytes(content)
    else:
        content.save(folder / place)
    return {"path": str(folder / place), "orig_name": orig_name}


def table(html: str) -> list[list[str]]:
    """The text of each cell of the body."""
    rows, parts = [], elements(html)
    start = next(k for k, part in enumerate(parts) if part.tag == "tbody")
    for part in parts[start + 1 :]:
        if part.tag == "tr":
            rows.append([])
        elif part.tag in ("th", "td"):
            rows[-1].append(part.text)
    return rows


def offered(html: str) -> list[list[str]]:
    """The rows of the CSV behind the link."""
    (link,) = find(html, "a", "download")
    head, data = link["href"].split(",")
    assert (head, link["download"]) == ("data:text/csv;charset=utf-8;base64", "predictions.csv")
    raw = base64.b64decode(data, validate=True)
    assert raw.startswith(b"\xef\xbb\xbf")  # else a spreadsheet takes it for another encoding
    return list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_each_picture_has_a_row_with_its_thumbnail_its_name_and_the_best_three(classifier, uploads, pictures, fit):
    files = [stored(uploads, picture, f"{k}.png", f"mine {k}.jpg") for k, picture in enumerate(pictures)]
    html = batch.table_of(classifier, files, fit, 16)
    assert [cell.text for cell in find(html, "th")[:5]] == ["Picture", "File", "First", "Second", "Third"]
    for k, (row, picture) in enumerate(zip(table(html), pictures, strict=True)):
        best = classifier.predict(picture, top_k=3, fit=fit)
        assert row[1].removesuffix("probably none of the classes") == f"mine {k}.jpg"
        assert row[2:] == [f"{name} {percent(p)}" for name, p in best]
    thumbnails = find(html, "img", "pixels")
    for image, picture in zip(thumbnails, pictures, strict=True):
        assert np.array_equal(pixels(image["src"]), np.asarray(to_square_rgb(picture, fit)))


def test_a_bad_picture_has_a_row_that_says_why_and_costs_the_others_nothing(classifier, uploads, pictures):
    files = [
        stored(uploads, pictures[0], "a.png", "a.png"),
        stored(uploads, b"no picture", "b.png", "b.png"),
        {"path": str(uploads / "gone.png"), "orig_name": "c.png"},
        {"path": "/etc/hostname", "orig_name": "d.png"},
        stored(uploads, pictures[1], "e.png", "e.png"),
    ]
    html = batch.table_of(classifier, files, "crop", 16)
    rows = table(html)
    assert [row[1].removesuffix("probably none of the classes") for row in rows] == [f"{c}.png" for c in "abcde"]
    assert [len(row) for row in rows] == [5, 3, 3, 3, 5]
    assert "please save the picture as" in rows[1][2] and "is gone" in rows[2][2] and "Upload the picture" in rows[3][2]
    assert [cell["colspan"] for cell in find(html, "td", "wrong")] == ["3"] * 3
    assert str(uploads) not in html and "gone.png" not in html and "hostname" not in html
    assert [row[2] for row in offered(html)[1:]] == ["", rows[1][2], rows[2][2], rows[3][2], ""]


def test_what_is_wrong_is_as_wide_as_the_answers_of_a_network_of_two_classes():
    (cell,) = find(batch._table_row(("a.png", "No.", None), ("cat", "dog")), "td", "wrong")
    assert cell["colspan"] == "2"


def test_the_csv_holds_the_best_three_and_the_probability_of_every_class(classifier, uploads, pictures):
    files = [stored(uploads, picture, f"{k}.png", f"{k}.png") for k, picture in enumerate(pictures)]
    head, *rows = offered(batch.table_of(classifier, files, "pad", 16))
    places = [f"{what}_{place}" for place in (1, 2, 3) for what in ("label", "probability")]
    assert head == [
        "file",
        "probably_none_of_these",
        "error",
        *places,
        *(f"p_{name}" for name in classifier.class_names),
    ]
    for k, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
        best = [cell for name, p in classifier.predict(picture, 3, "pad") for cell in (name, f"{p:.6f}")]
        unknown = not classifier.is_in_distribution(classifier.logits([picture], "pad"))[0]
        assert row[:9] == [f"{k}.png", str(unknown).lower(), "", *best]
        every = classifier.probabilities([picture], "pad")[0]
        np.testing.assert_allclose([float(cell) for cell in row[9:]], every, atol=1e-6)


def test_what_is_probably_none_of_the_classes_is_marked_in_both(classifier, uploads, pictures, monkeypatch):
    files = [stored(uploads, picture, f"{k}.png", f"{k}.png") for k, picture in enumerate(pictures)]
    heights = classifier.logits(pictures).max(1)
    monkeypatch.setattr(classifier, "config", replace(classifier.config, threshold=float(np.median(heights))))
    html = batch.table_of(classifier, files, "crop", 16)
    expected = (heights < np.median(heights)).tolist()
    assert [row[1].endswith("probably none of the classes") for row in table(html)] == expected
    assert [row[1] for row in offered(html)[1:]] == [str(one).lower() for one in expected]


@pytest.mark.parametrize("files", [None, [], "", 0])
def test_without_pictures_there_is_a_hint(classifier, files):
    assert text(batch.table_of(classifier, files, "crop", 16)) == "Choose up to 16 pictures to get a table."


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([{"path": "a"}] * 17, "Too many pictures: give 16 at once, or fewer."),
        ("picture.png", "No pictures were given: upload some."),
        ({"path": "a"}, "No pictures were given: upload some."),
        (7, "No pictures were given: upload some."),
    ],
)
def test_a_request_that_is_none_as_a_whole_is_told_in_place_of_the_table(classifier, files, said):
    html = batch.table_of(classifier, files, "crop", 16)
    assert find(html, "div", "problem") and said in text(html) and not find(html, "table")


@pytest.mark.parametrize("fit", ["Crop", None, ["crop"], EVIL])
def test_an_unknown_fit_is_told_in_place_of_the_table(classifier, uploads, pictures, fit):
    html = batch.table_of(classifier, [stored(uploads, pictures[0], "a.png", "a.png")] * 2, fit, 16)
    assert find(html, "div", "problem") and not find(html, "table") and not find(html, "i")
    assert "fit must be one of crop, pad, stretch." in text(html)


def test_the_network_runs_once_for_all_images_and_never_for_none(classifier, uploads, pictures, monkeypatch):
    asked, run = [], classifier._run
    monkeypatch.setattr(classifier, "_run", lambda images: asked.append(len(images)) or run(images))
    files = [stored(uploads, picture, f"{k}.png", f"{k}.png") for k, picture in enumerate(pictures)]
    found = batch.classify_each(classifier, map(open_upload, [*files[:2], {"path": "/etc/hostname"}, files[2]]), "pad")
    assert asked == [3]
    assert [found[k][0].best(10) for k in (0, 1, 3)] == [one.best(10) for one in classifier.classify(pictures, "pad")]
    assert found[2][1] is None and "Upload the picture" in found[2][0]
    assert [row[1] for row in batch.classify_each(classifier, map(open_upload, [None, 7]), "pad")] == [None, None]
    assert asked == [3, 3]


@pytest.mark.parametrize(
    ("upload", "name"),
    [
        ({"orig_name": "a b.png"}, "a b.png"),
        ({"orig_name": "C:\\pictures\\cat.png"}, "cat.png"),
        ({"orig_name": "../../etc/passwd"}, "passwd"),
        ({"orig_name": "Katze \N{CAT FACE} é.png"}, "Katze \N{CAT FACE} é.png"),
        ({"orig_name": "a\r\nb\tc\0d\x1b[31m\u202e\ud800.png"}, "abcd[31m.png"),
        ({"orig_name": "x" * 500}, "x" * 80),
        ({"orig_name": "folder/"}, "picture"),
        ({"orig_name": ""}, "picture"),
        ({"orig_name": None}, "picture"),
        ({"orig_name": ["a"]}, "picture"),
        ({"orig_name": 7}, "picture"),
        ({}, "picture"),
        ("a.png", "picture"),
        (None, "picture"),
    ],
)
def test_a_file_has_the_visitors_name_for_it_without_folders_and_control_characters(upload, name):
    assert batch.file_name(upload) == name


def test_no_file_name_class_name_or_sentence_brings_markup_and_all_come_out_whole():
    names, square = [f"{EVIL}{k}" for k in range(4)], Image.new("RGB", (32, 32))
    rows = [
        (f"{EVIL}.png", Prediction(np.array([0.1, 0.2, 0.3, 0.4]), False, 1.0), square),
        (f"{EVIL}.gif", EVIL, None),
    ]
    html = batch.table_html(rows, names)
    assert find(html, "i") == []
    assert table(html) == [
        ["", f"{EVIL}.pngprobably none of the classes", f"{names[3]} 40%", f"{names[2]} 30%", f"{names[1]} 20%"],
        ["", f"{EVIL}.gif", EVIL],
    ]
    head, *cells = offered(html)
    assert head[-4:] == [f"p_{name}" for name in names]
    assert [row[0] for row in cells] == [f"{EVIL}.png", f"{EVIL}.gif"]
    assert cells[0][1:5] == ["true", "", names[3], "0.400000"] and cells[1][1:] == ["", EVIL]


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "=", "-"])
def test_what_a_spreadsheet_would_run_gets_an_apostrophe_in_the_csv_alone(start):
    names, square = [start, "b", "c"], Image.new("RGB", (32, 32))
    answer = Prediction(np.array([0.5, 0.3, 0.2]), True, 1.0)
    html = batch.table_html([(start, answer, square), (start, "No.", None), ("a=1.png", answer, square)], names)
    head, *rows = offered(html)
    assert [row[0] for row in rows] == [f"'{start}", f"'{start}", "a=1.png"]
    assert rows[0][3] == f"'{start}" and rows[0][5] == "b" and head[9] == f"p_{start}"
    assert not any(cell[:1] in ("=", "+", "-", "@") for row in (head, *rows) for cell in row if cell)
    assert [row[1] for row in table(html)] == [start, start, "a=1.png"]


def test_commas_quotes_and_names_in_other_scripts_survive_the_csv():
    answer = Prediction(np.array([0.5, 0.3, 0.2]), True, 1.0)
    name = 'a, "b"; \N{CAT FACE}ß.png'
    html = batch.table_html([(name, answer, Image.new("RGB", (32, 32)))], ["x, y", '"z"', "w"])
    head, row = offered(html)
    assert row[0] == name and row[3] == "x, y" and row[5] == '"z"' and head[9:] == ["p_x, y", 'p_"z"', "p_w"]


def test_a_model_of_two_classes_has_two_places_in_the_csv():
    answer = Prediction(np.array([0.25, 0.75]), True, 1.0)
    head, row = offered(batch.table_html([("a", answer, Image.new("RGB", (32, 32)))], ["x", "y"]))
    assert head[3:] == ["label_1", "probability_1", "label_2", "probability_2", "p_x", "p_y"]
    assert row[3:] == ["y", "0.750000", "x", "0.250000", "0.250000", "0.750000"]


def test_a_batch_that_takes_too_long_says_so_for_the_images_that_are_left(classifier, monkeypatch):
    now = iter(range(0, 100, 6))
    monkeypatch.setattr(batch.time, "monotonic", lambda: next(now))
    images = [nullcontext(Image.new("RGB", (32, 32))) for _ in range(3)]
    found = [one for one, _ in batch.classify_each(classifier, images, "crop")]
    assert isinstance(found[0], Prediction) and found[1:] == [batch.TOO_LONG] * 2
