"""A repository is somebody else's data: models made to break or mislead whoever loads them.

Each is published with digests that fit, so that nothing but the check itself stands in the way. The checks of the
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


def tensor(shape: list[int], start: int, stop: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


ONCE = b'"fc.bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
TWICE = b"{" + ONCE + b"," + ONCE + b"}"
WEIGHTS = {
    "empty": b"",
    "an LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1900000\n",
    "a pickle": b"\x80\x04cposix\nsystem\n(S'touch pwned'\ntR.",
    "a header of 2^63 bytes": safetensors({}, length=2**63),
    "a deep header": safetensors(b'{"a":' * 5000 + b"1" + b"}" * 5000),
    "a name twice": safetensors(TWICE, bytes(4)),
    "tensors that overlap": safetensors({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, bytes(12)),
    "a shape of 4 TB": safetensors({"fc.bias": tensor([10**12], 0, 8)}, bytes(8)),
    "a shape that overflows": safetensors({"fc.bias": tensor([2**33, 2**33], 0, 8)}, bytes(8)),
    "an unknown type": safetensors({"fc.bias": tensor([2], 0, 8, "X99")}, bytes(8)),
    "a type that numpy lacks": safetensors({"fc.bias": tensor([0], 0, 0, "F8_E4M3")}),
    "a name on several lines": safetensors({"a\nb\x1b[31m": tensor([1], 0, 4)}, bytes(4)),
    "no tensors": safetensors({}),
}


def publish(hub, tiny_artifact, folder, **files: bytes) -> str:
    """The artifact with these files in place of its own, sealed, as a new commit."""
    folder.mkdir()
    for name, data in (contents(tiny_artifact) | {n.replace("_", ".", 1): d for n, d in files.items()}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    reseal(folder)
    return hub.commit(REPO, contents(folder))


@pytest.mark.parametrize("load", [Classifier.load, ResNet.from_pretrained])
@pytest.mark.parametrize("data", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_are_no_network_are_refused_at_once(hub, sha, tiny_artifact, tmp_path, data, load):
    publish(hub, tiny_artifact, tmp_path / "bad", model_safetensors=data)
    started = time.process_time()
    words = r"is refused: model\.safetensors (is no intact safetensors file|does not fit)"
    with pytest.raises(ArtifactError, match=words) as caught:
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
    "that of another program": b'{"architectures": ["ResNet"], "auto_map": {"AutoModel": "evil.Model"}}',
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


def test_nothing_of_a_repository_is_unpickled_or_imported(hub, sha, tiny_artifact, tmp_path, monkeypatch):
    monkeypatch.setattr("pickle.Unpickler", lambda *args, **kwargs: pytest.fail("unpickled"))
    monkeypatch.setattr("pickle.loads", lambda *args, **kwargs: pytest.fail("unpickled"))
    hub.commit(REPO, {"pytorch_model.bin": WEIGHTS["a pickle"], "model.py": b"raise SystemExit"})
    assert str(Classifier.load(REPO).source).startswith("hub:")
    ResNet.from_pretrained(REPO)
