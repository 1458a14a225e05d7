"""ui/uploads.py: from what a visitor's call names to an image, and nothing but uploads."""

import os
import time

import pytest

from model.preprocess import ImageError
from tests.image_files import png
from ui.uploads import GONE, NO_IMAGE, NOT_UPLOADED, open_upload


def refusal(upload: object) -> str:
    with pytest.raises(ImageError) as caught, open_upload(upload):
        pass
    return str(caught.value)


def test_only_what_lies_below_the_upload_folder_is_read(tmp_path, uploads, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside.png").write_bytes(png())
    (uploads / "link.png").symlink_to(tmp_path / "outside.png")
    paths = ["uploads/../outside.png", str(uploads / "link.png"), str(uploads), "http://127.0.0.1/a.png"]
    for path in (*paths, "data:image/png;base64,AAAA", "", "a\0b", "x" * 5000, 7, None, ["a"]):
        assert refusal({"path": path, "url": "data:image/png;base64,AAAA"}) == NOT_UPLOADED
    assert {refusal(nothing) for nothing in (None, {}, "")} == {NO_IMAGE}


def test_an_upload_that_is_no_longer_there_is_asked_for_again(uploads):
    (uploads / "kept.png").touch()
    for path in (uploads / "gone.png", uploads / "0" / "gone.png", uploads / "kept.png" / "gone.png"):
        assert refusal({"path": str(path)}) == GONE


def test_an_upload_that_is_used_is_kept_for_another_while(uploads):
    path = uploads / "image.png"
    path.write_bytes(png(7, 5))
    os.utime(path, (0, 0))
    with open_upload({"path": str(path)}) as opened:
        assert opened.size == (7, 5)
    assert time.time() - path.stat().st_mtime < 60
