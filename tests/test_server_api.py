"""The REST routes of a running server; the classifier itself, given the same file, says what is right."""

import errno
import io
import json
import os
import re
import shutil
import subprocess
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from model import Classifier
from model.hub import BUNDLED
from model.preprocess import BusyError, open_image
from server.api import ActivationMap, Failure, Health, Prediction, Problem
from tests.http_calls import END, LEAK, MULTIPART, UPLOAD, ask, part, posting
from tests.image_files import encode, exif, noise_png, png
from tests.tiny_server import bundled, served, until
from ui.api import ModelInfo

NO_IMAGE = "No image was given: send it as multipart/form-data, in a field named"
WHOLE_NUMBER = "top_k must be a whole number from 1 to 10."
KNOWN_FITS = "fit must be one of crop, pad, stretch."
KNOWN_LABELS = "label must be one of airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck."
DAMAGED = "The upload is damaged or incomplete: send it again."
POSTS = ("/api/predict", "/api/predict/batch", "/api/activation-map")
BAD = {
    b"no picture": "please save the image as",
    b"": "This file is empty",
    noise_png(3)[:1500]: "damaged or incomplete",
    encode(Image.new("1", (5001, 5000))): "5001 x 5000 pixels",
}


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.address, timeout=60, trust_env=False) as client:
        yield client


def field(path: str) -> str:
    return "images" if "batch" in path else "image"


def sent(client, path: str, *contents: bytes, **query):
    return client.post(path, params=query, files=[(field(path), ("a.png", content)) for content in contents])


def refused(answer, status: int) -> str:
    """The one sentence in `detail`, which gives nothing of the server away."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json" and list(answer.json()) == ["detail"]
    assert answer.headers.get("retry-after") == ("5" if status == 503 else None)
    return sentence(answer.json()["detail"])


def sentence(text: str) -> str:
    assert text.endswith(".") and "\n" not in text and not LEAK.search(text) and "<" not in text
    return text


def confidences(answer: dict) -> list[tuple[str, float]]:
    return [(entry["label"], entry["confidence"]) for entry in answer["confidences"]]


def expected_of(content: bytes, top_k: int = 5, fit: str = "crop") -> list:
    found = bundled().predict(open_image(content), top_k=top_k, fit=fit)
    return [(label, pytest.approx(p, abs=1e-6)) for label, p in found]


# Answers


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_predict_answers_what_the_classifier_answers_for_the_same_file(client, fit):
    turned = encode(Image.open(io.BytesIO(noise_png(20))), exif=exif(6))
    for content, top_k in ((noise_png(9), 10), (turned, 3)):
        answer = sent(client, "/api/predict", content, top_k=top_k, fit=fit).json()
        assert confidences(answer) == expected_of(content, top_k, fit)
        known = bundled().is_in_distribution(bundled().logits([open_image(content)], fit))[0]
        assert answer["label"] == answer["confidences"][0]["label"] and answer["milliseconds"] > 0
        assert answer["probably_none_of_these"] is not bool(known)


def test_what_the_caller_leaves_out_is_5_classes_and_the_fit_of_the_model(client, tmp_path):
    assert confidences(sent(client, "/api/predict", noise_png(9)).json()) == expected_of(noise_png(9))
    other = Classifier.load()
    other.config = replace(other.config, fit="pad", threshold=1e9)
    with served(tmp_path, classifier=other) as server, httpx.Client(base_url=server.address, trust_env=False) as client:
        for path in POSTS[:2]:
            found = sent(client, path, noise_png(9)).json()
            answer = found[0] if isinstance(found, list) else found
            assert confidences(answer) == expected_of(noise_png(9), 5, "pad")
            assert answer["probably_none_of_these"] is True
        found = sent(client, "/api/activation-map", noise_png(9), label="cat").json()["map"]
    expected = bundled().activation_map(open_image(noise_png(9)), "cat", "pad")
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_batch_is_answered_in_its_order_and_a_bad_image_alone_has_a_sentence(client):
    contents = noise_png(1), b"no", noise_png(2), b"", noise_png(1)
    found = sent(client, "/api/predict/batch", *contents, top_k=3, fit="pad").json()
    assert [confidences(found[k]) for k in (0, 2, 4)] == [expected_of(contents[k], 3, "pad") for k in (0, 2, 4)]
    for k in (1, 3):
        assert list(found[k]) == ["error"] and BAD.get(contents[k], "please save") in sentence(found[k]["error"])
    assert [list(one) for one in sent(client, "/api/predict/batch", *[b"no"] * 16).json()] == [["error"]] * 16
    for path in ("/api/predict/batch", "/api/predict"):
        assert refused(sent(client, path, *[noise_png(1)] * 17), 413) == "Too many images: give 16 at once, or fewer."


def test_the_activation_map_is_the_classifiers_for_a_label_and_else_for_the_best(client):
    image = open_image(noise_png(9))
    for name, fit in ((None, "crop"), (None, "pad"), ("airplane", "pad")):
        query = {"fit": fit} | ({"label": name} if name else {})
        found = sent(client, "/api/activation-map", noise_png(9), **query).json()
        assert found["label"] == (name or bundled().predict(image, 1, fit)[0][0]) and np.shape(found["map"]) == (8, 8)
        np.testing.assert_allclose(found["map"], bundled().activation_map(image, found["label"], fit), atol=1e-6)


def test_the_model_is_described_with_its_numbers_and_no_path_of_the_server(client):
    metrics, config = (json.loads((BUNDLED / f"{name}.json").read_text()) for name in ("metrics", "config"))
    scores, training = ("n", "accuracy", "accuracy_interval"), ("recipe", "seed", "epochs", "best_epoch", "changes")
    found = client.get("/api/model").json()
    assert found == {
        "source": "bundled",
        "class_names": config["class_names"],
        "image_size": 32,
        "config": {key: config[key] for key in ("depth", "stem_kernel", "shortcut", "temperature", "threshold")},
        "parameters": metrics["training"]["parameters"],
        "val": {key: metrics["val"][key] for key in scores},
        "test": {key: metrics["test"][key] for key in scores},
        "training": {key: metrics["training"][key] for key in training},
    }


def test_health_is_ok_only_while_the_model_answers(client, monkeypatch, caplog):
    assert client.get("/api/health").json() == {"status": "ok"}
    monkeypatch.setattr(bundled(), "classify", lambda images, fit=None: 1 / 0)
    assert refused(client.get("/api/health"), 503).startswith("The model does not answer")
    assert "ZeroDivisionError" in caplog.text  # whoever runs the server learns why


def test_head_has_the_headers_of_get_and_no_body(client):
    for path in ("/api/model", "/api/health", "/openapi.json"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))


# Errors


BAD_QUERIES = {
    **{f"top_k={k}": WHOLE_NUMBER for k in ("0", "11", "2.5", "true", "", "9" * 400)},
    **{f"fit={fit}": KNOWN_FITS for fit in ("Crop", "", "%ED%A0%80")},
    **{f"label={label}": KNOWN_LABELS for label in ("lion", "")},
}


@pytest.mark.parametrize("path", POSTS)
def test_a_bad_parameter_or_file_is_refused_in_one_sentence_and_the_next_call_works(client, path):
    for query, told in BAD_QUERIES.items():
        answer = client.post(f"{path}?{query}", files={field(path): noise_png(1)})
        if query.startswith("top_k" if path == POSTS[2] else "label"):
            assert answer.status_code == 200  # this call has no such parameter
        else:
            assert refused(answer, 422) == told
    for content, told in BAD.items() if "batch" not in path else ():
        assert told in refused(sent(client, path, content), 422)
    for files in ({"other": b"x"}, {field(path): (None, "text")}):
        assert refused(client.post(path, files=files), 422) == f"{NO_IMAGE} {field(path)}."
    assert sent(client, path, noise_png(1)).status_code == 200


def test_a_wrong_method_is_405_with_those_allowed_and_an_unknown_address_404(client):
    for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS"):
        for path, allowed in ((POSTS[0], "POST"), ("/api/model", "GET, HEAD")):
            if method not in allowed.split(", "):
                answer = client.request(method, path)
                assert answer.status_code == 405 and answer.headers["allow"] == allowed
                assert method == "HEAD" or refused(answer, 405) == f"This address takes {allowed} only."
        for path in ("/api/nothing", "/api/", "/api", "/api/predict/", "/api/..%2fmodel"):
            answer = client.request(method, path, files={"image": b""} if method == "POST" else None)
            assert answer.status_code == 404 and (method == "HEAD" or refused(answer, 404) == "Not found.")


@pytest.mark.parametrize("path", POSTS)
def test_a_body_of_another_type_is_415_a_damaged_one_400_a_large_one_413(client, path):
    whole, large = part(noise_png(1), field=field(path)), "A file may have 20 MB at most."
    for kind in ("application/json", "image/png", ""):
        refused(client.post(path, content=b"{}", headers={"Content-Type": kind}), 415)
    for body in (b"", b"garbage", whole, whole[:90]):
        assert refused(client.post(path, content=body, headers=MULTIPART), 400) == DAMAGED
    assert refused(client.post(path, content=b"--x--", headers={"Content-Type": "multipart/form-data"}), 400) == DAMAGED
    assert refused(sent(client, path, *[noise_png(1)] * ("batch" in path), bytes(20 * 2**20 + 1)), 413) == large
    texts = "The texts beside the image are too many or too long: leave them out."
    for data in ({"note": "x" * (2**20 + 1)}, {f"note{k}": "x" for k in range(1001)}):
        assert refused(client.post(path, data=data, files={field(path): noise_png(1)}), 413) == texts


@pytest.mark.parametrize(
    ("error", "status"), [(BusyError("Busy."), 503), (OSError(errno.EMFILE, ""), 503), (OSError(errno.EIO, ""), 500)]
)
def test_only_what_passes_by_itself_is_told_to_come_back(client, monkeypatch, error, status):
    def fail(file):
        raise error

    monkeypatch.setattr("server.api.open_limited", fail)
    body = part(png(), field="image") + END
    found, headers, answer = ask(str(client.base_url), "POST", "/api/predict", body, MULTIPART)
    assert (found, headers.get("retry-after")) == (status, "5" if status == 503 else None)
    assert list(json.loads(answer)) == ["detail"] and sentence(json.loads(answer)["detail"])


# Several callers, and the disk


def test_of_many_calls_at_once_each_gets_its_own_answer_and_a_bad_one_fails_alone(client):
    good = [(noise_png(k), {"top_k": 10}, 200, bundled().predict(open_image(noise_png(k)), 10)) for k in range(24)]
    assert all(one[3] not in [other[3] for other in good[:k]] for k, one in enumerate(good))  # none passes for another
    bad = [(content, {}, 422, told) for content, told in BAD.items()]
    bad += [(noise_png(1), {"top_k": 99}, 422, WHOLE_NUMBER), (noise_png(1), {"fit": "Crop"}, 422, KNOWN_FITS)]
    asked = [(good + bad)[7 * k % 30] for k in range(30)]  # bad ones among good ones
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda one: sent(client, "/api/predict", one[0], **one[1]), asked))
    for (content, _, status, told), answer in zip(asked, answers, strict=True):
        if status == 200:
            assert confidences(answer.json()) == expected_of(content, 10)
        else:
            assert told in refused(answer, status)


def open_below(folder: Path) -> list[Path]:
    """Descriptors of this process, in which the server runs."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found += [link] if os.readlink(link).startswith(str(folder)) else []
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="/proc is Linux")
@pytest.mark.parametrize("complete", [True, False])
def test_an_image_on_its_way_lies_in_a_file_without_a_name(server, tmp_path, monkeypatch, complete):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    body = part(bytes(5 * 2**20), field="image") + END
    with posting(server.address, "/api/predict", len(body)) as client:
        client.sendall(body[: 3 * 2**20])
        until(lambda: open_below(tmp_path))
        assert list(tmp_path.iterdir()) == [] == server.stored()
        if complete:
            client.sendall(body[3 * 2**20 :])
            assert client.recv(4096).startswith(b"HTTP/1.1 422 ")
    until(lambda: not open_below(tmp_path))
    assert list(tmp_path.iterdir()) == [] == server.stored()


def test_the_files_of_an_upload_are_closed_when_it_is_answered(client):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ResourceWarning)
        for path in POSTS:
            sent(client, path, noise_png(1) + bytes(2**21))
            sent(client, path, bytes(2**21), bytes(20 * 2**20 + 1))
    assert [str(one.message) for one in seen if one.category is ResourceWarning] == []


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A folder on a disk of 6 MB, where temporary files lie, too."""
    (folder := tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6M", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(("path", "chunked"), [("/api/predict", False), (UPLOAD, True)])
def test_where_the_disk_is_full_the_answer_is_503_and_the_log_says_so(small_disk, caplog, path, chunked):
    name = "files" if path == UPLOAD else "image"
    body = part(bytes(18 * 2**20), field=name) + END
    with served(small_disk) as server:
        whole = iter([body[k : k + 2**20] for k in range(0, len(body), 2**20)]) if chunked else body
        status, headers, answer = ask(server.address, "POST", path, whole, MULTIPART)
        assert status == 503 and headers["retry-after"] == "5" and b"has no room" in answer
        assert "No room" in caplog.text and "Traceback" not in caplog.text
        until(lambda: server.stored() == [])
        assert ask(server.address, "POST", path, part(png(), field=name) + END, MULTIPART)[0] == 200


# The schema


SHAPES = {
    "/api/predict": Prediction,
    "/api/predict/batch": list[Prediction | Failure],
    "/api/activation-map": ActivationMap,
    "/api/model": ModelInfo,
    "/api/health": Health,
}


def fits(answer: object, shape: type) -> bool:
    """Whether it has the fields of the shape, no more and no less."""
    adapter = TypeAdapter(shape)
    return adapter.dump_python(adapter.validate_python(answer), mode="json") == answer


def test_the_schema_describes_every_route_with_its_answers_errors_and_examples(client):
    schema = client.get("/openapi.json").json()
    parts = schema["components"]["schemas"]
    assert list(schema["paths"]) == list(SHAPES) and schema["openapi"].startswith("3.")
    assert fits(sent(client, "/api/predict").json(), Problem) and parts["Problem"]["properties"]["detail"]["examples"]
    for path, operations in schema["paths"].items():
        (operation,) = operations.values()
        answers = operation["responses"]
        kinds = {status: json.dumps(answer["content"]["application/json"]) for status, answer in answers.items()}
        errors = {"500", "503"} | ({"400", "408", "413", "415", "422"} if path in POSTS else set())
        assert operation["summary"] and operation["description"] and answers.keys() == errors | {"200"}
        assert all("/Problem" in kinds[status] for status in errors)
        named = re.findall(r"schemas/(\w+)", kinds["200"])
        assert named == (["Prediction", "Failure"] if "batch" in path else [SHAPES[path].__name__])
        if path in POSTS:
            ((kind, body),) = operation["requestBody"]["content"].items()
            assert kind == "multipart/form-data" and body["schema"]["required"] == [field(path)]
            file = body["schema"]["properties"][field(path)]
            if "batch" in path:
                assert (file["type"], file["minItems"], file["maxItems"]) == ("array", 1, 16)
                file = file["items"]
            assert (file["type"], file["format"]) == ("string", "binary")
        images = [noise_png(1), b"no"][: 1 + ("batch" in path)]
        answer = sent(client, path, *images) if path in POSTS else client.get(path)
        assert answer.status_code == 200 and fits(answer.json(), SHAPES[path])


def test_the_schema_offers_the_classes_of_the_model(tmp_path):
    other = Classifier.load()
    other.class_names = names = ("red", "green", "blue")
    with served(tmp_path, classifier=other) as server:
        paths = json.loads(ask(server.address, "GET", "/openapi.json")[2])["paths"]
    top_k, fit = (one["schema"] for one in paths["/api/predict"]["post"]["parameters"])
    assert (top_k["minimum"], top_k["maximum"], top_k["default"]) == (1, 3, 3)
    assert (fit["enum"], fit["default"]) == (["crop", "pad", "stretch"], "crop")
    label = paths["/api/activation-map"]["post"]["parameters"][0]["schema"]
    assert label["anyOf"][0]["enum"] == list(names)
