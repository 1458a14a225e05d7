"""server/limits.py: how much one request may send, how fast, and how many may at the same time."""

import json
import socket
import time
from contextlib import contextmanager

import pytest

from server import limits
from server.gradio_routes import BAD_INPUTS, BAD_SESSION, NOT_JSON
from server.limits import MB
from tests.http_calls import BOUNDARY, END, MULTIPART, UPLOAD, ask, part, post, upload
from tests.tiny_server import connect, png, released, sent, served, until, upload_under_way

JSON = {"Content-Type": "application/json"}
CALL = "/gradio_api/call/predict"
TOO_MUCH = (413, "An upload may have 64 MB at most.")
TOO_LONG = "A call may have 64 kB at most: send pictures to /gradio_api/upload first."


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("uploads")) as server:
        yield server


@pytest.fixture
def address(server):
    return server.address


@pytest.fixture
def serve(server, tmp_path):
    """The server with other limits."""
    return lambda **limits: served(tmp_path, **limits)


def pieces(count: int, size: int = MB):
    yield from (b"x" * size for _ in range(count))


@contextmanager
def posting(address: str, path: str, length: int) -> socket.socket:
    """A connection on which the body of a POST is to follow."""
    kind = MULTIPART["Content-Type"]
    with connect(address, f"POST {path} HTTP/1.1\nContent-Type: {kind}\nContent-Length: {length}") as client:
        yield client


def test_an_upload_that_announces_too_much_is_refused_before_it_is_read(address):
    began = time.monotonic()
    with posting(address, UPLOAD, 500_000_000) as client:
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert time.monotonic() - began < 5


def test_an_upload_of_unknown_length_is_cut_where_it_becomes_too_much(server):
    def body():
        for number in range(4):
            yield part(b"", f"{number}.png")[:-2]
            yield from pieces(18)
            yield b"\r\n"
        yield END

    before = server.stored()
    assert sent(server.address, body()) == TOO_MUCH
    assert server.stored() == before


def test_a_file_that_is_too_large_is_refused_and_nothing_of_it_is_left(server):
    before = server.stored()
    assert sent(server.address, part(b"x" * (20 * MB + 1)) + END) == (413, "A file may have 20 MB at most.")
    assert server.stored() == before


def test_a_file_of_exactly_20_mb_passes(address):
    assert upload(address, b"x" * 20 * MB)[0] == 200


def test_16_files_pass_and_17_do_not(address):
    files = [part(png(), f"{number}.png") for number in range(17)]
    status, answer = sent(address, b"".join(files[:16]) + END)
    assert status == 200 and len(json.loads(answer)) == 16
    assert sent(address, b"".join(files) + END) == (413, "An upload may have 16 files at most.")


def test_an_upload_that_is_broken_off_leaves_nothing(server):
    before = len(server.stored())
    with upload_under_way(server.address) as client:
        client.sendall(part(b"x" * 100_000))
        until(lambda: len(server.stored()) == before + 1)
    until(lambda: len(server.stored()) == before)


@pytest.mark.parametrize(("body_seconds", "silent_seconds"), [(1, 60), (60, 1)])
def test_a_body_that_does_not_come_is_given_up(serve, body_seconds, silent_seconds):
    with serve(body_seconds=body_seconds, silent_seconds=silent_seconds) as server:
        for path in (UPLOAD, CALL, "/api/predict"):
            began, answer = time.monotonic(), b""
            with posting(server.address, path, 5000) as client:
                client.sendall(f"--{BOUNDARY}\r\n".encode())
                while piece := client.recv(4096):  # until the server closes
                    answer += piece
            assert answer.startswith(b"HTTP/1.1 408 ") and limits.TOO_SLOW.encode() in answer
            assert 0.8 < time.monotonic() - began < 30


def test_a_body_that_comes_steadily_is_not_given_up(serve):
    first, *others = part(b"x" * 20_000)[:-2], *[b"y" * 300] * 5, b"\r\n", END  # the first allows 20 s
    with serve(silent_seconds=0.3, bytes_per_second=1000) as server:
        with posting(server.address, UPLOAD, sum(map(len, (first, *others)))) as client:
            client.sendall(first)
            for piece in others:
                time.sleep(0.15)
                client.sendall(piece)
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_more_uploads_at_once_than_allowed_are_told_to_come_back(serve):
    with serve(uploads=1) as server:
        with upload_under_way(server.address):
            status, headers, answer = ask(server.address, "POST", UPLOAD, part(png()) + END, MULTIPART)
        assert (status, headers["retry-after"], answer.decode()) == (503, "5", limits.MANY_UPLOADS)
        until(lambda: upload(server.address, png())[0] == 200)


def test_more_bytes_on_their_way_than_allowed_are_told_to_come_back(serve):
    with serve(bytes_in_flight=MB) as server:
        assert upload(server.address, b"x" * 2 * MB) == (503, limits.MANY_UPLOADS)
        assert upload(server.address, png())[0] == 200


def test_more_requests_at_once_than_allowed_are_told_to_come_back(serve):
    with serve(requests=1) as server:
        with connect(server.address, "GET /gradio_api/heartbeat/x HTTP/1.1") as client:
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")  # which goes on
            status, headers, answer = ask(server.address, "GET", "/config")
        assert (status, headers["retry-after"]) == (503, "5")
        assert json.loads(answer) == {"detail": limits.MANY_REQUESTS}
        until(lambda: ask(server.address, "GET", "/config")[0] == 200)


def test_a_full_queue_is_told_in_a_sentence_with_when_to_come_back(serve):
    released.clear()
    answers = []
    with serve(waiting=1) as server:
        for seconds in (60, 0, 0):  # one is taken up sooner or later, and one waits
            body = json.dumps({"data": [seconds]}).encode()
            answers.append(ask(server.address, "POST", "/gradio_api/call/model_info", body, JSON))
            if answers[-1][0] != 200:
                break
    assert answers[0][0] == 200
    status, headers, answer = answers[-1]
    sentence = "The server is busy: 1 predictions are waiting already. Try again in a few seconds."
    assert (status, headers["retry-after"], json.loads(answer)) == (503, "5", {"detail": sentence})


def nested(levels: int) -> bytes:
    """A call whose body is that deep, itself and its list included."""
    return b'{"data": [' + b"[" * (levels - 2) + b"]" * (levels - 2) + b"]}"


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b'{"data": ["' + b"x" * MB + b'"]}', 413, TOO_LONG),
        (b"hello", 400, NOT_JSON),
        (b"", 400, NOT_JSON),
        (b"[1]", 400, NOT_JSON),
        (b'{"data": ["\xff"]}', 400, NOT_JSON),
        (b'{"data": [' + b"9" * 5000 + b"]}", 400, NOT_JSON),
        (nested(30_000), 400, NOT_JSON),
        (b'{"data": [' + b"0," * 2000 + b"0]}", 413, "The body may have 2000 values at most."),
        (b'{"data": [], "session_hash": ""}', 400, BAD_SESSION),
        (nested(33), 400, "The body may be nested 32 deep at most."),
        (nested(32), 400, BAD_INPUTS),  # which is looked at
        (b'{"data": [], "session_hash": "' + b"x" * 101 + b'"}', 400, BAD_SESSION),
        (b'{"data": [], "session_hash": 5}', 400, BAD_SESSION),
    ],
)
def test_a_body_that_gradio_could_not_handle_does_not_reach_it(address, body, status, sentence):
    assert post(address, CALL, body) == (status, {"detail": sentence})


def test_a_call_without_a_length_is_cut_at_1_mb(address):
    assert ask(address, "POST", CALL, pieces(500), JSON)[0] == 413


def test_a_stream_of_answers_that_there_is_not_ends_whole_and_is_no_error_of_the_server(address, caplog):
    status, _, body = ask(address, "GET", f"{CALL}/nothing")
    assert status == 200 and body.startswith(b"event: error")
    time.sleep(0.2)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_events_of_a_stream_come_as_they_happen(address):
    released.clear()
    _, answer = post(address, "/gradio_api/call/model_info", {"data": [1.5]})
    text = b""
    with connect(address, "GET /gradio_api/heartbeat/me HTTP/1.1") as client:
        while b"ALIVE" not in text:
            text += client.recv(4096)
    events = ask(address, "GET", f"/gradio_api/call/model_info/{answer['event_id']}")[2]
    assert events.startswith(b"event: complete")


def test_an_answer_before_its_body_has_come_ends_the_connection(address):
    """Else the server would read on for as long as the client sends."""
    with posting(address, "/api/predict?top_k=99", 9_000_000) as client:
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 422 ") and b"connection: close" in answer
