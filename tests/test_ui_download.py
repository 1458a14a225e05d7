"""The page's download of CIFAR-10, from a server of the loopback interface that holds the made-up one."""

import hashlib
import http.server
import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from model import cifar10
from model.cifar10 import DatasetError
from ui import download as module
from ui.download import download

FOLDER = cifar10.FOLDER


class Host:
    """Answers every GET with `answer(handler)`, at first with the archive; counts them."""

    def __init__(self, archive: bytes):
        self.asked, self.closing = 0, threading.Event()
        self.answer: Callable = sends(archive)
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                host.asked += 1
                try:
                    host.answer(self)
                except OSError:  # the page hung up
                    pass
                self.close_connection = True

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/cifar.tar.gz"

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


def sends(content: bytes, length: int | None = None, status: int = 200) -> Callable:
    def answer(handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def members(data_dir: Path, leave_out: str = "") -> dict[str, bytes]:
    return {f"{FOLDER}/{name}": (data_dir / FOLDER / name).read_bytes() for name in cifar10.MD5 if name != leave_out}


def packed(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in more:
            archive.addfile(info)
    return buffer.getvalue()


@pytest.fixture
def archive(tiny_cifar) -> bytes:
    return packed(members(tiny_cifar))


@pytest.fixture
def official(monkeypatch) -> Callable[[bytes], None]:
    """Takes an archive for the official one."""

    def take(archive: bytes) -> None:
        monkeypatch.setattr(module, "MD5", hashlib.md5(archive).hexdigest())
        monkeypatch.setattr(module, "BYTES", len(archive))

    return take


@pytest.fixture
def host(archive, official, monkeypatch) -> Iterator[Host]:
    official(archive)
    host = Host(archive)
    monkeypatch.setattr(module, "URL", host.url)
    yield host
    host.close()


@pytest.fixture
def data_dir(tmp_path) -> Path:
    """With something of the owner's in it."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    return folder


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


WHOLE = {"mine.txt", FOLDER, *(f"{FOLDER}/{name}" for name in cifar10.MD5)}


def quiet(share: float, what: str) -> None:
    pass


def refused(data_dir: Path) -> str:
    """The sentence; nothing may be left of the attempt, beside the data or above it."""
    around = everything(data_dir.parent)
    with pytest.raises(DatasetError) as caught:
        download(data_dir, quiet)
    assert everything(data_dir.parent) == around
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and "Traceback" not in message
    return message


NOT_IT = "What was downloaded is not the official CIFAR-10 archive, or not all of it. Try again later."


def failed(reason: str) -> str:
    return f"CIFAR-10 could not be downloaded ({reason}). Try again later."


def test_the_official_archive_becomes_the_official_files_and_nothing_else(host, data_dir, tiny_cifar):
    download(data_dir, quiet)
    assert everything(data_dir) == WHOLE
    cifar10.check_files(data_dir)
    for name in cifar10.MD5:
        assert (data_dir / FOLDER / name).read_bytes() == (tiny_cifar / FOLDER / name).read_bytes()
    assert (data_dir / "mine.txt").read_text() == "keep" and host.asked == 1


def test_the_progress_only_grows_ends_at_1_and_says_what_is_done(host, data_dir, archive, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 10_000)
    told = []
    download(data_dir, lambda share, what: told.append((share, what)))
    shares = [share for share, _ in told]
    assert len(told) > 20 and shares == sorted(shares) and 0 < shares[0] < 0.1 and shares[-1] == 1
    total = f"{len(archive) / 1e6:.0f}"
    assert told[-1] == (1.0, "Unpacking") and told[-2] == (1.0, f"{total} of {total} MB")


def test_a_folder_that_is_complete_is_left_alone_and_nobody_is_asked(host, tiny_cifar):
    before = everything(tiny_cifar)
    download(tiny_cifar, quiet)
    assert host.asked == 0 and everything(tiny_cifar) == before


def test_a_folder_that_is_not_there_yet_is_made(host, tmp_path):
    download(tmp_path / "a" / "b", quiet)
    cifar10.check_files(tmp_path / "a" / "b")


def test_damaged_files_and_what_a_killed_download_left_are_replaced(host, data_dir):
    (data_dir / FOLDER).mkdir()
    for name in cifar10.MD5:  # none is missing
        (data_dir / FOLDER / name).write_bytes(b"half")
    (data_dir / ".cifar-10.part").mkdir()
    (data_dir / ".cifar-10.part" / "archive.tar.gz").write_bytes(b"half")
    download(data_dir, quiet)
    assert everything(data_dir) == WHOLE
    cifar10.check_files(data_dir)
    cifar10.check_files(data_dir)


# What is not the archive


def test_another_file_of_the_same_length_is_refused(host, data_dir, archive):
    host.answer = sends(bytes(len(archive)))
    assert refused(data_dir) == NOT_IT


def test_half_of_it_is_refused_and_the_next_attempt_is_not(host, data_dir, archive):
    host.answer = sends(archive[: len(archive) // 2], len(archive))
    assert refused(data_dir) == NOT_IT
    host.answer = sends(archive)
    download(data_dir, quiet)
    assert everything(data_dir) == WHOLE


def test_an_endless_answer_is_cut_at_the_archives_length(host, data_dir, archive, monkeypatch):
    monkeypatch.setattr(module, "TOTAL_SECONDS", 10)  # else this test would not end where it fails
    sent = 0

    def endless(handler):
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        while not host.closing.is_set():
            handler.wfile.write(b"x" * 65536)
            sent += 65536

    host.answer = endless
    assert refused(data_dir) == NOT_IT
    assert sent < len(archive) + 32e6  # what lay in the buffers of the two sockets


def test_a_server_that_falls_silent_is_given_up(host, data_dir, archive, monkeypatch):
    monkeypatch.setattr(module, "STALL_SECONDS", 0.5)

    def stalls(handler):
        sends(archive[:100_000], len(archive))(handler)
        host.closing.wait(20)

    host.answer = stalls
    began = time.monotonic()
    assert refused(data_dir) == failed("TimeoutError")
    assert time.monotonic() - began < 10


def test_a_server_that_sends_a_byte_now_and_then_is_given_up_in_the_end(host, data_dir, archive, monkeypatch):
    monkeypatch.setattr(module, "TOTAL_SECONDS", 1)

    def drips(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(archive)))
        handler.end_headers()
        for k in range(200):
            handler.wfile.write(archive[k : k + 1])
            if host.closing.wait(0.05):
                return

    host.answer = drips
    began = time.monotonic()
    assert refused(data_dir) == NOT_IT
    assert time.monotonic() - began < 6


def test_an_answer_of_another_status_is_told_by_its_name(host, data_dir):
    host.answer = sends(b"<html>", status=503)
    assert refused(data_dir) == failed("Service Unavailable")


def test_a_refused_connection_is_told(data_dir, tiny_cifar, monkeypatch):
    monkeypatch.setattr(module, "URL", "http://127.0.0.1:9/cifar.tar.gz")
    assert "Connection refused" in refused(data_dir)


def broken_off(handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"ffff\r\nhalf a chunk")


@pytest.mark.parametrize("answer", [broken_off, lambda handler: handler.wfile.write(b"no HTTP at all\r\n\r\n")])
def test_what_is_no_whole_answer_in_http_is_told(host, data_dir, answer):
    host.answer = answer
    assert refused(data_dir).startswith("CIFAR-10 could not be downloaded (")


# What an archive may hold; here each one has the right md5


def serves(host: Host, official: Callable, archive: bytes) -> None:
    official(archive)
    host.answer = sends(archive)


def member(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


EVIL_NAMES = ("../x", f"{FOLDER}/../../x", "/tmp/cifar-10-evil", "x", f"{FOLDER}/readme.html", f"{FOLDER}/a/b")


def test_members_of_other_names_are_not_unpacked_anywhere(host, official, data_dir, tiny_cifar):
    evil = packed(
        dict.fromkeys(EVIL_NAMES, b"evil") | members(tiny_cifar),
        member("../y", "/etc/passwd"),
        member(f"{FOLDER}/z", "/etc", tarfile.LNKTYPE),
    )
    serves(host, official, evil)
    download(data_dir, quiet)
    assert everything(data_dir.parent) == {"data", *(f"data/{name}" for name in WHOLE)}
    assert not Path("/tmp/cifar-10-evil").exists()


@pytest.mark.parametrize(
    "instead",
    [
        lambda name: tarfile.TarInfo("something else"),
        lambda name: member(name, "", tarfile.DIRTYPE),
        lambda name: member(name, "/etc/hostname"),
        lambda name: member(name, "../../../mine.txt"),
        lambda name: member(name, "/etc/hostname", tarfile.LNKTYPE),
        lambda name: member(name, "test_batch"),
    ],
    ids=["nothing", "a folder", "a link out", "a link up", "a hard link out", "a link to itself"],
)
def test_what_stands_in_a_files_place_and_is_no_file_is_refused(host, official, data_dir, tiny_cifar, instead):
    serves(host, official, packed(members(tiny_cifar, leave_out="test_batch"), instead(f"{FOLDER}/test_batch")))
    assert refused(data_dir).startswith("CIFAR-10 could not be downloaded (")


def test_a_file_that_is_not_the_official_one_is_not_moved_in(host, official, data_dir, tiny_cifar):
    serves(host, official, packed(members(tiny_cifar) | {f"{FOLDER}/test_batch": b"altered"}))
    around = everything(data_dir.parent)
    with pytest.raises(DatasetError, match="test_batch is damaged or altered"):
        download(data_dir, quiet)
    assert everything(data_dir.parent) == around


def test_a_folder_that_cannot_be_written_is_told(host, tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DatasetError) as caught:
        download(tmp_path / "data", quiet)
    assert str(caught.value) == failed("Not a directory")


# More than one


def test_of_two_at_once_the_second_is_refused_and_the_first_is_done(host, data_dir, archive):
    under_way, go_on = threading.Event(), threading.Event()

    def waits(handler):
        sends(archive[:1000], len(archive))(handler)
        under_way.set()
        go_on.wait(20)
        handler.wfile.write(archive[1000:])

    host.answer = waits
    first = threading.Thread(target=download, args=(data_dir, quiet))
    first.start()
    assert under_way.wait(20)
    with pytest.raises(DatasetError) as caught:
        download(data_dir, quiet)
    assert str(caught.value).startswith("CIFAR-10 is being downloaded already")
    go_on.set()
    first.join(30)
    assert everything(data_dir) == WHOLE and host.asked == 1


def test_one_whose_visitor_has_gone_leaves_nothing_and_the_next_is_not_refused(host, data_dir):
    def gone(share, what):
        raise RuntimeError("no such session")

    with pytest.raises(RuntimeError):
        download(data_dir, gone)
    assert everything(data_dir) == {"mine.txt"}
    download(data_dir, quiet)
    assert everything(data_dir) == WHOLE
