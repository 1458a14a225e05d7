"""The REST routes of a running server; the classifier itself, given the same file, says what is right."""

import errno
import io
import json
import os
import re
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from model import Classifier
from model.preprocess import open_picture
from server import api
from server.limits import DAMAGED, Limits
from tests.hostile import LEAK
from tests.http_calls import END, MULTIPART, ask, connect, part
from tests.serving import running_app

NO_IMAGE = "No picture was given: send it as multipart/form-data, in a field named"
WHOLE_NUMBER = "top_k must be a whole number from 1 to 10."
KNOWN_FITS = "fit must be one of crop, pad, stretch."
POSTS = ("/api/predict", "/api/predict/batch", "/api/activation-map")


def noise(seed: int) -> bytes:
    """A small PNG like no other, and not square, so that the fits differ."""
    image = np.random.RandomState(seed).randint(0, 256, (24, 33 + seed, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(image // (1 + seed % 4) + 13 * (seed % 5)).save(file, "PNG")
    return file.getvalue()


BAD = {
    "no picture": (b"no picture", "please save the image as"),
    "empty": (b"", "This file is empty"),
    "half": (noise(3)[:1500], "damaged or incomplete"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def served(tiny_artifact, folder):
    (folder / "tmp").mkdir()
    env = dict(os.environ) | {"TMPDIR": str(folder / "tmp")}
    with running_app(folder, "--model", str(tiny_artifact), env=env) as address:
        yield address


@pytest.fixture(scope="module")
def client(served):
    with httpx.Client(base_url=served, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def classifier(tiny_artifact):
    return Classifier.load(tiny_artifact)


@pytest.fixture
def alone(classifier):
    """The routes without a server."""
    app = FastAPI()
    app.include_router(api.build_router(classifier, Limits()))
    api.explain_errors(app, classifier)
    return TestClient(app, raise_server_exceptions=False)


def sent(client, path: str, *contents: bytes, **query):
    field = "images" if "batch" in path else "image"
    return client.post(path, params=query, files=[(field, ("a.png", content)) for content in contents])


def checked(model, answer: dict) -> dict:
    """It is what the schema says, no more and no less."""
    assert json.loads(model.model_validate(answer).model_dump_json()) == answer
    return answer


def refused(answer, status: int) -> str:
    """The one sentence in `detail`, which gives nothing of the server away."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json" and list(answer.json()) == ["detail"]
    return sentence(answer.json()["detail"])


def sentence(text: object) -> str:
    assert isinstance(text, str) and text[:1].isupper() | text.startswith(("top_k", "fit", "label"))
    assert text.endswith(".") and "\n" not in text and not LEAK.search(text) and "<" not in text
    return text


def confidences(answer: dict) -> list[tuple[str, float]]:
    return [(entry["label"], entry["confidence"]) for entry in checked(api.Prediction, answer)["confidences"]]


def expected_of(classifier, content: bytes, top_k: int = 5, fit: str = "crop") -> list:
    found = classifier.predict(open_picture(content), top_k=top_k, fit=fit)
    return [(label, pytest.approx(p, abs=1e-6)) for label, p in found]


# Answers


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_predict_answers_what_the_classifier_answers_for_the_same_file(client, classifier, fit):
    for top_k in (1, 3, 10):
        answer = sent(client, "/api/predict", noise(9), top_k=top_k, fit=fit).json()
        assert confidences(answer) == expected_of(classifier, noise(9), top_k, fit)
        known = classifier.is_in_distribution(classifier.logits([open_picture(noise(9))], fit))[0]
        assert answer["label"] == answer["confidences"][0]["label"] and answer["milliseconds"] > 0
        assert answer["probably_none_of_these"] is not bool(known)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_photo_that_its_exif_block_turns_gets_the_classifiers_answer(client, classifier, orientation):
    exif, file = Image.Exif(), io.BytesIO()
    exif[274] = orientation
    Image.open(io.BytesIO(noise(20))).save(file, "PNG", exif=exif.tobytes())
    found = confidences(sent(client, "/api/predict", file.getvalue(), top_k=10).json())
    assert found == expected_of(classifier, file.getvalue(), 10)


def test_what_the_caller_leaves_out_is_5_classes_and_the_fit_of_the_model(classifier, client, monkeypatch):
    assert confidences(sent(client, "/api/predict", noise(9)).json()) == expected_of(classifier, noise(9), 5, "crop")
    monkeypatch.setattr(classifier, "config", replace(classifier.config, fit="pad", threshold=1e9))
    app = FastAPI()
    app.include_router(api.build_router(classifier, Limits()))
    for path in ("/api/predict", "/api/predict/batch"):
        found = sent(TestClient(app), path, noise(9)).json()
        answer = found[0] if isinstance(found, list) else found
        assert confidences(answer) == expected_of(classifier, noise(9), 5, "pad")
        assert answer["probably_none_of_these"] is True
    found = sent(TestClient(app), "/api/activation-map", noise(9), label="cat").json()["map"]
    expected = classifier.activation_map(open_picture(noise(9)), "cat", "pad")
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_batch_is_answered_in_its_order_and_a_bad_image_alone_has_a_sentence(client, classifier, fit):
    found = sent(client, "/api/predict/batch", noise(1), b"no", noise(2), b"", noise(1), top_k=3, fit=fit).json()
    assert [confidences(found[k]) for k in (0, 2, 4)] == [expected_of(classifier, noise(k), 3, fit) for k in (1, 2, 1)]
    assert "please save the image as" in sentence(checked(api.Failure, found[1])["error"])
    assert "This file is empty" in sentence(checked(api.Failure, found[3])["error"])
    assert [list(one) for one in sent(client, "/api/predict/batch", b"no", b"no").json()] == [["error"]] * 2


def test_16_images_are_answered_17_and_none_are_refused(client):
    assert len(sent(client, "/api/predict/batch", *[noise(1)] * 16).json()) == 16
    assert refused(sent(client, "/api/predict/batch", *[noise(1)] * 17), 413).startswith("Too many pictures: give 16")
    assert refused(client.post("/api/predict/batch", files={"other": noise(1)}), 422) == f"{NO_IMAGE} images."


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_activation_map_is_the_classifiers_for_a_label_and_else_for_the_most_probable(client, classifier, fit):
    image = open_picture(noise(9))
    best = classifier.predict(image, 1, fit)[0][0]
    for name in (None, best, *classifier.class_names[:2]):
        query = {"fit": fit} | ({"label": name} if name else {})
        found = checked(api.ActivationMap, sent(client, "/api/activation-map", noise(9), **query).json())
        assert found["label"] == (name or best) and np.array(found["map"]).shape == (8, 8)
        np.testing.assert_allclose(found["map"], classifier.activation_map(image, found["label"], fit), atol=1e-6)


def test_the_model_is_described_with_its_numbers_and_no_path_of_the_server(client, tiny_artifact):
    found = checked(api.ModelInfo, client.get("/api/model").json())
    metrics, config = (json.loads((tiny_artifact / f"{name}.json").read_text()) for name in ("metrics", "config"))
    assert found["source"] == "folder:artifact" and found["class_names"] == config["class_names"]
    assert found["parameters"] == metrics["training"]["parameters"] and found["image_size"] == 32
    assert found["test"] == {key: metrics["test"][key] for key in ("n", "accuracy", "accuracy_interval")}
    assert "/" not in json.dumps(found) and tiny_artifact.parent.name not in json.dumps(found)


def test_health_is_ok_only_while_the_model_answers(client, alone, classifier, monkeypatch, caplog):
    assert checked(api.Health, client.get("/api/health").json()) == {"status": "ok"}
    assert alone.get("/api/health").status_code == 200
    monkeypatch.setattr(classifier, "classify", lambda images, fit=None: 1 / 0)
    answer = alone.get("/api/health")
    assert refused(answer, 503) == api.NO_MODEL and answer.headers["retry-after"] == "5"
    assert "ZeroDivisionError" in caplog.text  # whoever runs the server learns why
    assert refused(sent(alone, "/api/predict", noise(1)), 500) == api.FAILED


@pytest.mark.parametrize("path", ["/api/model", "/api/health", "/openapi.json"])
def test_head_has_the_headers_of_get_and_no_body(client, path):
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))


# Errors


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("query", "told"),
    [(f"top_k={k}", WHOLE_NUMBER) for k in ("0", "11", "-1", "2.5", "true", "abc", "", "%00", "9" * 400)]
    + [(f"fit={fit}", KNOWN_FITS) for fit in ("Crop", "", "%ED%A0%80", "crop%00", "%3Ci%3E")]
    + [("label=lion", "label must be one of "), ("label=", "label must be one of ")],
)
def test_a_parameter_out_of_range_is_refused_in_a_sentence_that_names_what_is_allowed(client, path, query, told):
    field = "images" if "batch" in path else "image"
    answer = client.post(f"{path}?{query}", files={field: noise(1)})
    if query.startswith("top_k" if path == POSTS[2] else "label"):
        assert answer.status_code == 200  # this call has no such parameter
    else:
        assert told in refused(answer, 422)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("path", ["/api/predict", "/api/activation-map"])
def test_a_bad_file_is_refused_in_one_sentence_and_the_next_call_works(client, path, name):
    content, told = BAD[name]
    assert told in refused(sent(client, path, content), 422)
    assert sent(client, path, noise(1)).status_code == 200


def test_what_is_missing_or_no_file_is_refused_by_the_name_of_the_field(client):
    for path in POSTS:
        told = f"{NO_IMAGE} images." if "batch" in path else f"{NO_IMAGE} image."
        field = "images" if "batch" in path else "image"
        assert refused(client.post(path, files={"other": b"x"}), 422) == told
        assert refused(client.post(path, files={field: (None, "text")}), 422) == told


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_wrong_method_is_405_with_those_allowed_and_an_unknown_address_404(client, method):
    for path, allowed in [*((path, "POST") for path in POSTS), ("/api/model", "GET, HEAD")]:
        if method in allowed.split(", "):
            continue
        answer = client.request(method, path)
        assert answer.status_code == 405 and answer.headers["allow"] == allowed
        assert method == "HEAD" or refused(answer, 405) == f"This address takes {allowed} only."
    for path in ("/api/nothing", "/api/", "/api", "/api/predict/x", "/api/..%2fmodel"):
        answer = client.request(method, path)
        assert answer.status_code == 404 and (method == "HEAD" or refused(answer, 404) == "There is nothing here.")


def test_an_address_with_a_slash_at_its_end_is_another(client):
    assert refused(sent(client, "/api/predict/", noise(1)), 404) == "There is nothing here."


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/oauth2-redirect"])
def test_pages_that_load_from_another_host_are_not_there(client, path):
    refused(client.get(path), 404)


@pytest.mark.parametrize("path", POSTS)
def test_a_body_of_another_type_is_415_a_damaged_one_400_a_large_one_413(client, path):
    for kind in ("application/json", "image/png", "text/plain", ""):
        refused(client.post(path, content=b"{}", headers={"Content-Type": kind}), 415)
    field = "images" if "batch" in path else "image"
    for body in (b"", b"garbage", part(noise(1), field=field), part(noise(1), field=field)[:90]):
        assert refused(client.post(path, content=body, headers=MULTIPART), 400) == DAMAGED
    assert refused(client.post(path, content=b"--x--", headers={"Content-Type": "multipart/form-data"}), 400) == DAMAGED
    assert "20 MB at most" in refused(sent(client, path, bytes(20 * 2**20 + 1)), 413)


# Several callers, other origins, the disk


def test_of_30_calls_at_once_each_gets_its_own_answer_and_a_bad_one_fails_alone(client, classifier):
    good = {k: noise(k) for k in range(24)}
    exact = [classifier.predict(open_picture(content), top_k=10) for content in good.values()]
    assert all(one not in exact[:k] for k, one in enumerate(exact))  # no picture may pass for another
    asked = [(k, content, {"top_k": 10}) for k, content in good.items()]
    asked += [(name, content, {}) for name, (content, _) in BAD.items()]
    asked += [("top_k", noise(1), {"top_k": 99}), ("fit", noise(1), {"fit": "Crop"}), ("label", noise(1), {"x": "y"})]
    asked = [asked[7 * k % 30] for k in range(30)]  # bad ones among good ones
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda one: sent(client, "/api/predict", one[1], **one[2]), asked))
    found = {one[0]: answer for one, answer in zip(asked, answers, strict=True)}
    for k, content in good.items():
        assert confidences(found[k].json()) == expected_of(classifier, content, 10)
    for name, (_, told) in BAD.items():
        assert told in refused(found[name], 422)
    assert refused(found["top_k"], 422) == WHOLE_NUMBER and refused(found["fit"], 422) == KNOWN_FITS


def test_a_page_of_another_origin_may_call(client):
    asked = {"Origin": "http://a.test", "Access-Control-Request-Method": "POST"}
    for path in POSTS:
        answer = client.options(path, headers=asked | {"Access-Control-Request-Headers": "x-mine"})
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "*"
        assert "POST" in answer.headers["access-control-allow-methods"]
    for content in (noise(1), b"bad"):
        answer = client.post("/api/predict", files={"image": content}, headers={"Origin": "http://a.test"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="/proc is Linux")
def test_an_image_on_its_way_lies_in_a_file_without_a_name_that_goes_with_the_request(served, client, folder):
    def named() -> set[Path]:
        return {path for place in ("tmp", "uploads") for path in (folder / place).rglob("*")}

    def unnamed() -> list[str]:
        found = []
        for link in Path("/proc", (folder / "app.pid").read_text(), "fd").iterdir():
            try:
                found.append(os.readlink(link))
            except OSError:
                continue
        return [path for path in found if path.startswith(str(folder / "tmp")) and path.endswith("(deleted)")]

    def until(condition) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    before = named()
    body = part(bytes(5 * 2**20), field="image") + END
    for complete in (True, False):
        connection = connect(served)
        connection.putrequest("POST", "/api/predict")
        for name, value in (MULTIPART | {"Content-Length": str(len(body))}).items():
            connection.putheader(name, value)
        connection.endheaders(body[: 3 * 2**20])
        until(unnamed)
        assert named() == before
        if complete:
            connection.send(body[3 * 2**20 :])
            assert connection.getresponse().status == 422
        connection.close()
        until(lambda: not unnamed())
    assert named() == before


def test_where_the_disk_is_full_the_answer_is_503_and_the_log_says_so(alone, monkeypatch, caplog):
    def full(*args, **settings):
        raise OSError(errno.ENOSPC, "No space left on device", "/secret")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)  # where a large part is spooled
    answer = sent(alone, "/api/predict", bytes(2 * 2**20))
    assert "has no room" in refused(answer, 503) and answer.headers["retry-after"] == "5"
    assert "No room" in caplog.text
    monkeypatch.undo()
    assert sent(alone, "/api/predict", noise(1)).status_code == 200


# The schema


def test_the_schema_describes_every_route_with_its_answers_its_errors_and_examples(client):
    schema = client.get("/openapi.json").json()
    assert list(schema["paths"]) == [*POSTS, "/api/model", "/api/health"] and schema["openapi"].startswith("3.")
    parts = schema["components"]["schemas"]

    def target(answer: dict) -> dict:
        return answer["content"]["application/json"]["schema"]

    for path, operations in schema["paths"].items():
        (operation,) = operations.values()
        answers = operation["responses"]
        assert operation["summary"] and operation["description"] and target(answers["200"])
        errors = {"400", "408", "413", "415", "422", "503"} if path in POSTS else {"503"}
        assert answers.keys() == errors | {"200"}
        assert all(target(answers[status])["$ref"].endswith("/Problem") for status in errors)
        if path in POSTS:
            (kind,) = operation["requestBody"]["content"]
            body = operation["requestBody"]["content"][kind]["schema"]
            assert kind == "multipart/form-data" and body["required"] == ["images" if "batch" in path else "image"]
    (top_k, fit) = (one["schema"] for one in schema["paths"]["/api/predict"]["post"]["parameters"])
    assert (top_k["minimum"], top_k["maximum"], top_k["default"]) == (1, 10, 5)
    assert (fit["enum"], fit["default"]) == (["crop", "pad", "stretch"], "crop")
    label = schema["paths"]["/api/activation-map"]["post"]["parameters"][0]["schema"]
    assert label["anyOf"][0]["enum"] == client.get("/api/model").json()["class_names"]
    assert parts["Problem"]["properties"]["detail"]["examples"] and "ValidationError" not in json.dumps(
        parts["Problem"]
    )
    assert set(re.findall(r"#/components/schemas/([\w-]+)", json.dumps(schema))) <= parts.keys()


def test_a_model_of_other_classes_offers_its_own(classifier, monkeypatch):
    monkeypatch.setattr(classifier, "class_names", ("red", "green", "blue"))
    app = FastAPI()
    app.include_router(api.build_router(classifier, Limits()))
    top_k, fit = app.openapi()["paths"]["/api/predict"]["post"]["parameters"]
    assert (top_k["schema"]["maximum"], top_k["schema"]["default"]) == (3, 3)
    label = app.openapi()["paths"]["/api/activation-map"]["post"]["parameters"][0]["schema"]
    assert label["anyOf"][0]["enum"] == ["red", "green", "blue"]


def test_the_routes_of_the_old_calls_are_gone(served):
    for name in ("predict_batch", "activation_map"):
        assert ask(served, "POST", f"/gradio_api/call/{name}", b"{}", {"Content-Type": "application/json"})[0] == 404
