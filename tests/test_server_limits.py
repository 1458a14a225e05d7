"""server/limits.py: how much one request may send, how fast, and how many may at the same time."""

import json
import time
from contextlib import ExitStack
from select import select

import pytest

from tests import http_calls as http
from tests.http_calls import END, JSON, MULTIPART, UPLOAD, ask, call, connect, part, post, posting, sent, upload
from tests.image_files import png
from tests.tiny_server import released, served, until

MB = 2**20
CALL = "/gradio_api/call/predict"
NOT_JSON = "The body must be a JSON object."
BAD_SESSION = "session_hash must be a text of 1 to 100 characters."
MANY_UPLOADS = "The server is busy: too many uploads at once. Try again in a few seconds."


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server that is soon busy."""
    limits = {"uploads": 1, "bytes_in_flight": MB, "requests": 3, "waiting": 1}
    with served(tmp_path_factory.mktemp("small"), **limits) as server:
        yield server.address


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    limits = {"body_seconds": 5, "silent_seconds": 0.5, "bytes_per_second": 1000, "drain_seconds": 0.5}
    with served(tmp_path_factory.mktemp("impatient"), **limits) as server:
        yield server.address


def test_an_upload_that_announces_too_much_is_refused_before_it_is_read(address):
    with posting(address, UPLOAD, 500_000_000) as client:
        client.settimeout(30)
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_an_upload_of_unknown_length_is_cut_where_it_becomes_too_much(server):
    def body():
        for number in range(4):
            yield part(b"", f"{number}.png")[:-2]
            yield from [bytes(MB)] * 18
            yield b"\r\n"
        yield END

    before = server.stored()
    assert sent(server.address, body()) == (413, "An upload may have 64 MB at most.")
    assert server.stored() == before
    assert ask(server.address, "POST", CALL, iter([bytes(MB)] * 500), JSON)[0] == 413


def test_an_upload_that_is_broken_off_leaves_nothing(server):
    before = server.stored()
    with http.upload_under_way(server.address) as client:
        client.sendall(part(b"x" * 100_000))
        time.sleep(0.3)
    until(lambda: server.stored() == before)


@pytest.mark.parametrize("path", [UPLOAD, CALL, "/api/predict"])
def test_a_body_that_does_not_come_is_given_up(impatient, path):
    began, answer = time.monotonic(), b""
    with posting(impatient, path, 5000) as client:
        client.sendall(f"--{http.BOUNDARY}\r\n".encode())
        while piece := client.recv(4096):  # until the server closes
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408 ") and b"The upload took too long: " in answer
    assert 0.4 < time.monotonic() - began < 30


@pytest.mark.parametrize(("count", "status"), [(4, b"200"), (60, b"408")])
def test_a_body_that_comes_steadily_is_given_up_only_where_it_takes_too_long(impatient, count, status):
    pieces = [part(b"x" * 20_000)[:-2], *[b"y" * 300] * count, b"\r\n" + END]  # the first allows 20 s
    with posting(impatient, UPLOAD, sum(map(len, pieces))) as client:
        for piece in pieces:
            client.sendall(piece)
            if select([client], [], [], 0.25)[0]:  # an answer before the last piece
                break
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 " + status)


def test_more_uploads_or_bytes_at_once_than_allowed_are_told_to_come_back(small):
    with http.upload_under_way(small):
        status, headers, answer = ask(small, "POST", UPLOAD, part(png()) + END, MULTIPART)
    assert (status, headers["retry-after"], answer.decode()) == (503, "5", MANY_UPLOADS)
    until(lambda: upload(small, png())[0] == 200)
    assert upload(small, bytes(2 * MB)) == (503, MANY_UPLOADS)
    until(lambda: upload(small, png())[0] == 200)


def test_more_requests_at_once_than_allowed_are_told_to_come_back(small):
    with ExitStack() as open_ones:
        for number in range(3):
            client = open_ones.enter_context(connect(small, f"GET /gradio_api/heartbeat/{number} HTTP/1.1"))
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")  # which goes on
        status, headers, answer = ask(small, "GET", "/config")
        assert (status, headers["retry-after"]) == (503, "5") and b"too many visitors at once" in answer
    until(lambda: ask(small, "GET", "/config")[0] == 200)


def test_a_full_queue_is_told_in_a_sentence_with_when_to_come_back(small):
    released.clear()
    body, answers = json.dumps({"data": [60]}).encode(), []
    while len(answers) < 5 and (not answers or answers[-1][0] == 200):  # one is taken up sooner or later, and one waits
        answers.append(ask(small, "POST", "/gradio_api/call/model_info", body, JSON))
    released.set()
    status, headers, answer = answers[-1]
    sentence = "The server is busy: 1 predictions are waiting already. Try again in a few seconds."
    assert answers[0][0] == 200
    assert (status, headers["retry-after"], json.loads(answer)) == (503, "5", {"detail": sentence})


def nested(levels: int) -> bytes:
    """A call whose body is that deep, itself and its list included."""
    return b'{"data": [' + b"[" * (levels - 2) + b"]" * (levels - 2) + b"]}"


def test_a_body_that_gradio_could_not_handle_does_not_reach_it(address):
    for body, status, sentence in (
        (bytes(MB), 413, "A call may have 64 kB at most: send images to /gradio_api/upload first."),
        *((text, 400, NOT_JSON) for text in (b"hello", b"", b"[1]", b'{"data": ["\xff"]}', nested(30_000))),
        (b'{"data": [' + b"9" * 5000 + b"]}", 400, NOT_JSON),
        (nested(33), 400, "The body may be nested 32 deep at most."),
        (nested(32), 400, "These inputs do not fit the call: "),  # which is looked at
        *((f'{{"data": [], "session_hash": {one}}}'.encode(), 400, BAD_SESSION) for one in ('""', f'"{101 * "x"}"', 5)),
    ):
        found, answer = post(address, CALL, body)
        assert found == status and answer["detail"].startswith(sentence), body[:50]


def test_a_query_that_is_too_long_is_refused(address):
    for path in ("/config", "/api/health"):
        assert ask(address, "GET", f"{path}?{'x' * 2049}")[0] == 400


def test_a_stream_for_nobody_ends_whole_and_is_no_error_of_the_server(address, caplog):
    status, _, body = ask(address, "GET", f"{CALL}/nothing")
    assert status == 200 and body.startswith(b"event: error")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_events_of_a_stream_come_as_they_happen(address):
    released.clear()
    with connect(address, "GET /gradio_api/heartbeat/me HTTP/1.1") as client:
        text = b""
        while b"ALIVE" not in text:
            text += client.recv(4096)
    assert call(address, "model_info", [0.5])[0] == 200


@pytest.mark.parametrize(
    ("request_line", "status"), [("POST /api/predict?top_k=99", b"422"), ("GET /api/model", b"200")]
)
def test_an_answer_before_its_body_has_come_ends_the_connection(impatient, request_line, status):
    """Else the server would read on for as long as the client sends."""
    kind = MULTIPART["Content-Type"]
    with connect(impatient, f"{request_line} HTTP/1.1\nContent-Type: {kind}\nContent-Length: 60000") as client:
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 " + status) and b"connection: close" in answer


def test_a_client_that_sends_all_before_it_reads_gets_the_early_answer(address):
    with posting(address, "/api/predict?top_k=99", 10_000_000) as client:
        client.sendall(bytes(10_000_000))
        assert client.recv(4096).startswith(b"HTTP/1.1 422 ")
