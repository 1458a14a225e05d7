"""server/gradio_routes.py: which of gradio's routes are open, what is an upload, and calls that name only uploads."""

import json
import logging
import os
import shutil
import subprocess
import threading
from types import SimpleNamespace

import gradio.processing_utils
import pytest

from server import gradio_routes as routes
from server.limits import DAMAGED, MB
from server.limits import NOT_MULTIPART as NO_FORM
from tests.http_calls import END, META, MULTIPART, UPLOAD, ask, call, part, post, stored, upload
from tests.tiny_server import event_number, png, sent, served, until
from ui.predict import EXAMPLES
from ui.uploads import GONE, NOT_UPLOADED

SOME_HASH = "0" * 64


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("uploads")) as server:
        yield server


@pytest.fixture
def address(server):
    return server.address


@pytest.mark.parametrize(
    ("body", "headers", "status", "sentence"),
    [
        (part(png(), field="other") + END, MULTIPART, 400, routes.NOT_MULTIPART),
        (part(b"text").replace(b'; filename="picture.png"', b"") + END, MULTIPART, 400, routes.NOT_MULTIPART),
        (END, MULTIPART, 400, routes.NOT_MULTIPART),
        (png(), {"Content-Type": "multipart/form-data"}, 400, routes.NOT_MULTIPART),
        (png(), {"Content-Type": "image/png"}, 415, NO_FORM),
        (b"garbage", MULTIPART, 400, DAMAGED),
        (part(png()), MULTIPART, 400, DAMAGED),
        (part(png(), "a" * 100_000) + END, MULTIPART, 400, DAMAGED),
        (part(png(), "..") + END, MULTIPART, 400, "The file needs another name."),
    ],
)
def test_what_is_no_upload_of_files_is_refused_and_nothing_of_it_is_left(server, body, headers, status, sentence):
    before = server.stored()
    assert sent(server.address, body, headers) == (status, sentence)
    assert server.stored() == before


def is_full(folder, monkeypatch) -> bool:
    """Whether `folder` is a disk of 6 MB now; else it looks like one."""

    def usage(path):
        return SimpleNamespace(free=6 * MB - sum(file.stat().st_size for file in path.glob("tmp*")))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    mount = ["mount", "-t", "tmpfs", "-o", "size=6M", "none", str(folder)]
    if shutil.which("mount") is None or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        return False
    monkeypatch.undo()
    return True


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_for_which_the_disk_has_no_room_is_told_to_come_back(tmp_path, monkeypatch, caplog, chunked):
    mounted = is_full(tmp_path, monkeypatch)
    try:
        with served(tmp_path) as server:
            body = part(b"x" * 18 * MB) + END
            whole = iter([body[k : k + MB] for k in range(0, len(body), MB)]) if chunked else body
            status, headers, answer = ask(server.address, "POST", UPLOAD, whole, MULTIPART)
            assert (status, headers["retry-after"], answer.decode()) == (503, "5", routes.NO_ROOM)
            (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
            assert line.startswith("No room for uploads")
            until(lambda: server.stored() == [])
            assert upload(server.address, png())[0] == 200
    finally:
        if mounted:
            subprocess.run(["umount", str(tmp_path)], check=True)


def test_what_the_page_uses_is_open(address):
    for path in ("/", "/config", "/config/", "/theme.css", "/gradio_api/info", "/robots.txt", "/favicon.ico"):
        assert (path, ask(address, "GET", path)[0]) == (path, 200)
    assert ask(address, "GET", "//")[0] == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", f"/gradio_api/{name}") for name in ("token", "app_id", "user", "login_check", "runs", "vibe-code")),
        *(("GET", f"/gradio_api/{name}") for name in ("deep_link?session_hash=x", "dev/reload", "openapi.json")),
        *(("GET", f"/gradio_api/{name}") for name in ("proxy=http://127.0.0.1/", "profiling/traces", "nothing")),
        *(("GET", f"/gradio_api/{name}") for name in ("stream/a/1/2/playlist.m3u8", "custom_component/1/client/a/b")),
        *(("GET", path) for path in ("/docs", "/monitoring", "/monitoring/summary", "/login", "/logout")),
        *(("GET", path) for path in ("/gradio_api/upload", "/gradio_api/file/etc/passwd", "/api", "/redoc")),
        *(("POST", f"/gradio_api/{name}") for name in ("component_server", "process_recording", "vibe-edit")),
        *(("POST", f"/gradio_api/{name}") for name in ("run-history/connect", "stream/x", "api/predict")),
        *(("POST", f"/gradio_api/{name}") for name in ("run/predict", "call/nope", "call/v2/nope", "call/own")),
        *(("POST", path) for path in ("/login", "/", "/config", "/gradio_api/file=x")),
        *((method, "/config") for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS")),
    ],
)
def test_a_route_that_the_page_does_not_use_is_closed(address, method, path):
    status, _, body = ask(address, method, path, b"{}" if method == "POST" else None)
    assert status == 404 and routes.NOT_FOUND in body.decode()


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "../../etc/passwd", "http://127.0.0.1:9/", "https://example.com/a.png", "file:///etc/passwd"),
        *("//example.com/a", "data:text/html,x", "%00", "x" * 5000, "{uploads}", "{uploads}/../outside.png"),
        *("{uploads}/%2e%2e/outside.png", "{uploads}/%252e%252e/outside.png", "{uploads}/no", f"{EXAMPLES}/draw.py"),
    ],
)
def test_only_files_of_the_uploads_are_given_out(server, path):
    (server.folder.parent / "outside.png").write_bytes(png())
    assert ask(server.address, "GET", "/gradio_api/file=" + path.format(uploads=server.folder))[0] == 404


def test_an_uploaded_picture_is_shown_whole_and_without_the_headers_of_the_request(address):
    _, path = upload(address, png())
    headers = {"Range": "bytes=0-3", "X-Mine": "secret"}
    status, headers, body = ask(address, "GET", f"/gradio_api/file={path}", headers=headers)
    assert (status, headers["content-type"], body) == (200, "image/png", png())
    assert "x-mine" not in headers


def joined(address: str, number: int, data: object, session: str = "s") -> tuple[int, dict]:
    """The answer to an event of the page, asked for by its number."""
    body = {"data": data, "fn_index": number, "session_hash": session, "event_data": None, "trigger_id": None}
    return post(address, "/gradio_api/queue/join", body)


@pytest.mark.parametrize("number", [999, -1, "0", None, {}])
def test_an_event_that_there_is_not_is_the_callers_error(address, number):
    assert joined(address, number, [None, None]) == (400, {"detail": routes.BAD_CALL})


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


def test_no_route_goes_round_the_queue_to_an_event_that_the_browser_answers_alone(address, downloaded):
    number = event_number(address, backend_fn=False)
    body = {"data": [WEB], "fn_index": number, "session_hash": "alone"}
    assert post(address, "/gradio_api/run/anything", body)[0] == 404
    assert joined(address, number, [5]) == (400, {"detail": routes.BAD_CALL})
    assert downloaded == []


UNFIT = {
    "a number": (5, routes.BAD_INPUTS),
    "a list": ([], routes.BAD_INPUTS),
    "a text": ("/etc/passwd", NOT_UPLOADED),
    "a data URL": ("data:image/png;base64,AAAA", NOT_UPLOADED),
    "a path on the server": (stored("/etc/passwd"), NOT_UPLOADED),
    "a path without meta": ({"path": "/etc/passwd"}, NOT_UPLOADED),
    "a path that is no text": ({"path": 5}, NOT_UPLOADED),
    "no path but an address": ({"path": None, "url": "http://example.com/a.png"}, NOT_UPLOADED),
    "an address alone": ({"url": "http://example.com/a.png"}, NOT_UPLOADED),
    "an address": (WEB, NOT_UPLOADED),
    "an address that looks like an upload": (stored(f"http://example.com/{SOME_HASH}/a.png"), NOT_UPLOADED),
    "a file beside the uploads": (stored("{uploads}/.a.png"), NOT_UPLOADED),
    "the lock": (stored("{uploads}/in-use"), NOT_UPLOADED),
    "a way up": (stored(f"{{uploads}}/{SOME_HASH}/.."), NOT_UPLOADED),
    "a NUL": (stored(f"{{uploads}}/{SOME_HASH}/a\0b"), NOT_UPLOADED),
    "a name too long": (stored(f"{{uploads}}/{SOME_HASH}/{'x' * 256}"), NOT_UPLOADED),
}


@pytest.mark.parametrize(("image", "told"), UNFIT.values(), ids=UNFIT)
def test_what_is_no_upload_is_refused_whichever_way_it_comes(server, downloaded, caplog, image, told):
    image = json.loads(json.dumps(image).replace("{uploads}", str(server.folder)))
    number = event_number(server.address, api_name="own")
    assert call(server.address, "predict", [image, None]) == (400, told)
    assert joined(server.address, number, [image, None]) == (400, {"detail": told})
    assert post(server.address, "/gradio_api/call/v2/predict", {"image": image}) == (400, {"detail": told})
    if told == NOT_UPLOADED and isinstance(image, dict):  # and in the place of another input, or of none
        for data in ([None, image], [None, {"deep": [image]}], [None, None, image]):
            assert call(server.address, "predict", data) == (400, told)
        body = {"data": [None, None], "fn_index": number, "session_hash": "s", "event_data": image}
        assert post(server.address, "/gradio_api/queue/join", body) == (400, {"detail": told})
    assert downloaded == [] and "Traceback" not in caplog.text


@pytest.mark.parametrize("data", [[], [None], None, 5, "text", {"image": None}])
def test_too_few_inputs_and_none_at_all_are_refused(address, data):
    assert post(address, "/gradio_api/call/predict", {"data": data}) == (400, {"detail": routes.BAD_INPUTS})


@pytest.mark.parametrize("body", [{}, {"nope": 1}, {"note": 1}, {"image": None, "nope": 1}, {"data": [None, None]}])
def test_inputs_that_a_call_by_names_does_not_have_are_refused(address, body):
    assert post(address, "/gradio_api/call/v2/predict", body) == (400, {"detail": routes.BAD_INPUTS})


def test_more_files_than_any_call_takes_are_refused(address):
    files = [stored(f"{SOME_HASH}/{k}.png") for k in range(17)]
    assert call(address, "predict", [files[0], files[1:16]]) == (200, GONE)  # they are looked for
    assert call(address, "predict", [None, files]) == (413, "Too many pictures: give 16 at once, or fewer.")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"meta": META, "orig_name": "a.png"},
        {"meta": 5},
        {"url": WEB["path"], "meta": META},
        {"size": "large", "mime_type": 5, "orig_name": None, "is_stream": True},
    ],
)
def test_of_an_upload_only_the_place_counts_whatever_else_a_call_says(server, downloaded, more):
    _, path = upload(server.address, png(7, 5))
    elsewhere = path.replace(str(server.folder), "/etc")  # of that name among the uploads
    for file in (path, elsewhere, path.removeprefix(f"{server.folder}/")):
        assert call(server.address, "predict", [{"path": file} | more, None, "more"]) == (200, [[7, 5]])
    assert downloaded == []


def test_two_visitors_at_once_get_their_own_answers(address):
    wrong = []

    def visit(width: int) -> None:
        for height in range(1, 16):
            _, path = upload(address, png(width, height), "photo.png")
            if call(address, "predict", [stored(path), None]) != (200, [[width, height]]):
                wrong.append((width, height))

    visitors = [threading.Thread(target=visit, args=(width,)) for width in (3, 5, 7)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert wrong == []


def test_a_visitor_whose_picture_was_swept_is_told_to_upload_it_again(server):
    _, path = upload(server.address, png(9, 9))
    os.utime(path, (0, 0))
    assert server.sweeper.sweep() == 1
    assert call(server.address, "predict", [stored(path), None]) == (200, GONE)
    assert call(server.address, "predict", [{"path": path}, None]) == (200, GONE)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/?page=other", None, 404),
        ("GET", "/assets/" + "a" * 5000, None, 404),
        ("GET", "/static/%00", None, 404),
        ("GET", "/gradio_api/queue/data", None, 404),
        ("POST", "/gradio_api/reset", b"{}", 400),
        ("POST", "/gradio_api/cancel", b"{}", 400),
        ("POST", "/gradio_api/upload?upload_id=" + "x" * 3000, b"", 400),
    ],
)
def test_what_gradio_answers_with_an_error_is_told_in_a_sentence_and_not_in_a_traceback(
    address, method, path, body, status, capfd
):
    found, _, answer = ask(address, method, path, body, {"Content-Type": "application/json"})
    text = answer.decode()
    sentence = text if path.startswith("/gradio_api/upload") else json.loads(text)["detail"]
    assert found == status and isinstance(sentence, str) and sentence.endswith(".")
    assert "Traceback" not in capfd.readouterr().err


def test_a_file_whose_name_is_no_text_is_refused(address):
    path = upload(address, png())[1]
    assert call(address, "predict", [stored(path) | {"orig_name": 5}, None, ""]) == (400, routes.BAD_INPUTS)
