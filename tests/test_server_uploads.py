"""server/uploads.py: what stays of the uploads, and for how long."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server import uploads
from server.uploads import LOCK, PREFIX, Sweeper
from tests.http_calls import upload
from tests.serving import ROOT
from tests.tiny_server import served, until


@pytest.fixture
def sweeper(tmp_path):
    sweeper = Sweeper(str(tmp_path))
    yield sweeper
    sweeper.remove()


def put(folder: Path, name: str, age: float = 0, size: int = 10) -> Path:
    """A file as gradio stores an upload, made `age` seconds ago."""
    path = folder / hashlib.sha256(name.encode()).hexdigest() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_is_older_than_15_minutes_goes(sweeper):
    old, young = put(sweeper.folder, "old.png", 15 * 60 + 5), put(sweeper.folder, "young.png", 15 * 60 - 5)
    assert sweeper.sweep() == 1
    assert young.exists() and not old.exists()


def test_part_of_an_upload_goes_after_a_minute_without_a_byte(sweeper):
    parts = [sweeper.folder / name for name in ("tmpab12_xyz", "tmpcd34_xyz")]
    for path, age in zip(parts, (65, 55), strict=True):
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
    assert sweeper.sweep() == 1
    assert [path.exists() for path in parts] == [False, True]


def test_the_oldest_go_where_there_is_too_much(sweeper):
    files = [put(sweeper.folder, f"{age}.png", age, size=100) for age in (500, 400, 300, 200, 100)]
    sweeper.max_bytes = 250
    assert sweeper.sweep() == 3
    assert [file.exists() for file in files] == [False, False, False, True, True]
    sweeper.max_files = 1
    assert sweeper.sweep() == 1
    assert [file.exists() for file in files] == [False] * 4 + [True]


def test_a_visitor_who_is_waiting_keeps_the_picture_until_there_are_four_times_too_many(sweeper):
    files = [put(sweeper.folder, f"{age}.png", age) for age in (50, 40, 30, 20, 10)]
    sweeper.max_files = 2
    assert sweeper.sweep() == 0
    sweeper.max_files = 1
    assert sweeper.sweep() == 1
    assert [file.exists() for file in files] == [False, True, True, True, True]


def test_nothing_outside_the_folder_is_touched(tmp_path, sweeper):
    outside = [tmp_path / "mine.txt", put(tmp_path, "old.png", 10_000)]
    outside[0].write_bytes(b"x")
    os.utime(outside[0], (0, 0))
    link = put(sweeper.folder, "link.png", 10_000)
    link.unlink()
    link.symlink_to(outside[0])
    os.utime(link, (0, 0), follow_symlinks=False)
    (sweeper.folder / ("f" * 64)).symlink_to(outside[1].parent)
    assert sweeper.sweep() == 1
    assert all(path.exists() for path in outside) and not link.is_symlink()


def test_what_was_sent_again_meanwhile_stays(sweeper, monkeypatch):
    again, other = put(sweeper.folder, "again.png", 10_000), put(sweeper.folder, "other.png", 10_000)
    look = uploads.stored_files
    monkeypatch.setattr(uploads, "stored_files", lambda folder: (look(folder), os.utime(again))[0])
    assert sweeper.sweep() == 1
    assert again.exists() and not other.exists()


def test_a_folder_goes_with_the_last_of_its_files(sweeper):
    old, young = put(sweeper.folder, "old.png", 10_000), put(sweeper.folder, "two.png")
    (young.parent / "old.png").write_bytes(b"x")
    os.utime(young.parent / "old.png", (0, 0))
    assert sweeper.sweep() == 2
    assert not old.parent.exists() and young.exists()
    sweeper.seconds = -1
    assert sweeper.sweep() == 1
    assert [path.name for path in sweeper.folder.iterdir()] == [uploads.LOCK]


def test_what_others_delete_meanwhile_is_no_fault_nor_is_a_folder_that_is_not_there(sweeper, monkeypatch):
    files = [put(sweeper.folder, f"{number}.png", 10_000) for number in range(3)]
    look = uploads.stored_files
    monkeypatch.setattr(uploads, "stored_files", lambda folder: (look(folder), files[0].unlink())[0])
    assert sweeper.sweep() == 2
    assert not any(file.exists() for file in files)
    sweeper.remove()
    monkeypatch.undo()
    assert sweeper.sweep() == 0


def test_a_round_that_failed_is_noted_and_not_the_last(sweeper, monkeypatch, caplog):
    rounds = []
    monkeypatch.setattr(sweeper, "sweep", lambda: rounds.append(1) or 1 / 0)
    sweeper.every = 0.01
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(sweeper.run(), 1))
    assert len(rounds) >= 3 and "A round of the upload sweeper failed" in caplog.text


def test_a_round_does_not_wait_for_its_time_when_much_comes(sweeper):
    old = put(sweeper.folder, "old.png", 10_000)
    sweeper.every, sweeper.max_bytes = 3600, 1000

    async def uploads_come():
        task = asyncio.create_task(sweeper.run())
        sweeper.stored(100)
        await asyncio.sleep(0.2)
        assert old.exists()
        sweeper.stored(200)
        await asyncio.to_thread(until, lambda: not old.exists(), 10)
        task.cancel()

    asyncio.run(uploads_come())


def test_the_server_sweeps_and_tells_of_what_comes(tmp_path):
    with served(tmp_path) as server:
        old = put(server.folder, "old.png", 10_000)
        server.sweeper.max_bytes = 4000
        assert upload(server.address, b"x" * 900)[0] == 200 and old.exists()
        assert upload(server.address, b"y" * 900)[0] == 200
        until(lambda: not old.exists(), 10)


def test_a_round_over_many_files_is_cheap(sweeper):
    for number in range(2000):
        folder = sweeper.folder / f"{number:064x}"
        folder.mkdir()
        (folder / "a.png").write_bytes(b"x")
    began = time.process_time()
    for folder in sweeper.folder.glob("0*"):
        os.stat(os.path.join(folder, os.listdir(folder)[0]))
    looked = time.process_time()
    assert sweeper.sweep() == 0
    assert time.process_time() - looked < max(0.5, 10 * (looked - began))  # the second on a slow machine


def test_where_no_folder_is_named_the_uploads_get_one_of_their_own_that_can_be_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sweeper = Sweeper(None)
    assert sweeper.folder.parent == tmp_path and sweeper.folder.name.startswith(PREFIX)
    sweeper.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_not_there_is_made_and_one_that_cannot_be_is_an_error(tmp_path):
    assert Sweeper(str(tmp_path / "a" / "b")).folder.parent == tmp_path / "a" / "b"
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        Sweeper(str(tmp_path / "file"))


def test_the_folders_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path):
    code = "import sys, time; from server.uploads import Sweeper; kept = Sweeper(sys.argv[1]); "
    command = [sys.executable, "-c", code + "print(kept.folder, flush=True); time.sleep(60)", str(tmp_path)]
    mine, processes, folders = tmp_path / "mine.txt", [], []
    mine.touch()
    try:
        for _ in range(2):
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
            folders.append(Path(processes[-1].stdout.readline().strip()))
            put(folders[-1], "a.png")
        dead, living = folders
        processes[0].send_signal(signal.SIGKILL)
        processes[0].wait(10)
        assert dead.exists()
        own = Sweeper(str(tmp_path))
        assert sorted(tmp_path.iterdir()) == sorted([mine, living, own.folder])
        assert len(list(living.rglob("*.png"))) == 1
        own.remove()
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=10)


def test_a_link_in_the_place_of_a_lock_or_a_folder_is_nobodys_orphan(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("kept")
    trap = tmp_path / f"{PREFIX}trap"
    trap.mkdir()
    (trap / LOCK).symlink_to(victim)
    fresh = tmp_path / f"{PREFIX}fresh"  # of a process that has not locked it yet
    fresh.mkdir()
    sweeper = Sweeper(str(tmp_path))
    assert victim.read_text() == "kept" and trap.is_dir() and fresh.is_dir()
    sweeper.remove()
