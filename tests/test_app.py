"""app.py as its users meet it: the command line, its environment, and the calls of gradio_client."""

import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from model import Classifier
from model.fallback import START_SECONDS
from model.preprocess import open_picture, to_square_rgb
from server.gradio_routes import BAD_INPUTS
from tests.http_calls import ask, call, post, stored, upload
from tests.hub_client import REPO, environment, json_with
from tests.markup import find, pixels
from tests.serving import ROOT, free_port, running_app

WHOLE_NUMBER = "top_k must be a whole number from 1 to 10."
NOT_UPLOADED = "Upload the image itself: web addresses, data URLs and paths on the server are not read."


@pytest.fixture(scope="module")
def served(tiny_artifact, tmp_path_factory):
    with running_app(tmp_path_factory.mktemp("app"), "--model", str(tiny_artifact)) as address:
        yield address


@pytest.fixture(scope="module")
def usual_seconds(tiny_artifact, tmp_path_factory) -> float:
    """That a start without the Hub takes on this machine now."""
    began = time.monotonic()
    with running_app(tmp_path_factory.mktemp("usual"), "--model", str(tiny_artifact)) as address:
        shown(address)
        return time.monotonic() - began


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
    answer, details = client.predict(handle_file(photo), top_k=10, fit=fit, api_name="/predict")
    picture, classifier = open_picture(photo), Classifier.load(tiny_artifact)
    expected = classifier.predict(picture, top_k=10, fit=fit)
    assert [label for label, _ in confidences(answer)] == [label for label, _ in expected]
    assert [p for _, p in confidences(answer)] == pytest.approx([p for _, p in expected], abs=1e-6)
    assert answer["label"] == expected[0][0]
    assert set(details) == {"probably_none_of_these", "milliseconds"} and details["milliseconds"] > 0
    recognised = classifier.is_in_distribution(classifier.logits([picture], fit))[0]
    assert details["probably_none_of_these"] is not bool(recognised)


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
        ("note.txt", lambda photo: b"not a picture", "please save the image as"),
        ("note.png", lambda photo: b"not a picture", "please save the image as"),
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
    assert call(served, "predict", [image, 5, "crop"]) == (400, NOT_UPLOADED)


def test_a_call_without_a_picture_says_so(served):
    assert call(served, "predict", [None, 5, "crop"]) == (200, "No image was given: upload one as the first input.")


def test_there_are_two_calls_for_others(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(named) == ["/predict", "/model_info"]
    inputs = {name: [given["parameter_name"] for given in about["parameters"]] for name, about in named.items()}
    assert inputs == {"/predict": ["image", "top_k", "fit"], "/model_info": []}


def test_the_first_call_after_a_start_is_answered(tiny_artifact, tmp_path):
    with running_app(tmp_path, "--model", str(tiny_artifact)) as address:  # no visitor has opened the page
        assert call(address, "model_info", [])[1][0]["source"] == "folder:artifact"


def test_the_docs_list_the_calls_with_their_inputs():
    page = (ROOT / "docs" / "api.md").read_text()
    assert re.findall(r"^\| `(GET|POST) (/api/[\w/-]+)` \|(?: ([^|]*))? \|", page, re.MULTILINE) == [
        ("POST", "/api/predict", "field `image`; `top_k=5`, `fit=crop`"),
        ("POST", "/api/predict/batch", "1 to 16 fields `images`; `top_k=5`, `fit=crop`"),
        ("POST", "/api/activation-map", "field `image`; `label`, `fit=crop`"),
        ("GET", "/api/model", ""),
        ("GET", "/api/health", ""),
    ]
    assert 'two calls: `/predict` (`image`, `top_k=5`, `fit="crop"`) and `/model_info`' in page


def test_no_route_goes_round_the_queue(served):
    for route in ("/gradio_api/run/predict", "/gradio_api/api/predict"):
        assert httpx.post(served + route, json={"data": [None, 5, "crop"]}, timeout=60).status_code == 404


# Several visitors


def noise(seed: int) -> bytes:
    """A small PNG like no other."""
    image = np.random.RandomState(seed).randint(0, 256, (24, 32 + seed, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(image // (1 + seed % 4) + 13 * (seed % 5)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def classifier(tiny_artifact):
    return Classifier.load(tiny_artifact)


def expected_of(classifier, content: bytes, top_k: int, fit: str = "crop") -> list[tuple[str, float]]:
    found = classifier.predict(open_picture(content), top_k=top_k, fit=fit)
    return [(label, pytest.approx(p, abs=1e-6)) for label, p in found]


def sent(address: str, content: bytes, name: str = "picture.png") -> dict:
    status, path = upload(address, content, name)
    assert status == 200
    return stored(path)


def test_a_call_that_gradio_could_not_hand_over_costs_no_other_its_answer(served, classifier):
    file, expected = sent(served, noise(5)), expected_of(classifier, noise(5), 10)
    passwd, web = stored("/etc/passwd"), stored("http://127.0.0.1:9/a.png")
    bad = [[], [file], [5, 5, "crop"], [[file], 5, "crop"]]
    bad += [[passwd, 5, "crop"], [web, 5, "crop"], [file, web, "crop"], [file, 5, passwd]]
    told = [BAD_INPUTS] * 4 + [NOT_UPLOADED] * 4
    asked = [bad[k // 2 % 8] if k % 2 else [file, 10, "crop"] for k in range(32)]  # good and bad in turn
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda data: call(served, "predict", data), asked))
    assert [confidences(answer[0]) for _, answer in answers[::2]] == [expected] * 16
    assert answers[1::2] == [(400, sentence) for sentence in told] * 2


@pytest.fixture(scope="module")
def page_event(served) -> int:
    """Number of the event that answers a picture on the page."""
    config = httpx.get(f"{served}/config", timeout=60).json()
    (place,) = [part["id"] for part in config["components"] if part["props"].get("elem_id") == "answer"]
    (event,) = [event["id"] for event in config["dependencies"] if event["outputs"] == [place]]
    return event


def shown_on_the_page(address: str, event: int, visitor: str, data: list) -> str:
    """What the page's own event puts there, asked for as the browser does it."""
    body = {"data": data, "fn_index": event, "session_hash": visitor, "event_data": None, "trigger_id": None}
    status, _ = post(address, "/gradio_api/queue/join", body)
    assert status == 200
    _, _, events = ask(address, "GET", f"/gradio_api/queue/data?session_hash={visitor}")
    messages = [json.loads(line.removeprefix("data: ")) for line in events.decode().splitlines() if line]
    (done,) = [message for message in messages if message["msg"] == "process_completed"]
    assert done["success"], done
    return done["output"]["data"][0]


def test_visitors_at_the_same_time_never_get_each_others_answer_or_picture(served, classifier, page_event):
    def visit(visitor: int) -> None:
        for turn in range(4):
            content = noise(100 + 10 * visitor + turn)
            file, fit = sent(served, content), ("crop", "pad", "stretch")[turn % 3]
            label, _ = call(served, "predict", [file, 10, fit])[1]
            assert confidences(label) == expected_of(classifier, content, 10, fit)
            html = shown_on_the_page(served, page_event, f"visitor{visitor}", [file, 3, fit])
            square = to_square_rgb(open_picture(content), fit)
            assert np.array_equal(pixels(find(html, "img", "pixels")[0]["src"]), np.asarray(square))
            names = [name for name, _ in expected_of(classifier, content, 3, fit)]
            assert [bar["data-name"] for bar in find(html, "button", "bar")] == names

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(visit, range(4)))


def test_the_model_is_told_and_no_path_of_the_server(served, tiny_artifact):
    status, (found,) = call(served, "model_info", [])
    metrics = json.loads((tiny_artifact / "metrics.json").read_text())
    assert status == 200 and found["source"] == "folder:artifact"
    assert found["parameters"] == metrics["training"]["parameters"] and found["config"]["depth"] == 8
    assert found["test"] == {key: metrics["test"][key] for key in ("n", "accuracy", "accuracy_interval")}
    assert "/" not in json.dumps(found) and str(tiny_artifact.parent.name) not in json.dumps(found)


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


@pytest.mark.parametrize(
    ("env", "host", "port", "root_path"),
    [
        ({}, None, None, ""),
        ({"PORT": "8080"}, None, 8080, ""),
        ({"PORT": "8080", "GRADIO_SERVER_PORT": "8081"}, None, 8081, ""),
        ({"PORT": " 8080\n", "GRADIO_SERVER_PORT": " "}, None, 8080, ""),
        ({"GRADIO_SERVER_NAME": " ", "GRADIO_SERVER_PORT": "", "PORT": "", "GRADIO_ROOT_PATH": ""}, None, None, ""),
        ({"GRADIO_SERVER_NAME": " 0.0.0.0 ", "GRADIO_ROOT_PATH": " /cifar "}, "0.0.0.0", None, "/cifar"),
    ],
)
def test_an_empty_variable_is_unset_and_blanks_mean_nothing(monkeypatch, env, host, port, root_path):
    for name in list(os.environ):
        if name == "PORT" or name.startswith("GRADIO_"):
            monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    app.tidy_environment()
    args = app.parse([])
    assert (args.host, args.port, args.root_path) == (host, port, root_path)
    assert all(value and value == value.strip() for name in env if (value := os.environ.get(name)) is not None)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("FORWARDED_ALLOW_IPS", "a proxy", "FORWARDED_ALLOW_IPS takes addresses, networks or *"),
        ("FRAME_ANCESTORS", "https://a.test; script-src *", "FRAME_ANCESTORS takes sites"),
        ("GRADIO_ROOT_PATH", "/a b", "--root-path '/a b' is no path"),
        ("PORT", "web", "'web' is not a port"),
    ],
)
def test_a_variable_that_cannot_be_used_ends_with_one_sentence_that_names_it(monkeypatch, capsys, name, value, told):
    monkeypatch.setenv(name, value)
    try:
        code = app.main([])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert one_sentence(message := capsys.readouterr().err) and told in message


def test_the_variables_of_a_proxy_and_of_frames_reach_the_page(tiny_artifact, tmp_path):
    env = {"FORWARDED_ALLOW_IPS": " 127.0.0.0/8 ", "FRAME_ANCESTORS": "https://a.test", "GRADIO_ROOT_PATH": "/cifar"}
    with running_app(tmp_path, "--model", str(tiny_artifact), env=dict(os.environ) | env) as address:
        page = httpx.get(address, timeout=60)
        assert page.headers["content-security-policy"].endswith("https://a.test")
        for path in ("/api/health", "/cifar/api/health"):  # a proxy may cut the prefix off, or not
            assert httpx.get(address + path, timeout=60).json() == {"status": "ok"}
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "b.test"}
        root = httpx.get(f"{address}/config", headers=forwarded, timeout=60).json()["root"]
        assert root == "https://b.test/cifar"


def started(folder: Path, *command: str, **env: str) -> str | None:
    """None if it serves on $PORT, else what it printed, having ended with exit code 2."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("GRADIO_")} | env
    env |= {"PORT": str(port), "MODEL_REPO": env.get("MODEL_REPO", ""), "GRADIO_TEMP_DIR": str(folder / "uploads")}
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None:
            assert time.monotonic() < deadline
            try:
                health = httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=60, trust_env=False)
                assert health.json() == {"status": "ok"}
                return None
            except httpx.TransportError:
                time.sleep(0.2)
        assert process.returncode == 2
        return process.stderr.read()
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize(
    "proxies",
    [
        {"http_proxy": "http://127.0.0.1:9", "no_proxy": "localhost,127.0.0.0/8,::1"},
        pytest.param({"http_proxy": "http://127.0.0.1:9"}, marks=pytest.mark.slow),
        pytest.param({"no_proxy": "::1/128"}, marks=pytest.mark.slow),
        pytest.param({"no_proxy": "[::1]"}, marks=pytest.mark.slow),
        {"all_proxy": "socks5://127.0.0.1:9"},
        pytest.param({"all_proxy": "socks5://127.0.0.1:9", "MODEL_REPO": REPO}, marks=pytest.mark.slow),
        pytest.param({"no_proxy": "[::1]", "MODEL_REPO": REPO}, marks=pytest.mark.slow),
    ],
    ids=lambda proxies: " ".join(f"{name}={value}" for name, value in proxies.items()),
)
def test_with_proxy_variables_it_serves_or_says_which_one_cannot_be_used(tmp_path, proxies):
    own = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    told = started(tmp_path, sys.executable, "app.py", **own, **proxies)
    if "no_proxy" not in proxies and "all_proxy" not in proxies or proxies.get("no_proxy", "").startswith("local"):
        assert told is None
    if told is not None:
        lines = told.splitlines()
        assert len(lines) == 1 + ("MODEL_REPO" in proxies) and all(line.startswith("app.py: ") for line in lines)
        assert any(name in lines[-1] for name in proxies) and "Traceback" not in told


def test_a_folder_that_is_no_artifact_ends_with_one_sentence_and_exit_code_2(capsys, tmp_path):
    assert app.main(["--model", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert one_sentence(message) and str(tmp_path) in message and "config.json" in message


@pytest.mark.parametrize("name", ["no/such/folder", "x" * 300])
def test_what_is_neither_folder_nor_repository_ends_with_one_sentence_and_exit_code_2(capsys, name):
    assert app.main(["--model", name]) == 2
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
        assert f"commit {sha[:12]}" in shown(address) and "Model notice" not in shown(address)
    hub.log.clear()
    with running_app(tmp_path, env=env | {"HF_ENDPOINT": "http://127.0.0.1:9"}) as address:  # as after a sleep
        assert f"commit {sha[:12]}" in shown(address) and "Model notice" not in shown(address)
    with running_app(tmp_path, env=env | {"HF_HUB_OFFLINE": "1"}) as address:
        assert f"commit {sha[:12]}" in shown(address) and "Model notice" not in shown(address)
    assert hub.log == []


@pytest.mark.slow
@pytest.mark.parametrize("pulled_before", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_the_page_is_there_within_15_seconds_whatever_the_hub_does(
    hub, sha, tmp_path, usual_seconds, kind, pulled_before
):
    env = environment(hub, tmp_path / "home", MODEL_REPO=REPO)
    if pulled_before:
        code = f"from model import Classifier; Classifier.load({REPO!r})"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True, timeout=120)
    with socket.socket() as silent:  # accepts and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        port = silent.getsockname()[1] if kind == "silent" else 9  # where nobody listens
        started = time.monotonic()
        with running_app(tmp_path, env=env | {"HF_ENDPOINT": f"http://127.0.0.1:{port}"}) as address:
            text = shown(address)
            took = time.monotonic() - started
    why = "The Hub did not finish within 6 seconds." if kind == "silent" else "The connection to the Hub failed for"
    what = f"uses commit {sha[:12]} of {REPO}, which was downloaded" if pulled_before else "uses the bundled model"
    assert why in text and what in text and f"app.py: {why}" in (tmp_path / "app.log").read_text()
    assert took < max(15, START_SECONDS + 2 * usual_seconds)  # the second on a slow or busy machine


def test_a_refused_model_is_told_on_the_page_with_its_markup_escaped(hub, sha, tmp_path):
    hub.commit(REPO, {"config.json": json_with(hub, "config.json", class_names=["<img src=x onerror=alert(1)>"] * 10)})
    with running_app(tmp_path, "--model", REPO, env=environment(hub, tmp_path / "home")) as address:
        text = shown(address)
    assert "is refused: config.json has class_names" in text and "uses the bundled model instead" in text
    assert "<img" not in text and "&lt;img" in text


def loaded_by(statement: str) -> dict[str, bool]:
    """Which of the heavy packages a fresh interpreter holds after `statement`."""
    heavy = ["torch", "lightning", "pytorch_lightning", "gradio", "onnxruntime", "matplotlib", "fastapi"]
    script = f"{statement}; import json, sys; print(json.dumps({{name: name in sys.modules for name in {heavy}}}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_importing_app_does_no_work():
    assert not any(loaded_by("import app").values())


def test_the_whole_page_needs_neither_torch_nor_lightning_nor_matplotlib():
    loaded = loaded_by("import app, model, server.run")
    assert {name for name, present in loaded.items() if present} == {"fastapi", "gradio", "onnxruntime"}
