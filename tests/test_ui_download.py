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
WHOLE = {"mine.txt", FOLDER, *(f"{FOLDER}/{name}" for name in cifar10.MD5)}
NOT_IT = "What was downloaded is not the official CIFAR-10 archive, or not all of it. Try again later."


class Host(http.server.ThreadingHTTPServer):
    """Answers every GET with `answer(handler)`, and counts them."""

    def __init__(self, answer: Callable):
        self.answer, self.asked, self.closing = answer, 0, threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request, client) -> None:
        """The page hung up."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        self.close_connection = True
        self.server.answer(self)

    def log_message(self, *args):
        pass


def sends(content: bytes, length: int | None = None, status: int = 200) -> Callable:
    def answer(handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


@pytest.fixture
def archive(tiny_cifar, monkeypatch) -> bytes:
    """Taken for the official one, with a file that is not wanted."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as packed:
        for name in cifar10.MD5:
            packed.add(tiny_cifar / FOLDER / name, f"{FOLDER}/{name}")
        packed.addfile(tarfile.TarInfo(f"{FOLDER}/readme.html"))
    monkeypatch.setattr(module, "MD5", hashlib.md5(buffer.getvalue()).hexdigest())
    monkeypatch.setattr(module, "BYTES", len(buffer.getvalue()))
    return buffer.getvalue()


@pytest.fixture
def host(archive, monkeypatch) -> Iterator[Host]:
    with Host(sends(archive)) as host:
        monkeypatch.setattr(module, "URL", f"http://127.0.0.1:{host.server_port}/cifar.tar.gz")
        threading.Thread(target=host.serve_forever, args=(0.05,), daemon=True).start()
        yield host
        host.closing.set()
        host.shutdown()


@pytest.fixture
def data_dir(tmp_path) -> Path:
    """With something of the owner's in it."""
    (folder := tmp_path / "data").mkdir()
    (folder / "mine.txt").write_text("keep")
    return folder


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def quiet(share: float, what: str) -> None:
    pass


def refused(data_dir: Path) -> str:
    """The sentence; nothing may be left of the attempt, beside the data or above it."""
    around, began = everything(data_dir.parent), time.monotonic()
    with pytest.raises(DatasetError) as caught:
        download(data_dir, quiet)
    assert everything(data_dir.parent) == around and time.monotonic() - began < 15
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and "Traceback" not in message
    return message


def failed(reason: str) -> str:
    return f"CIFAR-10 could not be downloaded ({reason}). Try again later."


def test_the_official_files_come_and_nothing_else_and_the_progress_only_grows(host, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 10_000)
    told = []
    folder = tmp_path / "not" / "there"
    download(folder, lambda share, what: told.append((share, what)))
    assert everything(folder) == WHOLE - {"mine.txt"}
    cifar10.check_files(folder)
    shares, total = [share for share, _ in told], f"{len(archive) / 1e6:.0f}"
    assert len(told) > 20 and shares == sorted(shares) and 0 < shares[0] < 0.1
    assert told[-2:] == [(1.0, f"{total} of {total} MB"), (1.0, "Unpacking")]
    download(folder, lambda *step: pytest.fail("a second download"))
    assert host.asked == 1


def test_damaged_files_and_what_a_killed_download_left_are_replaced(host, data_dir):
    for folder, names in ((FOLDER, cifar10.MD5), (".cifar-10.part", ["archive.tar.gz"])):
        (data_dir / folder).mkdir()
        for name in names:  # none is missing
            (data_dir / folder / name).write_bytes(b"half")
    download(data_dir, quiet)
    assert everything(data_dir) == WHOLE and (data_dir / "mine.txt").read_text() == "keep"
    cifar10.check_files(data_dir)


# What is not the archive


def stalls(handler) -> None:
    sends(bytes(100_000), 10**9)(handler)
    handler.server.closing.wait(20)


def drips(handler) -> None:
    sends(b"", 10**9)(handler)
    while not handler.server.closing.wait(0.05):
        handler.wfile.write(b"x")


def breaks_off(handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nhalf a chunk")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (sends(b"<html>", status=503), failed("Service Unavailable")),
        (stalls, failed("TimeoutError")),
        (drips, NOT_IT),
        (breaks_off, failed("IncompleteRead")),
        (lambda handler: handler.wfile.write(b"no HTTP at all\r\n\r\n"), failed("BadStatusLine")),
    ],
)
def test_a_server_that_fails_is_given_up_in_a_sentence(host, data_dir, monkeypatch, answer, sentence):
    monkeypatch.setattr(module, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(module, "TOTAL_SECONDS", 2)
    host.answer = answer
    assert refused(data_dir) == sentence


def test_another_file_or_half_of_it_is_refused_and_the_next_attempt_is_not(host, data_dir, archive):
    for answer in (sends(bytes(len(archive))), sends(archive[: len(archive) // 2], len(archive))):
        host.answer = answer
        assert refused(data_dir) == NOT_IT
    host.answer = sends(archive)
    download(data_dir, quiet)
    assert everything(data_dir) == WHOLE


def test_an_endless_answer_is_cut_at_the_archives_length(host, data_dir, archive, monkeypatch):
    monkeypatch.setattr(module, "TOTAL_SECONDS", 10)  # else this test would not end where it fails
    sent = []

    def endless(handler):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while not host.closing.is_set():
            sent.append(handler.wfile.write(b"x" * 65536))

    host.answer = endless
    assert refused(data_dir) == NOT_IT
    assert sum(sent) < len(archive) + 32e6  # what lay in the buffers of the two sockets


def test_a_refused_connection_and_a_folder_that_cannot_be_written_are_told(host, data_dir, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(DatasetError, match="Not a directory"):
        download(tmp_path / "file", quiet)
    monkeypatch.setattr(module, "URL", "http://127.0.0.1:9/cifar.tar.gz")
    assert "Connection refused" in refused(data_dir)


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
    with pytest.raises(DatasetError, match="CIFAR-10 is being downloaded already"):
        download(data_dir, quiet)
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
