import asyncio
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from model import Classifier, PictureError
from model.preprocess import to_square_rgb
from ui import predict


@pytest.fixture
def uploads(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8))


def stored(folder: Path, picture: Image.Image) -> dict:
    """What gradio hands to a function with preprocess=False after an upload."""
    picture.save(folder / "picture.png")
    return {"path": str(folder / "picture.png"), "url": None, "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_answer_is_the_classifiers_and_the_picture_is_what_it_was_given(tiny_artifact, uploads, picture, fit):
    classifier = Classifier.load(tiny_artifact)
    labels, seen = predict.prediction(classifier)(stored(uploads, picture), 4, fit)
    assert list(labels.items()) == classifier.predict(picture, top_k=4, fit=fit)
    assert seen == to_square_rgb(picture, fit)


@pytest.mark.parametrize("given", [0, 11, -3, 2.5, True, False, "5", "abc", None, [5], float("nan"), float("inf")])
def test_top_k_must_be_a_whole_number_of_classes(given):
    with pytest.raises(gr.Error) as caught:
        predict.whole_number(given, 10)
    assert caught.value.message == "top_k must be a whole number from 1 to 10."


@pytest.mark.parametrize(("given", "expected"), [(1, 1), (10, 10), (5.0, 5)])
def test_a_whole_number_that_came_as_a_float_is_taken(given, expected):
    number = predict.whole_number(given, 10)
    assert number == expected and type(number) is int


@pytest.mark.parametrize("fit", ["Crop", "", None, ["crop"], {"a": 1}])
def test_an_unknown_fit_is_refused_by_the_names_of_the_known_ones(tiny_artifact, uploads, picture, fit):
    with pytest.raises(gr.Error) as caught:
        predict.prediction(Classifier.load(tiny_artifact))(stored(uploads, picture), 5, fit)
    assert caught.value.message == "fit must be one of crop, pad, stretch."


@pytest.mark.parametrize("nothing", [None, {}, ""])
def test_no_picture_is_told(nothing):
    with pytest.raises(gr.Error) as caught:
        predict.read_upload(nothing)
    assert caught.value.message == predict.NO_PICTURE


@pytest.mark.parametrize(
    "path",
    [
        "/etc/hostname",
        "uploads/../outside.png",
        "http://127.0.0.1/a.png",
        "data:image/png;base64,AAAA",
        "",
        "a\0b",
        "x" * 5000,
        7,
        None,
        ["a"],
    ],
)
def test_a_path_outside_the_upload_folder_is_refused(tmp_path, uploads, picture, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    picture.save(tmp_path / "outside.png")
    with pytest.raises(gr.Error) as caught:
        predict.read_upload({"path": path, "url": "data:image/png;base64,AAAA"})
    assert caught.value.message == predict.NOT_UPLOADED


def test_a_link_that_leads_out_of_the_upload_folder_is_refused(tmp_path, uploads, picture):
    picture.save(tmp_path / "outside.png")
    (uploads / "link.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(gr.Error) as caught:
        predict.read_upload({"path": str(uploads / "link.png")})
    assert caught.value.message == predict.NOT_UPLOADED


def test_a_file_that_is_no_picture_becomes_the_sentence_of_open_picture(tiny_artifact, uploads):
    (uploads / "note.png").write_bytes(b"GIF89a but no picture")
    upload = {"path": str(uploads / "note.png")}
    with pytest.raises(PictureError) as expected:
        predict.read_upload(upload)
    with pytest.raises(gr.Error) as caught:
        predict.prediction(Classifier.load(tiny_artifact))(upload)
    assert caught.value.message == str(expected.value)


def test_a_web_address_is_refused_before_gradio_downloads_it(uploads, picture):
    with gr.Blocks():
        image = gr.Image()
    predict.refuse_web_addresses(image)
    with pytest.raises(gr.Error) as caught:
        asyncio.run(image.async_move_resource_to_block_cache("https://127.0.0.1:9/a.png"))
    assert caught.value.message == predict.NOT_UPLOADED
    path = stored(uploads, picture)["path"]
    assert Path(asyncio.run(image.async_move_resource_to_block_cache(path))).read_bytes() == Path(path).read_bytes()
