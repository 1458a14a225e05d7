"""ui/uploads.py: from what a visitor's call names to an image, and nothing but uploads."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.preprocess import PictureError
from ui import uploads as reading


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8))


def read(upload: object) -> Image.Image:
    with reading.open_upload(upload) as picture:
        return picture


def stored(folder: Path, picture: Image.Image) -> dict:
    """What gradio hands to a function with preprocess=False after an upload."""
    picture.save(folder / "picture.png")
    return {"path": str(folder / "picture.png"), "url": None, "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("nothing", [None, {}, ""])
def test_no_picture_is_told(nothing):
    with pytest.raises(PictureError) as caught:
        read(nothing)
    assert str(caught.value) == reading.NO_IMAGE


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
    with pytest.raises(PictureError) as caught:
        read({"path": path, "url": "data:image/png;base64,AAAA"})
    assert str(caught.value) == reading.NOT_UPLOADED


def test_a_link_that_leads_out_of_the_upload_folder_is_refused(tmp_path, uploads, picture):
    picture.save(tmp_path / "outside.png")
    (uploads / "link.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(PictureError) as caught:
        read({"path": str(uploads / "link.png")})
    assert str(caught.value) == reading.NOT_UPLOADED


def test_an_upload_that_is_no_longer_there_is_asked_for_again(uploads):
    folder = uploads / ("0" * 64)
    folder.mkdir()
    (folder / "kept.png").touch()
    for path in (uploads / "gone.png", folder / "gone.png", folder / "kept.png" / "gone.png"):
        with pytest.raises(PictureError) as caught:
            read({"path": str(path)})
        assert str(caught.value) == reading.GONE


def test_the_upload_folder_itself_is_refused(uploads):
    with pytest.raises(PictureError) as caught:
        read({"path": str(uploads)})
    assert str(caught.value) == reading.NOT_UPLOADED


def test_an_upload_that_is_used_is_kept_for_another_while(uploads, picture):
    upload = stored(uploads, picture)
    os.utime(upload["path"], (0, 0))
    read(upload)
    assert time.time() - Path(upload["path"]).stat().st_mtime < 60
