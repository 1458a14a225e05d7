"""app.py as its users meet it: the command line, its environment, and the calls of gradio_client."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

import app
from model.fallback import START_SECONDS
from model.preprocess import open_image, to_square_rgb
from tests.http_calls import ask, call, post, stored, upload
from tests.hub_client import REPO, environment, json_with
from tests.image_files import noise_png
from tests.markup import find, pixels
from tests.serving import ROOT, running_app
from tests.test_architecture import imported_by
from tests.tiny_server import bundled


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The bundled model. FORWARDED_ALLOW_IPS, FRAME_ANCESTORS and GRADIO_ROOT_PATH are set."""
    folder = tmp_path_factory.mktemp("app")
    env = {"FORWARDED_ALLOW_IPS": " 127.0.0.0/8 ", "FRAME_ANCESTORS": "https://a.test", "GRADIO_ROOT_PATH": "/cifar"}
    with running_app(folder, "--data-dir", str(folder), env=dict(os.environ) | env) as address:
        yield address


# The calls of gradio_client


def confidences(answer: dict) -> list[tuple[str, float]]:
    return [(entry["label"], entry["confidence"]) for entry in answer["confidences"]]


def expected_of(content: bytes, top_k: int, fit: str = "crop") -> list[tuple[str, float]]:
    found = bundled().predict(open_image(content), top_k=top_k, fit=fit)
    return [(label, pytest.approx(p, abs=1e-6)) for label, p in found]


def test_there_are_two_calls_for_gradio_client_and_a_refusal_is_a_sentence(served, tmp_path):
    assert call(served, "model_info", []) == (200, [httpx.get(f"{served}/api/model").json()])  # nobody opened the page
    client = Client(f"{served}/cifar/", verbose=False, analytics_enabled=False, download_files=str(tmp_path))
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    inputs = {name: [given["parameter_name"] for given in about["parameters"]] for name, about in named.items()}
    assert inputs == {"/predict": ["image", "top_k", "fit"], "/model_info": []}
    for name, content in (("photo.png", noise_png(9)), ("note.png", b"no picture")):
        (tmp_path / name).write_bytes(content)
    answer, details = client.predict(handle_file(tmp_path / "photo.png"), api_name="/predict")
    assert confidences(answer) == expected_of(noise_png(9), 5) and answer["label"] == answer["confidences"][0]["label"]
    assert details.keys() == {"probably_none_of_these", "milliseconds"}
    for name, inputs, told in (("note", {}, "please save the image as"), ("photo", {"top_k": 0}, "top_k must be")):
        with pytest.raises(AppError, match=told) as caught:
            client.predict(handle_file(tmp_path / f"{name}.png"), **inputs, api_name="/predict")
        assert name not in str(caught.value) and "/" not in str(caught.value)


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


def shown_on_the_page(address: str, visitor: str, data: list) -> str:
    """What the page's own event puts where it answers, asked for as the browser does it."""
    config = httpx.get(f"{address}/config", timeout=60).json()
    (place,) = [part["id"] for part in config["components"] if part["props"].get("elem_id") == "answer"]
    (event,) = [event["id"] for event in config["dependencies"] if event["outputs"] == [place]]
    assert post(address, "/gradio_api/queue/join", {"data": data, "fn_index": event, "session_hash": visitor})[0] == 200
    _, _, events = ask(address, "GET", f"/gradio_api/queue/data?session_hash={visitor}")
    messages = [json.loads(line.removeprefix("data: ")) for line in events.decode().splitlines() if line]
    (done,) = [message for message in messages if message["msg"] == "process_completed"]
    assert done["success"], done
    return done["output"]["data"][0]


def test_visitors_at_once_never_get_each_others_answer_image_or_error(served):
    def visit(visitor: int) -> None:
        bad = stored(upload(served, b"no image")[1])
        for turn in range(3):
            content, fit = noise_png(100 + 10 * visitor + turn), ("crop", "pad", "stretch")[turn]
            file = stored(upload(served, content)[1])
            assert confidences(call(served, "predict", [file, 10, fit])[1][0]) == expected_of(content, 10, fit)
            assert "please save the image as" in call(served, "predict", [bad, 10, fit])[1]
            html = shown_on_the_page(served, f"visitor{visitor}", [file, 3, fit])
            square = to_square_rgb(open_image(content), fit)
            assert np.array_equal(pixels(find(html, "img", "pixels")[0]["src"]), np.asarray(square))
            names = [name for name, _ in expected_of(content, 3, fit)]
            assert [bar["data-name"] for bar in find(html, "button", "bar")] == names

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(visit, range(4)))


# The command line


def one_sentence(text: str) -> bool:
    return text.startswith("Error: ") and text.count("\n") == 1 and "Traceback" not in text


@pytest.mark.parametrize(
    ("flags", "env", "told"),
    [
        (["--modell", "x"], {}, "--modell is unknown here; did you mean --model?"),
        (["--port", "http"], {}, "'http' is not a port"),
        (["--port", "65536"], {}, "'65536' is not a port"),
        (["--model"], {}, "--model"),
        (["--model", "no/such/folder"], {}, "neither a folder nor the OWNER/NAME of a repository"),
        (["--model", "x" * 300], {}, "neither a folder nor the OWNER/NAME of a repository"),
        (["--model", str(ROOT / "tests")], {}, "config.json"),
        (["--revision", "v1"], {}, "names a commit of a Hub repository"),
        ([], {"GRADIO_SERVER_PORT": "web"}, "'web' is not a port"),
        ([], {"FORWARDED_ALLOW_IPS": "a proxy"}, "FORWARDED_ALLOW_IPS takes addresses, networks or *"),
        ([], {"FRAME_ANCESTORS": "https://a.test; script-src *"}, "FRAME_ANCESTORS takes sites"),
        ([], {"GRADIO_ROOT_PATH": "/a b"}, "--root-path '/a b' is no path"),
    ],
    ids=str,
)
def test_what_cannot_be_used_ends_with_one_sentence_and_exit_code_2(monkeypatch, capsys, flags, env, told):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    try:
        code = app.main(flags)
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert one_sentence(message := capsys.readouterr().err) and told in message


@pytest.mark.parametrize(
    ("env", "host", "port", "root_path"),
    [
        ({"PORT": "8080", "GRADIO_SERVER_PORT": "8081"}, None, 8081, ""),
        ({"PORT": " 8080\n", "GRADIO_SERVER_PORT": " "}, None, 8080, ""),
        ({"GRADIO_SERVER_NAME": " ", "GRADIO_SERVER_PORT": "", "PORT": "", "GRADIO_ROOT_PATH": ""}, None, None, ""),
        ({"GRADIO_SERVER_NAME": " 0.0.0.0 ", "GRADIO_ROOT_PATH": " /cifar "}, "0.0.0.0", None, "/cifar"),
    ],
)
def test_an_empty_variable_is_unset_and_blanks_mean_nothing(monkeypatch, env, host, port, root_path):
    for name in ("PORT", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_ROOT_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    app.tidy_environment()
    args = app.parse([])
    assert (args.host, args.port, args.root_path) == (host, port, root_path)
    assert all(value and value == value.strip() for name in env if (value := os.environ.get(name)) is not None)


def test_the_variables_of_a_proxy_and_of_frames_reach_the_page(served):
    assert httpx.get(served, timeout=60).headers["content-security-policy"].endswith("https://a.test")
    for path in ("/api/health", "/cifar/api/health"):  # a proxy may cut the prefix off, or not
        assert httpx.get(served + path, timeout=60).json() == {"status": "ok"}
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "b.test"}
    root = httpx.get(f"{served}/config", headers=forwarded, timeout=60).json()["root"]
    assert root == "https://b.test/cifar"


SOCKS, ODD = {"all_proxy": "socks5://127.0.0.1:9"}, {"no_proxy": "[::1]"}


@pytest.mark.parametrize(
    ("proxies", "serves"),
    [
        ({"http_proxy": "http://127.0.0.1:9", "no_proxy": "localhost,127.0.0.0/8,::1"}, True),
        (SOCKS, False),
        pytest.param({"http_proxy": "http://127.0.0.1:9"}, True, marks=pytest.mark.slow),
        pytest.param({"no_proxy": "::1/128"}, None, marks=pytest.mark.slow),
        pytest.param(ODD, None, marks=pytest.mark.slow),
        pytest.param(SOCKS | {"MODEL_REPO": REPO}, None, marks=pytest.mark.slow),
        pytest.param(ODD | {"MODEL_REPO": REPO}, None, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_with_proxy_variables_it_serves_or_says_which_one_cannot_be_used(tmp_path, proxies, serves):
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "home")} | proxies
    try:
        with running_app(tmp_path, env=env) as address:
            health = httpx.get(f"{address}/api/health", timeout=60, trust_env=False)
            assert health.json() == {"status": "ok"} and serves is not False
    except AssertionError:
        told = (tmp_path / "app.log").read_text()
        lines = told.splitlines()
        assert not serves and len(lines) == 1 + ("MODEL_REPO" in proxies) and lines[-1].startswith("Error: "), told
        assert any(name in lines[-1] for name in proxies) and "Traceback" not in told


@pytest.mark.parametrize(
    ("flags", "env", "expected"),
    [
        ([], {"MODEL_REPO": "", "MODEL_REVISION": ""}, (None, None)),
        ([], {"MODEL_REVISION": "v1"}, (None, None)),
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


def test_a_port_that_is_taken_ends_with_one_sentence_and_exit_code_2():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, str(ROOT / "app.py"), "--host", "127.0.0.1", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert one_sentence(done.stderr) and f"--port {port}" in done.stderr


# A model from the Hub


@pytest.fixture(scope="module")
def usual_seconds(tmp_path_factory) -> float:
    """That a start without the Hub takes on this machine now."""
    began = time.monotonic()
    with running_app(tmp_path_factory.mktemp("usual")) as address:
        shown(address)
        return time.monotonic() - began


def shown(address: str) -> str:
    """What the page says of its model: the head, and the notice above it where there is one."""
    parts = httpx.get(f"{address}/config", timeout=60).json()["components"]
    return " ".join(part["props"]["value"] for part in parts if part["props"].get("elem_id") in ("head", "notice"))


def test_the_environment_names_the_model_as_on_spaces(hub, sha, tmp_path):
    env = environment(hub, tmp_path / "home", MODEL_REPO=REPO, MODEL_REVISION=sha)
    with running_app(tmp_path, env=env) as address:
        assert f"commit {sha[:12]}" in shown(address) and "Model notice" not in shown(address)
    hub.log.clear()
    with running_app(tmp_path, env=env) as address:  # as after a sleep
        assert f"commit {sha[:12]}" in shown(address) and "Model notice" not in shown(address)
    assert hub.log == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "pulled_before"), [("refused", False), ("silent", True)])
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


def test_importing_app_does_no_work():
    heavy = {"torch", "lightning", "gradio", "onnxruntime", "matplotlib", "fastapi", "huggingface_hub"}
    assert not imported_by("import app") & heavy
