"""A repository is somebody else's data: models made to break or mislead whoever loads them.

Each is published with digests that fit, so that nothing but the check itself stands in the way. Most checks of the
tensors are in test_weights.py, those of config.json and metrics.json in test_artifact.py.
"""

import json
import struct
import time

import pytest

from model import Classifier
from model.artifact import ArtifactError
from model.fallback import load_or_fall_back
from model.resnet import ResNet
from tests.conftest import reseal
from tests.hub_client import REPO, contents

AT_ONCE = 10
"""Seconds of the processor: many times what a refusal takes, however busy or slow the machine is."""


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list[int], stop: int, dtype: str = "F32") -> dict:
    return {"fc.bias": {"dtype": dtype, "shape": shape, "data_offsets": [0, stop]}}


PICKLE = b"\x80\x04cposix\nsystem\n(S'touch pwned'\ntR."
WEIGHTS = {
    "a pickle": PICKLE,
    "a header of 2^63 bytes": safetensors({}, length=2**63),
    "a deep header": safetensors(b'{"a":' * 5000 + b"1" + b"}" * 5000),
    "a shape of 4 TB": safetensors(tensor([10**12], 8), bytes(8)),
    "a shape that overflows": safetensors(tensor([2**33, 2**33], 8), bytes(8)),
    "an unknown type": safetensors(tensor([2], 8, "X99"), bytes(8)),
    "a type that numpy lacks": safetensors(tensor([0], 0, "F8_E4M3")),
    "a name on several lines": safetensors({"a\nb\x1b[31m": tensor([1], 4)["fc.bias"]}, bytes(4)),
}


@pytest.mark.parametrize("data", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_are_no_network_are_refused_at_once(hub, sha, tiny_artifact, tmp_path, data):
    (folder := tmp_path / "bad").mkdir()
    for name in ("config.json", "metrics.json", "history.csv", "predictions.csv"):
        (folder / name).write_bytes((tiny_artifact / name).read_bytes())
    (folder / "model.safetensors").write_bytes(data)
    reseal(folder)
    hub.commit(REPO, contents(folder))
    started = time.process_time()
    for load in (Classifier.load, ResNet.from_pretrained):
        with pytest.raises(ArtifactError, match=r"safetensors (is no intact safetensors file|does not fit)") as caught:
            load(REPO)
        assert "/snapshots/" not in str(caught.value) and str(caught.value).isprintable()
    assert time.process_time() - started < AT_ONCE


CONFIGS = {
    "empty": b"",
    "a list": b"[]",
    "deep": b"[" * 60_000,
    "a long number": b'{"format_version": ' + b"9" * 60_000 + b"}",
    "not UTF-8": b"\xff\xfe{}",
    "a name on several lines": b'{"format_version": 1, "sha256": {"a\\nb\\u001b[2J": 5}}',
}


@pytest.mark.parametrize("data", CONFIGS.values(), ids=CONFIGS)
def test_a_config_that_is_none_is_refused_and_the_page_keeps_what_it_had(hub, sha, data):
    Classifier.load(REPO)
    bad = hub.commit(REPO, {"config.json": data})
    started = time.process_time()
    with pytest.raises(ArtifactError, match=f"hub:{REPO}@{bad} is refused: config.json"):
        Classifier.load(REPO)
    classifier, notice = load_or_fall_back(REPO)
    assert str(classifier.source) == f"hub:{REPO}@{sha}" and "is refused: config.json" in notice and len(notice) < 600
    assert time.process_time() - started < AT_ONCE


def test_nothing_of_a_repository_is_unpickled_or_imported(hub, sha, monkeypatch):
    monkeypatch.setattr("pickle.Unpickler", lambda *args, **kwargs: pytest.fail("unpickled"))
    monkeypatch.setattr("pickle.loads", lambda *args, **kwargs: pytest.fail("unpickled"))
    hub.commit(REPO, {"pytorch_model.bin": PICKLE, "model.py": b"raise SystemExit"})
    assert str(Classifier.load(REPO).source).startswith("hub:")
    ResNet.from_pretrained(REPO)
