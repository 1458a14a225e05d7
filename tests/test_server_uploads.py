"""server/uploads.py: what stays of the uploads, and for how long."""

import asyncio
import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from starlette.datastructures import UploadFile

from server.uploads import PREFIX, Uploads
from tests.http_calls import upload
from tests.serving import ROOT
from tests.tiny_server import served, until


@pytest.fixture
def sweeper(tmp_path):
    sweeper = Uploads(str(tmp_path))
    yield sweeper
    sweeper.remove()


def put(folder: Path, name: str, age: float = 0, size: int = 10) -> Path:
    """An upload as it is stored, made `age` seconds ago."""
    path = folder / hashlib.sha256(name.encode()).hexdigest() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.mark.parametrize(
    ("ages", "limits", "kept"),
    [
        ([895, 905], {}, [895]),
        ([500, 400, 300, 200, 100], {"max_bytes": 250}, [200, 100]),
        ([500, 400, 300, 200, 100], {"max_files": 1}, [100]),
        ([50, 40, 30, 20, 10], {"max_files": 2}, [50, 40, 30, 20, 10]),
        ([50, 40, 30, 20, 10], {"max_files": 1}, [40, 30, 20, 10]),
    ],
    ids=["after 15 minutes", "too large", "too many", "waited for", "four times too many"],
)
def test_the_oldest_go_by_age_and_where_there_are_too_many(sweeper, ages, limits, kept):
    files = {age: put(sweeper.folder, f"{age}.png", age, size=100) for age in ages}
    vars(sweeper).update(limits)
    assert sweeper.sweep() == len(ages) - len(kept)
    assert [age for age, file in files.items() if file.exists()] == kept


def test_nothing_outside_the_folder_is_touched(tmp_path, sweeper):
    outside = [put(tmp_path, name, 10_000) for name in ("mine.png", "old.png")]
    link = put(sweeper.folder, "link.png", 10_000)
    link.unlink()
    link.symlink_to(outside[0])
    for path in (link, outside[0]):
        os.utime(path, (0, 0), follow_symlinks=False)
    (sweeper.folder / ("f" * 64)).symlink_to(outside[1].parent)
    assert sweeper.sweep() == 1
    assert all(path.exists() for path in outside) and not link.is_symlink()


def test_what_others_use_again_meanwhile_stays_and_what_they_delete_is_no_fault(sweeper, monkeypatch):
    again, gone, other = (put(sweeper.folder, f"{number}.png", 10_000) for number in range(3))
    look = os.walk

    def walk(folder):
        yield from list(look(folder))
        os.utime(again)  # after all were looked at
        gone.unlink()

    monkeypatch.setattr(os, "walk", walk)
    assert sweeper.sweep() == 1
    assert again.exists() and not other.exists()
    monkeypatch.undo()
    sweeper.remove()
    assert sweeper.sweep() == 0


def test_a_folder_goes_with_the_last_of_its_files(sweeper):
    put(sweeper.folder, "old.png", 10_000)
    young = put(sweeper.folder, "two.png")
    (young.parent / "old.png").write_bytes(b"x")
    os.utime(young.parent / "old.png", (0, 0))
    assert sweeper.sweep() == 2
    assert young.exists() and [path.name for path in sweeper.folder.iterdir()] == [young.parent.name]


def test_a_round_that_failed_is_noted_and_not_the_last(sweeper, monkeypatch, caplog):
    rounds = []
    monkeypatch.setattr(sweeper, "sweep", lambda: rounds.append(1) or 1 / 0)
    sweeper.every = 0.01
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(sweeper.run(), 1))
    assert len(rounds) >= 3 and "A round of the upload sweeper failed" in caplog.text


def test_the_server_sweeps_at_once_when_much_comes_and_makes_its_folder_again(tmp_path):
    with served(tmp_path) as server:
        old = put(server.folder, "old.png", 10_000)
        server.uploads.max_bytes = 4000
        assert upload(server.address, b"x" * 700)[0] == 200 and old.exists()
        assert upload(server.address, b"y" * 700)[0] == 200
        until(lambda: not old.exists(), 10)
        shutil.rmtree(server.folder)
        status, path = upload(server.address, b"x")
        assert status == 200 and Path(path).read_bytes() == b"x"


def test_the_folder_lies_where_it_should_and_can_be_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for parent, expected in ((None, tmp_path), (str(tmp_path / "a" / "b"), tmp_path / "a" / "b")):
        sweeper = Uploads(parent)
        assert sweeper.folder.parent == expected and sweeper.folder.name.startswith(PREFIX)
        assert sweeper.folder.stat().st_mode & 0o77 == 0  # nobody else on this machine may look into it
        sweeper.remove()
        assert not sweeper.folder.exists()
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        Uploads(str(tmp_path / "file"))


def test_the_folders_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path):
    code = "import sys, time; from server.uploads import Uploads; kept = Uploads(sys.argv[1]); "
    command = [sys.executable, "-c", code + "print(kept.folder, flush=True); time.sleep(60)", str(tmp_path)]
    processes, folders = [], []
    try:
        for _ in range(2):
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
            folders.append(Path(processes[-1].stdout.readline().strip()))
            put(folders[-1], "a.png")
        dead, living = folders
        processes[0].kill()
        processes[0].wait(10)
        assert dead.exists()
        own = Uploads(str(tmp_path))
        assert sorted(path for path in tmp_path.iterdir() if path.is_dir()) == sorted([living, own.folder])
        assert len(list(living.rglob("*.png"))) == 1
        own.remove()
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=10)


def test_a_link_in_the_place_of_a_lock_or_a_folder_is_nobodys_orphan(tmp_path):
    (victim := tmp_path / "victim").mkdir()
    (victim / "file").write_text("kept")
    (tmp_path / f"{PREFIX}a.lock").symlink_to(victim / "file")
    (tmp_path / f"{PREFIX}b.lock").touch()
    (tmp_path / f"{PREFIX}b").symlink_to(victim)
    Uploads(str(tmp_path)).remove()
    assert (victim / "file").read_text() == "kept"


def test_of_an_upload_for_which_the_disk_has_no_room_nothing_is_left(sweeper, monkeypatch):
    def fail(source, copy):
        copy.write(source.read())
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match="no room"):
        sweeper.store(UploadFile(io.BytesIO(b"x"), filename="a.png"))
    assert [path for path in sweeper.folder.rglob("*") if path.is_file()] == []
