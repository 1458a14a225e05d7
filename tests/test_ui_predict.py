"""From an upload to an answer: on the page, in a batch, and for gradio_client."""

import base64
import csv
import io
import json
import os
import time
from contextlib import nullcontext
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from model import Classifier
from model.classifier import Prediction
from model.preprocess import FITS, ImageError, open_image, to_square_rgb
from tests.image_files import encode, exif, noise_png, png
from tests.markup import EVIL, elements, find, image_in, pixels, text
from ui import api, batch, predict
from ui.answer import Verdict, answer_html, heat, percent, view_of
from ui.batch import Row, csv_text, file_name, table_html
from ui.uploads import GONE, NO_IMAGE, NOT_UPLOADED, open_upload

SQUARE = Image.new("RGB", (32, 32))
ACROSS, DOWN = np.meshgrid(np.linspace(0, 255, 320), np.linspace(0, 255, 160))
PHOTO = encode(np.stack([ACROSS, DOWN, 255 - ACROSS], -1).astype(np.uint8), exif=exif(6))  # turned by the camera


@pytest.fixture
def classifier(tiny_artifact):
    return Classifier.load(tiny_artifact)


@pytest.fixture
def upload(uploads):
    """What the page sends for a file: where the server put it, and its name on the visitor's machine."""

    def store(content: bytes, name: str = "image.png") -> dict:
        (uploads / name).write_bytes(content)
        return {"path": str(uploads / name), "orig_name": f"mine {name}"}

    return store


# One image on the page


@pytest.mark.parametrize("fit", FITS)
def test_the_page_shows_the_prediction_the_models_input_and_a_heat_map_per_class(classifier, upload, fit):
    photo = open_image(PHOTO)
    html, expected = predict.answer_of(classifier, upload(PHOTO), 4, fit), classifier.predict(photo, 4, fit)
    bars, maps, square = find(html, "button", "bar"), find(html, "img", "map"), to_square_rgb(photo, fit)
    assert [(bar["data-name"], bar.text) for bar in bars] == [(n, f"{n} {percent(p)}") for n, p in expected]
    assert find(html, "div", "headline")[0].text == f"{expected[0][0]} confidence {percent(expected[0][1])}"
    assert [one["data-class"] for one in maps] == [bar["data-class"] for bar in bars]
    for (name, _), bar, one in zip(expected, bars, maps, strict=True):
        assert classifier.class_names[int(bar["data-class"])] == name
        assert np.array_equal(pixels(one["src"]), np.asarray(heat(classifier.activation_map(square, name))))
    assert [bar["aria-pressed"] for bar in bars] == ["true"] + ["false"] * 3
    assert ["hidden" in one for one in maps] == [False] + [True] * 3
    (seen,), (view,) = find(html, "img", "pixels"), [image for image in find(html, "img") if not image.classes]
    assert np.array_equal(pixels(seen["src"]), np.asarray(square))
    assert (image_in(view["src"]).format, image_in(view["src"]).size) == ("JPEG", (160, 160))
    assert np.abs(pixels(view["src"]).astype(int) - np.asarray(view_of(photo, fit))).mean() < 5
    shrunk = np.asarray(view_of(photo, fit).reduce(5), int)  # the same part: only resampling differs
    assert np.abs(shrunk - np.asarray(square)).max() <= 6


@pytest.mark.parametrize(("size", "side"), [((1000, 800), 224), ((20, 10), 32), ((1, 4000), 32)])
def test_the_photo_is_shown_in_its_own_detail_within_32_and_224_pixels(size, side):
    assert view_of(Image.new("RGB", size), "crop").size == (side, side)


def test_heat_is_opaque_where_the_evidence_is_and_goes_from_yellow_to_red():
    drawn = heat(np.array([[0, 0.25], [0.5, 1]], np.float32))
    expected = [[(255, 214, 10, 0), (255, 168, 5, 50)], [(255, 122, 0, 99), (214, 0, 28, 199)]]
    assert np.array_equal(np.asarray(drawn), expected)


def test_a_probability_is_shown_in_whole_percent_and_never_as_0_or_100():
    given = (0.0, 0.005, 0.0051, 0.0149, np.float32(0.2), 0.5, 0.9949, 0.995, 1.0)  # a half is rounded to the even
    assert [percent(p) for p in given] == ["<1%", "<1%", "1%", "1%", "20%", "50%", "99%", ">99%", ">99%"]


def test_the_notice_of_a_doubtful_image_and_the_verdict_of_a_test_image_are_spoken(classifier):
    (found,) = classifier.classify([SQUARE])
    (name, probability), verdict = classifier.predict(SQUARE, 1)[0], Verdict(1234, "cat", "Incorrect")
    for known, shown in ((True, None), (False, None), (True, verdict)):
        found = replace(found, in_distribution=known)
        html = answer_html(classifier, found, SQUARE, SQUARE, 10, shown, "asked")
        assert bool(find(html, "p", "none")) == bool(find(html, "div", "unsure")) == (not known)
        words = f"{name}, confidence {percent(probability)}.{'' if known else ' Possibly out of distribution.'}"
        region = elements(html)[0]  # first, so that a screen reader says its change
        assert (region["role"], region["data-asked"]) == ("status", "asked")
        assert region.text == (f"Incorrect. Test image 1,234: true class cat, predicted {words}" if shown else words)
    assert find(html, "div", "incorrect")[0].text == f"Incorrect Predicted {name}, true class cat. Test image 1,234"


# What cannot be answered


@pytest.mark.parametrize("nothing", [None, {}])
def test_without_an_image_there_is_a_hint_and_no_alarm(classifier, nothing):
    html = predict.answer_of(classifier, nothing, 5, "crop")
    assert text(html) == predict.NOTHING_YET and not find(html, "div", "problem")


WHOLE_NUMBER = "top_k must be a whole number from 1 to 10."
SETTINGS = [(top_k, "crop", WHOLE_NUMBER) for top_k in (0, 11, 2.5, True, "5", None, float("nan"))]
SETTINGS += [(5, fit, "fit must be one of crop, pad, stretch.") for fit in ("Crop", None, ["crop"], EVIL)]
BAD_FILES = [({"path": __file__}, NOT_UPLOADED), ("gone", GONE), ("no image", "please save the image as")]


@pytest.mark.parametrize(
    ("given", "top_k", "fit", "sentence"),
    [*(("fine", *setting) for setting in SETTINGS), *((bad, 5, "crop", sentence) for bad, sentence in BAD_FILES)],
)
def test_page_and_call_refuse_in_the_same_sentence_without_a_path(classifier, upload, given, top_k, fit, sentence):
    stored = given if isinstance(given, dict) else upload(png() if given == "fine" else b"no image")
    if given == "gone":
        os.remove(stored["path"])
    html = predict.answer_of(classifier, stored, top_k, fit)
    with pytest.raises(gr.Error) as caught:
        api.predict(classifier)(stored, top_k, fit)
    message = caught.value.message
    assert sentence in message and find(html, "div", "problem")[0].text.endswith(message)
    assert message in elements(html)[0].text  # spoken
    assert not any(part in html for part in (".png", "test_ui", "Traceback"))
    assert caught.value.print_exception is False  # nothing in the log that a caller can fill


def test_only_what_lies_below_the_upload_folder_is_read_and_then_kept_for_longer(uploads, upload, monkeypatch):
    monkeypatch.chdir(uploads.parent)
    (uploads.parent / "outside.png").write_bytes(png())
    (uploads / "link.png").symlink_to(uploads.parent / "outside.png")
    paths = ["uploads/../outside.png", str(uploads / "link.png"), str(uploads), "http://127.0.0.1/a.png"]
    wrong = [*paths, "data:image/png;base64,AAAA", "", "a\0b", "x" * 5000, 7, None, ["a"]]
    kept = upload(png(7, 5))
    gone = [str(uploads / "0" / "gone.png"), f"{kept['path']}/gone.png"]
    cases = [*((None, NO_IMAGE), ({}, NO_IMAGE)), *(({"path": path}, NOT_UPLOADED) for path in wrong)]
    for given, sentence in [*cases, *(({"path": path}, GONE) for path in gone)]:
        with pytest.raises(ImageError) as caught, open_upload(given):
            pass
        assert str(caught.value) == sentence, given
    os.utime(kept["path"], (0, 0))
    with open_upload(kept) as opened:
        assert opened.size == (7, 5) and time.time() - os.stat(kept["path"]).st_mtime < 60


# The calls of gradio_client


@pytest.mark.parametrize("above", [True, False])
def test_a_whole_number_may_be_a_float_and_none_of_the_classes_is_reported(classifier, upload, above):
    image = open_image(noise_png(1))
    limit = float(classifier.logits([image], "pad").max()) + (-0.1 if above else 0.1)
    classifier.config = replace(classifier.config, threshold=limit)
    label, details = api.predict(classifier)(upload(noise_png(1)), 5.0, "pad")
    assert [(one["label"], one["confidence"]) for one in label["confidences"]] == [
        (name, pytest.approx(p, abs=1e-6)) for name, p in classifier.predict(image, 5, "pad")
    ]
    assert details["probably_none_of_these"] is not above and 0 < details["milliseconds"] < 10_000
    json.dumps([label, details, api.model_info(classifier)], allow_nan=False)
    assert api.model_info(classifier)["source"] == "folder:artifact"  # not where it lies


# A batch


def rows_of(html: str) -> list[list[str]]:
    """The rows of the CSV behind the link."""
    (link,) = find(html, "a", "download")
    head, data = link["href"].split(",")
    assert (head, link["download"]) == ("data:text/csv;charset=utf-8;base64", "predictions.csv")
    raw = base64.b64decode(data, validate=True)
    assert raw.startswith(b"\xef\xbb\xbf")  # else a spreadsheet takes it for another encoding
    return list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_each_image_of_a_batch_has_a_row_in_table_and_csv_and_a_bad_one_says_why(classifier, upload, fit):
    files = [upload(noise_png(k), f"{k}.png") for k in range(3)]
    bad = [upload(b"no image", "b.png"), {"path": "/etc/hostname"}]
    html = batch.table_of(classifier, [*files, *bad], fit, 16, "1 pad")
    images = [open_image(noise_png(k)) for k in range(3)]
    best = [classifier.predict(image, 3, fit) for image in images]
    assert [cell.text for cell in find(html, "th")[:5]] == ["Image", "File", "Top 1", "Top 2", "Top 3"]
    problems = [cell.text for cell in find(html, "td", "wrong")]
    shown = [f"{name} {percent(p)}" for three in best for name, p in three]
    assert [cell.text for cell in find(html, "td") if cell.text] == [*shown, *problems]
    assert "please save the image" in problems[0] and problems[1] == NOT_UPLOADED
    for thumbnail, image in zip(find(html, "img", "pixels"), images, strict=True):
        assert np.array_equal(pixels(thumbnail["src"]), np.asarray(to_square_rgb(image, fit)))
    assert find(html, "p", "sr-only")[0]["data-asked"] == "1 pad"

    head, *rows = rows_of(html)
    places = [f"{what}_{place}" for place in (1, 2, 3) for what in ("label", "probability")]
    assert head == ["file", "probably_none_of_these", "error", *places, *(f"p_{n}" for n in classifier.class_names)]
    for row, file, image, three in zip(rows, files, images, best, strict=False):
        unknown = not classifier.is_in_distribution(classifier.logits([image], fit))[0]
        three = [cell for name, p in three for cell in (name, f"{p:.6f}")]
        assert row[:9] == [file["orig_name"], str(unknown).lower(), "", *three]
        np.testing.assert_allclose([*map(float, row[9:])], classifier.probabilities([image], fit)[0], atol=1e-6)
    assert rows[3:] == [["mine b.png", "", problems[0]], ["image", "", problems[1]]]
    found = batch.classify_each(classifier, map(nullcontext, images), fit)
    assert len({one.milliseconds for one, _ in found}) == 1  # one run of the network
    assert len(find(batch.table_of(classifier, bad, fit, 16), "td", "wrong")) == 2


@pytest.mark.parametrize("files", [[], "image.png", {"path": "a"}, [{"path": "a"}] * 17])
def test_a_request_that_is_none_as_a_whole_is_refused_in_place_of_the_table(classifier, files):
    html = batch.table_of(classifier, files, "crop", 16)
    sentence = "Too many images: give 16" if len(files) == 17 else "No images were given: upload some."
    assert sentence in find(html, "div", "problem")[0].text and not find(html, "table")


def test_a_batch_that_takes_too_long_says_so_for_the_images_that_are_left(classifier, monkeypatch):
    monkeypatch.setattr(batch, "BATCH_SECONDS", -1)
    assert batch.classify_each(classifier, [nullcontext(SQUARE)] * 2, "crop") == [(batch.TOO_LONG, None)] * 2


@pytest.mark.parametrize(
    ("upload", "name"),
    [
        ({"orig_name": "C:\\images\\cat.png"}, "cat.png"),
        ({"orig_name": "a\r\nb\tc\0d\x1b[31m\u202e\ud800 \N{CAT FACE}é.png"}, "abcd[31m \N{CAT FACE}é.png"),
        ({"orig_name": "x" * 500}, "x" * 80),
        *((nothing, "image") for nothing in ({"orig_name": "folder/"}, {"orig_name": ["a"]}, {}, None)),
    ],
)
def test_a_file_has_the_visitors_name_for_it_without_folders_and_control_characters(upload, name):
    assert file_name(upload) == name


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_what_a_spreadsheet_would_run_gets_an_apostrophe_in_the_csv_alone(start):
    rows = [Row(name, Prediction(np.array([0.25, 0.75]), False, 1.0), SQUARE) for name in (start, "a=1.png")]
    head, *written = csv.reader(io.StringIO(csv_text([*rows, Row(start, "No.", None)], ["b, c", start]), newline=""))
    best = [f"'{start}", "0.750000", "b, c", "0.250000", "0.250000", "0.750000"]
    assert head[3:] == ["label_1", "probability_1", "label_2", "probability_2", "p_b, c", f"p_{start}"]
    assert written == [[f"'{start}", "true", "", *best], ["a=1.png", "true", "", *best], [f"'{start}", "", "No."]]
    html = table_html(rows[:1], ["b, c", start])
    assert [cell.text for cell in find(html, "td")[1:]] == [f"{start} 75%", "b, c 25%"]
    assert find(html, "th")[-1].text == f"{start}possibly out of distribution"


# Examples


def test_there_is_a_small_example_of_each_class_or_the_models_own_samples(classifier):
    browser = predict.DatasetBrowser(classifier, classifier.folder)
    drawings = predict.examples_of(classifier, browser)
    assert [*drawings] == sorted(classifier.class_names)
    for name, path in drawings.items():
        drawn = Image.open(predict.EXAMPLES / f"{name}.png").convert("RGB").resize((96, 96))
        assert np.abs(pixels(predict.thumbnail(path)).astype(int) - np.asarray(drawn)).mean() < 5
    classifier.class_names = tuple(f"own {k}" for k in range(10))
    samples, tests = predict.examples_of(classifier, browser), browser.read()
    position = next(k for k in tests.drawn if tests.labels[k] == 3)
    assert len(samples) == 10 and np.array_equal(np.asarray(samples["own 3"]), tests.images[position])
