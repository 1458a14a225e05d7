"""server/gradio_routes.py: which of gradio's routes are open, what is an upload, and calls that name only uploads."""

import hashlib
import json

import pytest

from tests.http_calls import END, ask, call, part, post, sent, stored, upload
from tests.image_files import png
from ui.predict import EXAMPLES

NO_FILES = "No image was given: send it as multipart/form-data, in a field named files."
DAMAGED = "The upload is damaged or incomplete: send it again."
BAD_CALL = "Invalid API request: GET /gradio_api/info lists the calls and their inputs."
BAD_INPUTS = (
    "These inputs do not fit the call: GET /gradio_api/info lists them, and an image is the path that "
    "POST /gradio_api/upload answered with."
)
NOT_UPLOADED = "Upload the image itself: web addresses, data URLs and paths on the server are not read."
GONE = "The uploaded image is gone: it was kept for 15 minutes after its last use. Upload it again."
MANY_IMAGES = "Too many images: give 16 at once, or fewer."
SOME_HASH = "0" * 64


def test_a_bad_upload_is_refused_in_a_plain_sentence_and_nothing_is_left(server):
    before = server.stored()
    for body, status, sentence in (
        (part(png(), field="other") + END, 422, NO_FILES),
        (part(b"text").replace(b'; filename="picture.png"', b"") + END, 422, NO_FILES),
        (b"garbage", 400, DAMAGED),
        (part(png()), 400, DAMAGED),
        (part(bytes(20 * 2**20 + 1)) + END, 413, "A file may have 20 MB at most."),
        (part(png()) * 17 + END, 413, MANY_IMAGES),
    ):
        assert sent(server.address, body) == (status, sentence)
    assert server.stored() == before


def test_16_files_of_20_mb_are_stored_by_their_content_and_a_harmless_name(server):
    status, answer = sent(server.address, b"".join(part(png(1, k + 1), f"{k}.png") for k in range(16)) + END)
    assert status == 200 and len(set(json.loads(answer))) == 16
    content = bytes(20 * 2**20)
    folder = server.folder / hashlib.sha256(content).hexdigest()
    names = {"a b-1.PNG": "a b-1.PNG", "..": "image", "": "image", "../../x.heic": "x.heic", "C:\\a\\b.png": "b.png"}
    names |= {"<i>.png": "i.png", "x" * 3000 + ".png": "x" * 46 + ".png", ".hidden": "hidden", "ä\0.png": "ä.png"}
    for name, stored_as in names.items():
        assert upload(server.address, content, name) == (200, str(folder / stored_as))
        assert (folder / stored_as).stat().st_size == len(content)
    assert {path.name for path in folder.iterdir()} == set(names.values())


def test_what_the_page_uses_is_open(address):
    for path in ("/", "/config", "/config/", "/theme.css", "/gradio_api/info", "/robots.txt", "/favicon.ico"):
        assert (path, ask(address, "GET", path)[0]) == (path, 200)


CLOSED = {
    "GET": "/gradio_api/token /gradio_api/app_id /gradio_api/runs /gradio_api/deep_link?session_hash=x /monitoring "
    "/gradio_api/dev/reload /gradio_api/proxy=http://127.0.0.1/ /gradio_api/stream/a/1/2/playlist.m3u8 /docs /redoc "
    "/login /gradio_api/custom_component/1/client/a/b /gradio_api/upload /gradio_api/file/etc/passwd /api // "
    f"/docs/oauth2-redirect /?page=other /static/%00 /assets/{'a' * 5000} /gradio_api/queue/data",
    "POST": "/gradio_api/component_server /gradio_api/process_recording /gradio_api/vibe-edit /login / /config "
    "/gradio_api/stream/x /gradio_api/run/predict /gradio_api/call/own /gradio_api/call/v2/nope /gradio_api/file=x "
    "/gradio_api/run-history/connect /gradio_api/call/predict_batch /gradio_api/call/activation_map",
    **dict.fromkeys(("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"), "/config"),
}


@pytest.mark.parametrize("method", CLOSED)
def test_a_route_that_the_page_does_not_use_is_closed(address, method, capfd):
    for path in CLOSED[method].split():
        status, _, body = ask(address, method, path, b"{}" if method == "POST" else None)
        assert (path, status) == (path, 404) and "Not found." in body.decode()
    assert "Traceback" not in capfd.readouterr().err


def test_only_files_of_the_uploads_are_given_out_whole(server):
    (server.folder.parent / "outside.png").write_bytes(png())
    paths = ["/etc/passwd", "../../etc/passwd", "https://example.com/a.png", "file:///etc/passwd", "data:text/html,x"]
    paths += ["%00", "x" * 5000, f"{EXAMPLES}/draw.py"]
    paths += [f"{server.folder}{rest}" for rest in ("", "/no", "/../outside.png", "/%2e%2e/outside.png")]
    for path in paths:
        assert (path, ask(server.address, "GET", f"/gradio_api/file={path}")[0]) == (path, 404)
    path = upload(server.address, png())[1]
    headers = {"Range": "bytes=0-3", "X-Mine": "secret"}
    status, headers, body = ask(server.address, "GET", f"/gradio_api/file={path}", headers=headers)
    assert (status, headers["content-type"], body) == (200, "image/png", png()) and "x-mine" not in headers


def event_number(address: str, **what: object) -> int:
    """Of the one event of the page of which this is true."""
    config = json.loads(ask(address, "GET", "/config")[2])
    (number,) = [one["id"] for one in config["dependencies"] if one.items() >= what.items()]
    return number


def joined(address: str, number: object, data: object, event_data: object = None) -> tuple[int, dict]:
    """The answer to an event of the page, asked for by its number."""
    body = {"data": data, "fn_index": number, "session_hash": "s", "event_data": event_data, "trigger_id": None}
    return post(address, "/gradio_api/queue/join", body)


def test_an_event_that_is_not_the_servers_or_has_no_data_is_the_callers_error(address):
    for number in (999, -1, "0", None, {}, event_number(address, backend_fn=False)):
        assert joined(address, number, [5]) == (400, {"detail": BAD_CALL})
    for data in (7, "true", [1]):  # a function would look for a name in it
        number = event_number(address, api_name="own")
        assert joined(address, number, [None, None], event_data=data) == (400, {"detail": BAD_CALL})


WEB = stored("http://example.com/a.png")
UNFIT = {
    "a number": (5, BAD_INPUTS),
    "a list": ([], BAD_INPUTS),
    "an upload whose name is no text": (stored(f"{SOME_HASH}/a.png") | {"orig_name": 5}, BAD_INPUTS),
    "a text": ("/etc/passwd", NOT_UPLOADED),
    "a path on the server": (stored("/etc/passwd"), NOT_UPLOADED),
    "a path without meta": ({"path": "/etc/passwd"}, NOT_UPLOADED),
    "a path that is no text": ({"path": 5}, NOT_UPLOADED),
    "an address alone": ({"url": "http://example.com/a.png"}, NOT_UPLOADED),
    "an address": (WEB, NOT_UPLOADED),
    "an address that looks like an upload": (stored(f"http://example.com/{SOME_HASH}/a.png"), NOT_UPLOADED),
    "a way up": (stored(f"{{uploads}}/{SOME_HASH}/.."), NOT_UPLOADED),
    "a NUL": (stored(f"{{uploads}}/{SOME_HASH}/a\0b"), NOT_UPLOADED),
    "a name too long": (stored(f"{{uploads}}/{SOME_HASH}/{'x' * 256}"), NOT_UPLOADED),
}


@pytest.mark.parametrize(("image", "told"), UNFIT.values(), ids=UNFIT)
def test_what_is_no_upload_is_refused_whichever_way_it_comes(server, caplog, image, told):
    image = json.loads(json.dumps(image).replace("{uploads}", str(server.folder)))
    number = event_number(server.address, api_name="own")
    assert call(server.address, "predict", [image, None]) == (400, told)
    assert joined(server.address, number, [image, None]) == (400, {"detail": told})
    assert post(server.address, "/gradio_api/call/v2/predict", {"image": image}) == (400, {"detail": told})
    if told == NOT_UPLOADED and isinstance(image, dict):  # and in the place of another input, or of none
        for data in ([None, image], [None, {"deep": [image]}], [None, None, image]):
            assert call(server.address, "predict", data) == (400, told)
        assert joined(server.address, number, [None, None], event_data=image) == (400, {"detail": told})
    assert "Traceback" not in caplog.text


def test_inputs_that_a_call_does_not_have_or_lacks_are_refused(address):
    for data in ([], [None], None, 5, "text", {"image": None}):
        assert call(address, "predict", data) == (400, BAD_INPUTS)
    for body in ({}, {"nope": 1}, {"note": 1}, {"image": None, "nope": 1}, {"data": [None, None]}):
        assert post(address, "/gradio_api/call/v2/predict", body) == (400, {"detail": BAD_INPUTS})


def test_more_files_than_any_call_takes_are_refused(address):
    files = [stored(f"{SOME_HASH}/{k}.png") for k in range(17)]
    assert call(address, "predict", [files[0], files[1:16]]) == (200, GONE)  # they are looked for
    assert call(address, "predict", [None, files]) == (413, MANY_IMAGES)


def test_of_an_upload_only_the_place_counts_whatever_else_a_call_says(server):
    _, path = upload(server.address, png(7, 5))
    elsewhere = path.replace(str(server.folder), "/etc")  # of that name among the uploads
    large = {"size": "large", "mime_type": 5, "orig_name": None, "is_stream": True}
    for more in ({}, {"meta": 5}, {"url": WEB["path"]}, large):
        for file in (path, elsewhere, path.removeprefix(f"{server.folder}/")):
            assert call(server.address, "predict", [{"path": file} | more, None, "more"]) == (200, [[7, 5]])


def test_what_gradio_answers_with_an_error_is_told_in_a_sentence(address, capfd):
    for path in ("reset", "cancel"):
        assert post(address, f"/gradio_api/{path}", {}) == (400, {"detail": BAD_CALL})
    assert "Traceback" not in capfd.readouterr().err
