import asyncio
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from model.preprocess import _DECODED
from tests import hostile
from tests.serving import ROOT
from ui import uploads as reading
from ui.uploads import Janitor


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
    with pytest.raises(gr.Error) as caught:
        read(nothing)
    assert caught.value.message == reading.NO_PICTURE


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
        read({"path": path, "url": "data:image/png;base64,AAAA"})
    assert caught.value.message == reading.NOT_UPLOADED


def test_a_link_that_leads_out_of_the_upload_folder_is_refused(tmp_path, uploads, picture):
    picture.save(tmp_path / "outside.png")
    (uploads / "link.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(gr.Error) as caught:
        read({"path": str(uploads / "link.png")})
    assert caught.value.message == reading.NOT_UPLOADED


@pytest.mark.parametrize("kind", [gr.Image, gr.Slider, gr.JSON])
def test_gradio_neither_downloads_nor_notes_what_a_request_names(uploads, picture, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(gr.blocks.Block, "async_move_resource_to_block_cache", reading._MOVE_TO_CACHE)
    reading.leave_inputs_alone()
    part = kind()
    kept, gone = stored(uploads, picture)["path"], str(uploads / "0" / "gone.png")
    for path in ("https://127.0.0.1:9/a.png", kept, gone):
        assert asyncio.run(part.async_move_resource_to_block_cache(path)) == path
    assert part.temp_files == set()
    picture.save(tmp_path / "own.png")  # of the page: stored as before
    copy = asyncio.run(part.async_move_resource_to_block_cache(str(tmp_path / "own.png")))
    assert Path(copy).is_relative_to(uploads) and part.temp_files == {copy}


def test_an_upload_that_is_no_longer_there_is_asked_for_again(uploads):
    folder = uploads / ("0" * 64)
    folder.mkdir()
    (folder / "kept.png").touch()
    for path in (uploads / "gone.png", folder / "gone.png", folder / "kept.png" / "gone.png"):
        with pytest.raises(gr.Error) as caught:
            read({"path": str(path)})
        assert caught.value.message == reading.GONE


def test_the_upload_folder_itself_is_refused(uploads):
    with pytest.raises(gr.Error) as caught:
        read({"path": str(uploads)})
    assert caught.value.message == reading.NOT_UPLOADED


def test_an_upload_that_is_used_is_kept_for_another_while(uploads, picture):
    upload = stored(uploads, picture)
    os.utime(upload["path"], (0, 0))
    read(upload)
    assert time.time() - Path(upload["path"]).stat().st_mtime < 60


def test_an_upload_counts_among_the_pixels_of_all_threads_as_long_as_it_is_open(uploads, picture):
    with reading.open_upload(stored(uploads, picture)) as opened:
        assert opened.size == (60, 40) and _DECODED.total - _DECODED.free == 60 * 40
    assert _DECODED.free == _DECODED.total


def test_bombs_are_refused_by_what_their_headers_say(uploads):
    code = (
        "import resource, sys; from ui.uploads import open_upload; from model.preprocess import PictureError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try: open_upload({'path': path}).__enter__()\n"
        "    except PictureError as error: print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    for name, content in hostile.BOMBS.items():
        (uploads / name).write_bytes(content)
    command = [sys.executable, "-c", code, *(str(uploads / name) for name in hostile.BOMBS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    *sentences, used = done.stdout.splitlines()
    assert ["the limit is 25 million pixels" in sentence for sentence in sentences] == [True] * len(hostile.BOMBS)
    assert int(used) < 20


def test_where_no_folder_is_named_the_uploads_get_one_of_their_own_that_goes_with_the_process(tmp_path):
    code = (
        "import tempfile; from ui import uploads; uploads.use_own_folder(); uploads.use_own_folder()\n"
        "folder = uploads.upload_folder(); (folder / 'a').write_text('x'); print(folder)"
    )
    env = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"} | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=env, timeout=60)
    folder = Path(done.stdout.strip())
    assert folder.parent == tmp_path and folder.name.startswith("cifar10-page-")
    assert list(tmp_path.glob("cifar10-page-*")) == []


def test_a_folder_that_is_named_is_taken(uploads):
    reading.use_own_folder()
    assert reading.upload_folder() == uploads


def put(folder: Path, name: str, age: float = 0, size: int = 10) -> Path:
    """A file as gradio stores an upload, made `age` seconds ago."""
    path = folder / hashlib.sha256(name.encode()).hexdigest() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_the_janitor_deletes_what_is_older_than_15_minutes_and_tells_of_it(tmp_path):
    old, young = put(tmp_path, "old.png", 15 * 60 + 5), put(tmp_path, "young.png", 15 * 60 - 5)
    partial = tmp_path / "tmpab12_xyz"
    partial.write_bytes(b"x")
    os.utime(partial, (0, 0))
    told = []
    assert Janitor(tmp_path, forget=told.append).sweep() == 2
    assert young.exists() and not old.exists() and not partial.exists()
    assert sorted(told) == sorted(map(str, (old, partial)))


def test_the_janitor_deletes_the_oldest_where_there_is_too_much(tmp_path):
    files = [put(tmp_path, f"{age}.png", age, size=100) for age in (500, 400, 300, 200, 100)]
    assert Janitor(tmp_path, max_bytes=250).sweep() == 3
    assert [file.exists() for file in files] == [False, False, False, True, True]
    assert Janitor(tmp_path, max_files=1).sweep() == 1
    assert [file.exists() for file in files] == [False] * 4 + [True]


def test_a_visitor_who_is_waiting_keeps_the_picture_until_there_are_four_times_too_many(tmp_path):
    files = [put(tmp_path, f"{age}.png", age) for age in (50, 40, 30, 20, 10)]
    assert Janitor(tmp_path, max_files=2).sweep() == 0
    assert Janitor(tmp_path, max_files=1).sweep() == 1
    assert [file.exists() for file in files] == [False, True, True, True, True]


def test_the_janitor_touches_nothing_but_what_gradio_stores(tmp_path):
    keep = [tmp_path / "mine.txt", tmp_path / "folder" / "mine.png", tmp_path / "tmp.txt", tmp_path / "TMPab12_xyz"]
    for path in keep:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    outside = tmp_path.parent / f"{tmp_path.name}-outside.png"
    outside.write_bytes(b"x")
    link = put(tmp_path, "link.png", 10_000)
    link.unlink()
    link.symlink_to(outside)
    (tmp_path / ("f" * 64)).symlink_to(tmp_path / "folder")
    Janitor(tmp_path, seconds=-1).sweep()
    assert all(path.exists() for path in keep) and outside.exists() and not link.is_symlink()


def test_the_janitor_spares_the_files_of_the_page(tmp_path):
    kept, other = put(tmp_path, "kept.png", 10_000), put(tmp_path, "other.png", 10_000)
    (tmp_path / "again").symlink_to(tmp_path)
    assert Janitor(tmp_path / "again", keep=lambda: {str(kept)}).sweep() == 1
    assert kept.exists() and not other.exists()


def test_the_janitor_spares_what_was_sent_again_while_it_looked_around(tmp_path, monkeypatch):
    again, other = put(tmp_path, "again.png", 10_000), put(tmp_path, "other.png", 10_000)
    look = Janitor._files
    monkeypatch.setattr(Janitor, "_files", lambda self, now: (look(self, now), os.utime(again))[0])
    told = []
    Janitor(tmp_path, forget=told.append).sweep()
    assert again.exists() and not other.exists() and told == [str(other)]


def test_the_janitor_removes_folders_that_stay_empty(tmp_path):
    old = put(tmp_path, "old.png", 10_000).parent
    janitor = Janitor(tmp_path, spared_seconds=60)
    janitor.sweep()
    assert list(old.iterdir()) == []
    janitor.sweep()
    assert old.exists()  # somebody may be about to store a file in it
    os.utime(old, (0, 0))
    janitor.sweep()
    assert not old.exists()


def test_the_janitor_survives_what_others_delete_meanwhile_and_a_folder_that_is_not_there(tmp_path, monkeypatch):
    assert Janitor(tmp_path / "nothing").sweep() == 0
    files = [put(tmp_path, f"{number}.png", 10_000) for number in range(3)]
    files[0].unlink()
    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", lambda path: (unlink(path), unlink(path)))  # as if another were faster
    Janitor(tmp_path).sweep()
    assert not any(file.exists() for file in files)


def test_the_janitor_goes_on_after_a_round_that_failed(tmp_path, capsys):
    rounds = []

    class Unlucky(Janitor):
        def sweep(self):
            rounds.append(1)
            raise RuntimeError("the disk")

    janitor = Unlucky(tmp_path, every=0.01)
    janitor.start()
    deadline = time.monotonic() + 10
    while len(rounds) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    janitor.stop()


def test_the_janitor_does_not_wait_for_its_round_when_much_comes(tmp_path):
    old = put(tmp_path, "old.png", 10_000)
    janitor = Janitor(tmp_path, every=3600, max_bytes=1000)
    janitor.start()
    janitor.stored(100)
    time.sleep(0.2)
    assert old.exists()
    janitor.stored(200)
    deadline = time.monotonic() + 10
    while old.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    janitor.stop()


def test_a_round_over_many_files_is_cheap(tmp_path):
    for number in range(2000):
        folder = tmp_path / f"{number:064x}"
        folder.mkdir()
        (folder / "a.png").write_bytes(b"x")
    janitor = Janitor(tmp_path)
    began = time.process_time()
    for folder in os.scandir(tmp_path):
        os.stat(os.path.join(folder, os.listdir(folder)[0]))
    looked = time.process_time()
    assert janitor.sweep() == 0
    assert time.process_time() - looked < max(0.5, 10 * (looked - began))  # the second on a slow machine
