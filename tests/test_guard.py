import io
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import gradio as gr
import gradio.processing_utils
import pytest
from PIL import Image

from tests.http_calls import BOUNDARY, END, MULTIPART, UPLOAD, ask, call, part, post, stored, upload
from tests.serving import on_free_port
from ui import guard
from ui.calls import BAD_INPUTS
from ui.guard import MB, Limits
from ui.predict import EXAMPLES
from ui.serve import launch
from ui.uploads import GONE, NOT_UPLOADED, Janitor, open_upload


def size_of(upload: object) -> tuple[int, int]:
    with open_upload(upload) as picture:
        return picture.size


released = threading.Event()
"""Ends the calls of "wait" before their time."""


def wait(seconds: float) -> None:
    released.wait(seconds)


def a_page() -> gr.Blocks:
    """A call that answers with the size of a picture, and one that takes its time."""
    with gr.Blocks() as page:
        image, size, seconds = gr.Image(type="filepath"), gr.JSON(), gr.Number()
        gr.on([], size_of, image, size, preprocess=False, api_name="size")
        gr.on([], wait, seconds, None, api_name="wait", concurrency_limit=1)
        gr.on([], wait, seconds, None, api_name="own", api_visibility="private", preprocess=False)
        seconds.change(None, seconds, None, js="(value) => value", api_visibility="private")
    return page


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("uploads")
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def serve(uploads):
    """Serves the page with other limits, until the end of the module."""
    pages = []

    def with_limits(janitor=None, **limits) -> str:
        def start(port: int) -> str:
            pages.append(a_page())
            return launch(pages[-1], "127.0.0.1", port, Limits(**limits), janitor).rstrip("/")

        return on_free_port(start)

    yield with_limits
    for page in pages:
        page.close(verbose=False)


@pytest.fixture(scope="module")
def address(serve):
    return serve()


def png(width: int = 40, height: int = 30) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(file, "PNG")
    return file.getvalue()


def sent(address: str, body, headers=MULTIPART) -> tuple[int, str]:
    status, _, answer = ask(address, "POST", UPLOAD, body, headers)
    return status, answer.decode()


def connect(address: str) -> socket.socket:
    return socket.create_connection(urlsplit(address).netloc.split(":"), timeout=40)


@contextmanager
def upload_under_way(address: str) -> Iterator[socket.socket]:
    """The server waits for its body, of 5 MB."""
    with connect(address) as client:
        head = f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART['Content-Type']}\r\n"
        client.sendall(f"{head}Content-Length: 5000000\r\nExpect: 100-continue\r\n\r\n".encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 100 ")
        yield client


def partial(uploads: Path) -> list[str]:
    """Uploads that are on their way."""
    return [name for name in os.listdir(uploads) if name.startswith("tmp")]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_upload_passes_and_can_be_asked_about(address):
    status, path = upload(address, png(40, 30))
    assert status == 200
    assert call(address, "size", [stored(path)]) == (200, [[40, 30]])


def pieces(count: int, size: int = MB):
    yield from (b"x" * size for _ in range(count))


TOO_MUCH = (413, "An upload may have 64 MB at most.")


def test_an_upload_that_announces_too_much_is_refused_before_it_is_read(address):
    began = time.monotonic()
    with connect(address) as client:
        head = f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART['Content-Type']}\r\n"
        client.sendall(f"{head}Content-Length: 500000000\r\n\r\n".encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert time.monotonic() - began < 5


def test_an_upload_of_unknown_length_is_cut_where_it_becomes_too_much(address, uploads):
    def body():
        for number in range(4):
            yield part(b"", f"{number}.png")[:-2]
            yield from pieces(18)
            yield b"\r\n"
        yield END

    assert sent(address, body()) == TOO_MUCH
    assert partial(uploads) == []


def test_a_file_that_is_too_large_is_refused_and_nothing_of_it_is_left(address, uploads):
    body = part(b"x" * (20 * MB + 1)) + END
    assert sent(address, body) == (413, "A file may have 20 MB at most.")
    assert partial(uploads) == []


def test_a_file_of_exactly_20_mb_passes(address):
    assert upload(address, b"x" * 20 * MB)[0] == 200


def test_16_files_pass_and_17_do_not(address):
    files = [part(png(), f"{number}.png") for number in range(17)]
    status, answer = sent(address, b"".join(files[:16]) + END)
    assert status == 200 and len(json.loads(answer)) == 16
    assert sent(address, b"".join(files) + END) == (413, "An upload may have 16 files at most.")


@pytest.mark.parametrize(
    ("body", "headers", "sentence"),
    [
        (part(png(), field="other") + END, MULTIPART, guard.NOT_MULTIPART),
        (part(b"text").replace(b'; filename="picture.png"', b"") + END, MULTIPART, guard.NOT_MULTIPART),
        (END, MULTIPART, guard.NOT_MULTIPART),
        (png(), {"Content-Type": "image/png"}, guard.NOT_MULTIPART),
        (png(), {"Content-Type": "multipart/form-data"}, guard.NOT_MULTIPART),
        (b"garbage", MULTIPART, guard.DAMAGED),
        (part(png()), MULTIPART, guard.DAMAGED),
        (part(png(), "a" * 100_000) + END, MULTIPART, guard.DAMAGED),
        (part(png(), "..") + END, MULTIPART, "The file needs another name."),
    ],
)
def test_what_is_no_upload_of_files_is_refused_and_nothing_of_it_is_left(address, uploads, body, headers, sentence):
    assert sent(address, body, headers) == (400, sentence)
    assert partial(uploads) == []


def test_an_upload_that_is_broken_off_leaves_nothing(address, uploads):
    with upload_under_way(address) as client:
        client.sendall(part(b"x" * 100_000))
        until(lambda: len(partial(uploads)) == 1)
    until(lambda: partial(uploads) == [])


@pytest.mark.parametrize("path", [UPLOAD, "/gradio_api/call/size"])
@pytest.mark.parametrize(("body_seconds", "silent_seconds"), [(1, 60), (60, 1)])
def test_a_body_that_does_not_come_is_given_up(serve, path, body_seconds, silent_seconds):
    address = serve(body_seconds=body_seconds, silent_seconds=silent_seconds)
    with connect(address) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART['Content-Type']}\r\n"
        began = time.monotonic()
        client.sendall(f"{head}Content-Length: 5000\r\n\r\n--{BOUNDARY}\r\n".encode())
        answer = b""
        while piece := client.recv(4096):  # until the server closes
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408 ") and guard.TOO_SLOW.encode() in answer
    assert 0.8 < time.monotonic() - began < 30


def test_a_body_that_comes_steadily_is_not_given_up(serve):
    address = serve(silent_seconds=0.3, bytes_per_second=1000)

    first, *others = part(b"x" * 20_000)[:-2], *[b"y" * 300] * 5, b"\r\n", END  # the first allows 20 s
    with connect(address) as client:
        head = f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART['Content-Type']}\r\n"
        client.sendall(f"{head}Content-Length: {sum(map(len, (first, *others)))}\r\n\r\n".encode() + first)
        for piece in others:
            time.sleep(0.15)
            client.sendall(piece)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_more_uploads_at_once_than_allowed_are_told_to_come_back(serve):
    address = serve(uploads=1)
    with upload_under_way(address):
        status, headers, answer = ask(address, "POST", UPLOAD, part(png()) + END, MULTIPART)
    assert (status, headers["retry-after"], answer.decode()) == (503, "5", guard.MANY_UPLOADS)
    until(lambda: upload(address, png())[0] == 200)


def test_more_bytes_on_their_way_than_allowed_are_told_to_come_back(serve):
    address = serve(uploading_bytes=MB)
    assert upload(address, b"x" * 2 * MB) == (503, guard.MANY_UPLOADS)
    assert upload(address, png())[0] == 200


def test_more_requests_at_once_than_allowed_are_told_to_come_back(serve):
    address = serve(requests=1)
    with connect(address) as client:
        client.sendall(b"GET /gradio_api/heartbeat/x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")  # which goes on
        status, headers, answer = ask(address, "GET", "/config")
    assert (status, headers["retry-after"]) == (503, "5")
    assert json.loads(answer) == {"detail": guard.MANY_REQUESTS}


def test_a_full_queue_is_told_in_a_sentence_with_when_to_come_back(serve):
    address = serve(waiting=1)
    released.clear()
    answers = []
    try:
        for seconds in (60, 0, 0):  # one is taken up sooner or later, and one waits
            body, kind = json.dumps({"data": [seconds]}).encode(), {"Content-Type": "application/json"}
            answers.append(ask(address, "POST", "/gradio_api/call/wait", body, kind))
            if answers[-1][0] != 200:
                break
    finally:
        released.set()
    assert answers[0][0] == 200
    status, headers, answer = answers[-1]
    sentence = "The server is busy: 1 predictions are waiting already. Try again in a few seconds."
    assert (status, headers["retry-after"], json.loads(answer)) == (503, "5", {"detail": sentence})


TOO_LONG = "A call may have 1 MB at most: send pictures to /gradio_api/upload first."


def nested(levels: int) -> bytes:
    """A call whose body is that deep, itself and its list included."""
    return b'{"data": [' + b"[" * (levels - 2) + b"]" * (levels - 2) + b"]}"


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b'{"data": ["' + b"x" * MB + b'"]}', 413, TOO_LONG),
        (b"hello", 400, guard.NOT_JSON),
        (b"", 400, guard.NOT_JSON),
        (b"[1]", 400, guard.NOT_JSON),
        (b'{"data": ["\xff"]}', 400, guard.NOT_JSON),
        (b'{"data": [' + b"9" * 5000 + b"]}", 400, guard.NOT_JSON),
        (nested(100_000), 400, guard.NOT_JSON),
        (nested(33), 400, "The body may be nested 32 deep at most."),
        (b'{"data": [], "session_hash": "' + b"x" * 101 + b'"}', 400, guard.BAD_SESSION),
        (b'{"data": [], "session_hash": 5}', 400, guard.BAD_SESSION),
    ],
)
def test_a_body_that_gradio_could_not_handle_does_not_reach_it(address, body, status, sentence):
    assert post(address, "/gradio_api/call/size", body) == (status, {"detail": sentence})


def test_a_call_without_a_length_is_cut_at_1_mb(address):
    headers = {"Content-Type": "application/json"}
    assert ask(address, "POST", "/gradio_api/call/size", pieces(500), headers)[0] == 413


def test_a_body_32_deep_reaches_gradio(address):
    assert call(address, "size", nested(32)) == (200, BAD_INPUTS)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/gradio_api/call/nope", {"data": []}),
        ("/gradio_api/call/v2/nope", {}),
        ("/gradio_api/call/v2/size", {"nope": 1}),
        ("/gradio_api/queue/join", {"data": [], "fn_index": 999, "session_hash": "s"}),
    ],
)
def test_a_call_that_there_is_not_is_the_callers_error(address, path, body):
    assert post(address, path, body) == (400, {"detail": guard.BAD_CALL})


@pytest.mark.parametrize(
    ("data", "told"), [([], BAD_INPUTS), ([5], BAD_INPUTS), ([stored("/etc/passwd")], NOT_UPLOADED)]
)
def test_inputs_that_gradio_refuses_without_a_word_are_explained(address, data, told, capfd):
    assert call(address, "size", data) == (200, told)
    assert "Traceback" not in capfd.readouterr().err


def number_of(address: str, **what: object) -> int:
    """Of the one event of which this is true."""
    config = json.loads(ask(address, "GET", "/config")[2])
    (number,) = [one["id"] for one in config["dependencies"] if one.items() >= what.items()]
    return number


def test_a_refusal_says_nothing_of_a_callers_own(address):
    number = number_of(address, api_name="refuse")
    body = {"data": ["<b>mine</b>"], "fn_index": number, "session_hash": "refusal"}
    assert post(address, "/gradio_api/queue/join", body)[0] == 200
    _, _, events = ask(address, "GET", "/gradio_api/queue/data?session_hash=refusal")
    assert BAD_INPUTS in events.decode() and "mine" not in events.decode()


@pytest.fixture
def downloaded(monkeypatch) -> list[str]:
    """The addresses that gradio would have asked."""
    asked = []

    async def download(url, cache_dir):
        asked.append(url)
        raise ValueError("the test's")

    monkeypatch.setattr(gradio.processing_utils, "async_ssrf_protected_download", download)
    return asked


WEB = stored("http://example.com/a.png")


@pytest.mark.parametrize("name", ["size", "wait"])
def test_no_address_in_a_call_is_downloaded(address, downloaded, name):
    assert call(address, name, [WEB]) == (200, NOT_UPLOADED)
    assert downloaded == []


def test_no_address_in_an_event_of_the_page_is_downloaded(address, downloaded):
    body = {"data": [WEB], "fn_index": number_of(address, api_name="own"), "session_hash": "own"}
    assert post(address, "/gradio_api/queue/join", body)[0] == 200
    ask(address, "GET", "/gradio_api/queue/data?session_hash=own")
    assert downloaded == []


def test_no_route_goes_round_the_queue_to_an_event_that_the_browser_answers_alone(address, downloaded):
    body = {"data": [WEB], "fn_index": number_of(address, backend_fn=False), "session_hash": "alone"}
    assert post(address, "/gradio_api/run/anything", body)[0] == 404
    assert downloaded == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", f"/gradio_api/{name}") for name in ("token", "app_id", "user", "login_check", "runs", "vibe-code")),
        *(("GET", f"/gradio_api/{name}") for name in ("deep_link?session_hash=x", "dev/reload", "openapi.json")),
        *(("GET", f"/gradio_api/{name}") for name in ("proxy=http://127.0.0.1/", "profiling/traces", "nothing")),
        *(("GET", f"/gradio_api/{name}") for name in ("stream/a/1/2/playlist.m3u8", "custom_component/1/client/a/b")),
        *(("GET", path) for path in ("/docs", "/openapi.json", "/monitoring", "/monitoring/summary", "/login")),
        *(("GET", path) for path in ("/logout", "//", "/gradio_api/upload", "/gradio_api/file/etc/passwd")),
        *(("POST", f"/gradio_api/{name}") for name in ("component_server", "process_recording", "vibe-edit")),
        *(("POST", f"/gradio_api/{name}") for name in ("run-history/connect", "stream/x", "api/size")),
        *(("POST", path) for path in ("/login", "/", "/config", "/gradio_api/file=x")),
        *((method, "/config") for method in ("PUT", "DELETE", "PATCH", "TRACE")),
    ],
)
def test_a_route_that_the_page_does_not_use_is_closed(address, method, path):
    status, _, body = ask(address, method, path, b"{}" if method == "POST" else None)
    assert status == 404 and guard.NOT_FOUND in body.decode()


@pytest.mark.parametrize("path", ["/", "/config", "/theme.css", "/gradio_api/info", "/robots.txt", "/favicon.ico"])
def test_what_the_page_uses_is_open(address, path):
    assert ask(address, "GET", path)[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../../etc/passwd", "http://127.0.0.1:9/", "https://example.com/a.png", "file:///etc/passwd"]
    + [
        "//example.com/a",
        "data:text/html,x",
        "%00",
        "x" * 5000,
        "{uploads}",
        "{uploads}/../outside.png",
        "{uploads}/no",
    ],
)
def test_only_files_of_the_uploads_are_given_out(address, uploads, path):
    (uploads.parent / "outside.png").write_bytes(png())
    status, _, _ = ask(address, "GET", "/gradio_api/file=" + path.format(uploads=uploads))
    assert status == 404


def test_an_uploaded_picture_is_shown_and_no_longer_with_the_headers_of_the_request(address):
    _, path = upload(address, png())
    status, headers, body = ask(
        address, "GET", f"/gradio_api/file={path}", headers={"Range": "bytes=0-3", "X-Mine": "secret"}
    )
    assert (status, headers["content-type"], body) == (200, "image/png", png())
    assert "x-mine" not in headers and headers["content-security-policy"] == guard.FILE_POLICY


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.xml", "a.js", "a.pdf", "a"])
def test_what_is_no_picture_by_its_name_is_saved_by_a_browser_and_never_run(address, name):
    _, path = upload(address, b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", name)
    status, headers, _ = ask(address, "GET", f"/gradio_api/file={path}")
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert headers["content-disposition"].startswith("attachment")
    assert headers["x-content-type-options"] == "nosniff" and "sandbox" in headers["content-security-policy"]


def test_nor_is_what_gradio_would_show(address):
    status, headers, _ = ask(address, "GET", f"/gradio_api/file={EXAMPLES / 'draw.py'}")
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert headers["content-disposition"] == "attachment"


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/nothing"), ("POST", "/gradio_api/call/size")])
def test_every_answer_has_the_security_headers(address, method, path):
    _, headers, _ = ask(address, method, path, b"" if method == "POST" else None)
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'self' https://huggingface.co https://*.hf.space" in policy
    assert "default-src 'self'" in policy and "object-src 'none'" in policy and "base-uri 'self'" in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("host", ["127.0.0.1", "ann-page.hf.space"])
def test_another_page_may_call_the_api_but_never_with_credentials(address, host):
    foreign = {"Host": host, "Origin": "https://other.example"}
    for path in ("/config", "/gradio_api/info"):
        _, headers, _ = ask(address, "GET", path, headers=foreign)
        assert headers["access-control-allow-origin"] == "*" and "access-control-allow-credentials" not in headers
    wanted = foreign | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    status, headers, _ = ask(address, "OPTIONS", "/gradio_api/call/size", headers=wanted)
    assert (status, headers["access-control-allow-origin"]) == (200, "*")
    assert headers["access-control-allow-headers"] == "*" and "access-control-allow-credentials" not in headers


def test_another_page_may_not_read_the_page_or_what_was_uploaded(address):
    _, path = upload(address, png())
    for url in ("/", f"/gradio_api/file={path}"):
        _, headers, _ = ask(address, "GET", url, headers={"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in headers and "access-control-allow-credentials" not in headers


def test_a_stream_of_answers_that_there_is_not_ends_whole_and_is_no_error_of_the_server(address, monkeypatch):
    told = []
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "error", lambda *args, **kwargs: told.append(args))
    status, _, body = ask(address, "GET", "/gradio_api/call/size/nothing")
    assert status == 200 and body.startswith(b"event: error")
    time.sleep(0.2)
    assert told == []


def test_events_of_a_stream_come_as_they_happen(address):
    released.clear()
    _, answer = post(address, "/gradio_api/call/wait", {"data": [1.5]})
    with connect(address) as client:
        client.sendall(b"GET /gradio_api/heartbeat/me HTTP/1.1\r\nHost: x\r\n\r\n")
        text = b""
        while b"ALIVE" not in text:
            text += client.recv(4096)
    assert ask(address, "GET", f"/gradio_api/call/wait/{answer['event_id']}")[2].startswith(b"event: complete")


def test_two_visitors_at_once_get_their_own_answers(address):
    wrong = []

    def visit(width: int) -> None:
        for height in range(1, 16):
            _, path = upload(address, png(width, height), "photo.png")
            if call(address, "size", [stored(path)]) != (200, [[width, height]]):
                wrong.append((width, height))

    visitors = [threading.Thread(target=visit, args=(width,)) for width in (3, 5, 7)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert wrong == []


def test_a_visitor_whose_picture_was_swept_is_told_to_upload_it_again(serve, uploads):
    janitor = Janitor(uploads, seconds=0, every=3600)  # in a round of its own it might meet an upload on its way
    address = serve(janitor)
    status, path = upload(address, png(9, 9))
    assert status == 200
    until(lambda: janitor.wake.set() or not os.path.exists(path))
    janitor.stop()
    assert call(address, "size", [stored(path)]) == (200, GONE)
    assert call(address, "size", [{"path": path}]) == (200, GONE)
