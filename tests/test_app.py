"""app.py as its users meet it: the command line, and `/predict` over HTTP."""

import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from model import Classifier
from model.preprocess import open_picture, to_square_rgb
from tests.hub_client import REPO, environment, json_with
from tests.serving import ROOT, running_app

WHOLE_NUMBER = "top_k must be a whole number from 1 to 10."


@pytest.fixture(scope="module")
def served(tiny_artifact, tmp_path_factory):
    with running_app(tmp_path_factory.mktemp("app"), "--model", str(tiny_artifact)) as address:
        yield address


@pytest.fixture(scope="module")
def client(served, tmp_path_factory):
    return Client(
        served, verbose=False, analytics_enabled=False, download_files=str(tmp_path_factory.mktemp("answers"))
    )


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """A wide picture that is not square and not tiny, so that the fits differ."""
    path = tmp_path_factory.mktemp("pictures") / "photo.jpg"
    across, down = np.meshgrid(np.arange(300), np.arange(180))
    Image.fromarray(np.stack([across * 255 // 300, down, (across + down) % 256], -1).astype(np.uint8)).save(path)
    return path


def confidences(answer: dict) -> list[tuple[str, float]]:
    return [(entry["label"], entry["confidence"]) for entry in answer["confidences"]]


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_predict_answers_what_the_classifier_answers_for_the_same_file(client, tiny_artifact, photo, fit):
    answer, seen = client.predict(handle_file(photo), top_k=10, fit=fit, api_name="/predict")
    picture = open_picture(photo)
    expected = Classifier.load(tiny_artifact).predict(picture, top_k=10, fit=fit)
    assert [label for label, _ in confidences(answer)] == [label for label, _ in expected]
    assert [p for _, p in confidences(answer)] == pytest.approx([p for _, p in expected], abs=1e-6)
    assert answer["label"] == expected[0][0]
    assert np.array_equal(np.asarray(Image.open(seen).convert("RGB")), np.asarray(to_square_rgb(picture, fit)))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_photo_that_its_exif_block_turns_gets_the_classifiers_answer(
    client, tiny_artifact, photo, tmp_path, orientation
):
    exif = Image.Exif()
    exif[274] = orientation
    Image.open(photo).save(tmp_path / "turned.png", exif=exif.tobytes())
    answer, _ = client.predict(handle_file(tmp_path / "turned.png"), top_k=10, api_name="/predict")
    expected = Classifier.load(tiny_artifact).predict(open_picture(tmp_path / "turned.png"), top_k=10)
    assert confidences(answer) == [(label, pytest.approx(p, abs=1e-6)) for label, p in expected]


def test_top_k_is_5_and_fit_is_crop_where_the_caller_names_neither(client, photo):
    answer, _ = client.predict(handle_file(photo), api_name="/predict")
    cropped, _ = client.predict(handle_file(photo), top_k=5, fit="crop", api_name="/predict")
    assert len(answer["confidences"]) == 5
    assert answer == cropped


def error_of(client: Client, *args, **kwargs) -> str:
    with pytest.raises(AppError) as caught:
        client.predict(*args, **kwargs, api_name="/predict")
    return str(caught.value)


@pytest.mark.parametrize("top_k", [0, 11, -1, 2.5, True, "abc", None])
def test_a_top_k_out_of_range_is_refused_in_one_sentence_and_the_next_call_works(client, photo, top_k):
    assert WHOLE_NUMBER in error_of(client, handle_file(photo), top_k=top_k)
    assert len(client.predict(handle_file(photo), top_k=3, api_name="/predict")[0]["confidences"]) == 3


def truncated(photo: Path) -> bytes:
    return photo.read_bytes()[:2000]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("note.txt", lambda photo: b"not a picture", "please save the picture as"),
        ("note.png", lambda photo: b"not a picture", "please save the picture as"),
        ("empty.png", lambda photo: b"", "This file is empty"),
        ("half.jpg", truncated, "damaged or incomplete"),
    ],
)
def test_a_bad_upload_is_told_why_without_a_path_and_the_next_call_works(
    client, photo, tmp_path, name, content, sentence
):
    bad = tmp_path / name
    bad.write_bytes(content(photo))
    message = error_of(client, handle_file(bad))
    assert sentence in message
    assert name not in message and "/" not in message and "Traceback" not in message
    assert client.predict(handle_file(photo), api_name="/predict")[0]["label"]


def call(address: str, image) -> tuple[str, str]:
    """One raw call: its last event, "complete" or "error", and that event's data. The client would rewrite `image`."""
    posted = httpx.post(f"{address}/gradio_api/call/predict", json={"data": [image, 5, "crop"]}, timeout=60)
    event_id = posted.json()["event_id"]
    lines = httpx.get(f"{address}/gradio_api/call/predict/{event_id}", timeout=60).text.splitlines()
    return lines[0].removeprefix("event: "), lines[1].removeprefix("data: ")


@pytest.mark.parametrize(
    "image",
    [
        {"path": str(ROOT / "app.py")},
        {"path": "http://127.0.0.1:9/picture.png"},
        {"path": "http://127.0.0.1:9/picture.png", "meta": {"_type": "gradio.FileData"}},
        {"path": None, "url": "data:image/png;base64,iVBORw0KGgo="},
        {"path": "data:image/png;base64,iVBORw0KGgo="},
    ],
    ids=["a path on the server", "an address", "an address as a file", "a data URL", "a data URL as a path"],
)
def test_only_an_uploaded_file_is_read(served, image):
    event, data = call(served, image)
    assert event == "error"
    assert "Upload the picture itself" in data


def test_a_call_without_a_picture_says_so(served):
    event, data = call(served, None)
    assert event == "error"
    assert "No picture was given" in data


def test_predict_is_the_only_public_call(client):
    assert list(client.view_api(return_format="dict", print_info=False)["named_endpoints"]) == ["/predict"]


def test_no_route_goes_round_the_queue(served):
    for route in ("/gradio_api/run/predict", "/gradio_api/api/predict"):
        assert httpx.post(served + route, json={"data": [None, 5, "crop"]}, timeout=60).status_code == 404


def test_the_client_example_in_the_docs_runs(served, photo, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "deploy.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1)
    Image.open(photo).save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace("http://127.0.0.1:7860", served), "deploy.md", "exec"), {})
    assert "'confidence'" in capsys.readouterr().out


# The command line


def one_sentence(text: str) -> bool:
    return text.startswith("app.py: ") and text.count("\n") == 1 and "Traceback" not in text


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--modell", "x"], "--modell"),
        (["--port", "http"], "'http' is not a port"),
        (["--port", "0"], "'0' is not a port"),
        (["--port", "65536"], "'65536' is not a port"),
        (["--model"], "--model"),
        (["--revision"], "--revision"),
    ],
)
def test_a_bad_flag_ends_with_one_sentence_and_exit_code_2(capsys, flags, named):
    with pytest.raises(SystemExit) as end:
        app.main(flags)
    message = capsys.readouterr().err
    assert end.value.code == 2
    assert one_sentence(message) and named in message


def test_a_port_of_the_environment_that_is_none_is_told_like_a_flag(capsys, monkeypatch):
    monkeypatch.setenv("GRADIO_SERVER_PORT", "web")
    with pytest.raises(SystemExit) as end:
        app.main([])
    message = capsys.readouterr().err
    assert end.value.code == 2
    assert one_sentence(message) and "'web' is not a port" in message


def test_a_folder_that_is_no_artifact_ends_with_one_sentence_and_exit_code_2(capsys, tmp_path):
    assert app.main(["--model", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert one_sentence(message) and str(tmp_path) in message and "config.json" in message


def test_what_is_neither_folder_nor_repository_ends_with_one_sentence_and_exit_code_2(capsys):
    assert app.main(["--model", "no/such/folder"]) == 2
    message = capsys.readouterr().err
    assert one_sentence(message) and "neither a folder nor the OWNER/NAME of a repository" in message


def test_a_revision_of_the_bundled_model_ends_with_one_sentence_and_exit_code_2(capsys):
    assert app.main(["--revision", "v1"]) == 2
    assert "names a commit of a Hub repository" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "env", "expected"),
    [
        ([], {}, (None, None)),
        ([], {"MODEL_REPO": "", "MODEL_REVISION": ""}, (None, None)),
        ([], {"MODEL_REVISION": "v1"}, (None, None)),
        ([], {"MODEL_REPO": "ann/a"}, ("ann/a", None)),
        ([], {"MODEL_REPO": "ann/a", "MODEL_REVISION": "v1"}, ("ann/a", "v1")),
        (["--revision", "v2"], {"MODEL_REPO": "ann/a", "MODEL_REVISION": "v1"}, ("ann/a", "v2")),
        (["--model", "ann/b"], {"MODEL_REPO": "ann/a", "MODEL_REVISION": "v1"}, ("ann/b", None)),
        (["--model", "ann/a"], {"MODEL_REPO": "ann/a", "MODEL_REVISION": "v1"}, ("ann/a", "v1")),
        (["--model", "ann/b"], {"MODEL_REVISION": "v1"}, ("ann/b", "v1")),
        (["--model", "."], {"MODEL_REVISION": "v1"}, (".", None)),
        (["--model", "ann/b", "--revision", ""], {}, ("ann/b", None)),
    ],
)
def test_flags_beat_the_environment_and_a_revision_goes_with_its_repository(monkeypatch, flags, env, expected):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    args = app.parse(flags)
    assert (args.model, args.revision) == expected


def test_a_port_that_is_taken_ends_with_one_sentence_and_exit_code_2(tiny_artifact):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        flags = ["--model", str(tiny_artifact), "--host", "127.0.0.1", "--port", port]
        done = subprocess.run(
            [sys.executable, str(ROOT / "app.py"), *flags], capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 2
    assert one_sentence(done.stderr) and f"--port {port}" in done.stderr


# A model from the Hub


def shown(address: str) -> str:
    """What the page says of its model: the head, and the notice above it where there is one."""
    parts = httpx.get(f"{address}/config", timeout=60).json()["components"]
    return " ".join(part["props"]["value"] for part in parts if part["props"].get("elem_id") in ("head", "notice"))


def test_the_environment_names_the_model_as_on_spaces(hub, sha, tmp_path):
    env = environment(hub, tmp_path / "home", MODEL_REPO=REPO, MODEL_REVISION=sha)
    with running_app(tmp_path, env=env) as address:
        assert f"commit {sha[:12]}" in shown(address) and "About the model on this page" not in shown(address)
    hub.log.clear()
    with running_app(tmp_path, env=env | {"HF_ENDPOINT": "http://127.0.0.1:9"}) as address:  # as after a sleep
        assert f"commit {sha[:12]}" in shown(address) and "About the model on this page" not in shown(address)
    with running_app(tmp_path, env=env | {"HF_HUB_OFFLINE": "1"}) as address:
        assert f"commit {sha[:12]}" in shown(address) and "About the model on this page" not in shown(address)
    assert hub.log == []


@pytest.mark.parametrize("pulled_before", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_the_page_is_there_within_15_seconds_whatever_the_hub_does(hub, sha, tmp_path, kind, pulled_before):
    env = environment(hub, tmp_path / "home", MODEL_REPO=REPO)
    if pulled_before:
        code = f"from model import Classifier; Classifier.load({REPO!r})"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True, timeout=120)
    with socket.socket() as silent:  # accepts and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        port = silent.getsockname()[1] if kind == "silent" else 9
        started = time.monotonic()
        with running_app(tmp_path, env=env | {"HF_ENDPOINT": f"http://127.0.0.1:{port}"}) as address:
            text = shown(address)
            took = time.monotonic() - started
    why = "The Hub did not finish within 6 seconds." if kind == "silent" else "The connection to the Hub failed for"
    what = f"uses commit {sha[:12]} of {REPO}, which was downloaded" if pulled_before else "uses the bundled model"
    assert why in text and what in text and f"app.py: {why}" in (tmp_path / "app.log").read_text()
    assert took < 15


def test_a_refused_model_is_told_on_the_page_with_its_markup_escaped(hub, sha, tmp_path):
    hub.commit(REPO, {"config.json": json_with(hub, "config.json", class_names=["<img src=x onerror=alert(1)>"] * 10)})
    with running_app(tmp_path, "--model", REPO, env=environment(hub, tmp_path / "home")) as address:
        text = shown(address)
    assert "is refused: config.json has class_names" in text and "uses the bundled model instead" in text
    assert "<img" not in text and "&lt;img" in text


def loaded_by(statement: str) -> dict[str, bool]:
    """Which of the heavy packages a fresh interpreter holds after `statement`."""
    heavy = ["torch", "lightning", "pytorch_lightning", "gradio", "onnxruntime", "matplotlib"]
    script = f"{statement}; import json, sys; print(json.dumps({{name: name in sys.modules for name in {heavy}}}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_importing_app_does_no_work():
    assert not any(loaded_by("import app").values())


def test_the_whole_page_needs_neither_torch_nor_lightning_nor_matplotlib():
    loaded = loaded_by("import app, model, ui.page")
    assert {name for name, present in loaded.items() if present} == {"gradio", "onnxruntime"}
