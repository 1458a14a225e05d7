"""ui/calls.py: what the queue takes in and gives back. tests/test_app.py sends such calls to a running page."""

from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.server_messages import ProcessCompletedMessage

from tests.http_calls import META, stored
from ui import calls
from ui.uploads import NOT_UPLOADED


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> list:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with gr.Blocks():
        return [gr.Image(type="filepath"), gr.Slider(1, 10), gr.Radio(["crop"])]


@pytest.mark.parametrize("rest", [[5, "crop"], [5, "crop", "more"], [None, None], ["five", {"path": 5}]])
def test_inputs_that_a_function_can_be_asked_about_are_let_in(inputs, tmp_path, rest):
    for image in (None, stored(str(tmp_path / "gone.png")), {"path": "/etc/passwd"}, {"path": "http://a/b.png"}):
        assert calls.unfit(inputs, [image, *rest]) is None


@pytest.mark.parametrize("data", [[], [None], [None, 5]])
def test_too_few_inputs_are_kept_out(inputs, data):
    assert calls.unfit(inputs, data) == calls.BAD_INPUTS


UNFIT = {
    "a number": (5, calls.BAD_INPUTS),
    "a text": ("/etc/passwd", calls.BAD_INPUTS),
    "meta is a number": ({"path": "a", "meta": 5}, calls.BAD_INPUTS),
    "meta is null": ({"path": "a", "meta": None}, calls.BAD_INPUTS),
    "a size in words": ({"path": "{uploads}/a.png", "meta": META, "size": "large"}, calls.BAD_INPUTS),
    "a path on the server": (stored("/etc/passwd"), NOT_UPLOADED),
    "an address": (stored("http://a/b.png"), NOT_UPLOADED),
    "a way round through a link": (stored("/proc/self/root/..{uploads}/a.png"), NOT_UPLOADED),
    "a hidden file below the working directory": (stored("{uploads}/.a.png"), NOT_UPLOADED),
}


@pytest.mark.parametrize(("image", "told"), UNFIT.values(), ids=UNFIT)
def test_a_picture_that_gradio_could_not_hand_over_is_kept_out(inputs, tmp_path, image, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if isinstance(image, dict):
        image = image | {"path": image["path"].replace("{uploads}", str(tmp_path))}
    assert calls.unfit(inputs, [image, 5, "crop"]) == told


def test_more_files_than_any_call_takes_are_not_looked_at(inputs, tmp_path):
    files = [stored(str(tmp_path / f"{k}.png")) for k in range(17)]
    assert calls.unfit(inputs, [None, files[:16], "crop"]) is None
    assert calls.unfit(inputs, [None, files, "crop"]) == "Too many pictures: give 16 at once, or fewer."


def test_a_fault_of_our_own_is_not_swallowed(inputs, monkeypatch):
    monkeypatch.setattr(calls, "upload_path", lambda upload: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        calls.unfit(inputs, [stored("a.png"), 5, "crop"])


@pytest.mark.parametrize("place", [1, 2])
def test_a_file_in_the_place_of_another_input_is_looked_at_too(inputs, place):
    for bad in (stored("/etc/passwd"), {"deep": [stored("http://a/b.png")]}):
        data = [None, 5, "crop"]
        data[place] = bad
        assert calls.unfit(inputs, data) == NOT_UPLOADED


class Queue:
    """Of a page: keeps what is sent."""

    def __init__(self):
        self.sent = []

    def send_message(self, event, message):
        self.sent.append(message)


@pytest.mark.parametrize(
    ("call", "data", "told"),
    [
        ("predict", [None, {"error": "No."}], "No."),
        ("predict", [{"label": "cat"}, {"probably_none_of_these": False}], None),
        ("predict", [{"label": "error"}, {"error": "No.", "milliseconds": 1}], None),
        ("predict_batch", [[{"error": "No."}]], None),
        ("activation_map", [{"error": "No."}], None),
    ],
)
def test_a_call_of_predict_without_an_answer_becomes_a_failed_one_and_no_other(call, data, told):
    page = SimpleNamespace(_queue=Queue())
    calls.explain_failures(page)
    message = ProcessCompletedMessage(output={"data": data}, success=True)
    page._queue.send_message(SimpleNamespace(fn=SimpleNamespace(api_name=call)), message)
    (sent,) = page._queue.sent
    assert sent.success is (told is None)
    assert sent.output == ({"data": data} if told is None else {"error": told})


@pytest.mark.parametrize(("visibility", "told"), [("public", calls.BAD_INPUTS), ("private", calls.NOT_DONE)])
def test_a_call_that_failed_without_a_word_is_told_as_its_caller_can_use_it(visibility, told):
    page = SimpleNamespace(_queue=Queue())
    calls.explain_failures(page)
    event = SimpleNamespace(fn=SimpleNamespace(api_name="show", api_visibility=visibility))
    for error in (None, "No."):
        page._queue.send_message(event, ProcessCompletedMessage(output={"error": error}, success=False))
    assert [sent.output["error"] for sent in page._queue.sent] == [told, "No."]
