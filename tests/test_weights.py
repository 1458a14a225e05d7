"""model.safetensors: exactly the names, shapes and types of the network, or refused, with torch and without."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from model import Classifier, artifact
from model.artifact import ArtifactError
from model.hub import BUNDLED
from model.onnx_graph import build_graph
from model.resnet import ResNet
from model.weights import read_weights
from tests.conftest import reseal


def change(path, **tensors):
    """Saves the weights with these replaced, or without those that are None; fc_bias stands for fc.bias."""
    weights = load_file(path) | {name.replace("_", ".", 1): tensor for name, tensor in tensors.items()}
    save_file({name: tensor for name, tensor in weights.items() if tensor is not None}, path)


BAD = {  # what is done to the file, and what is said of it
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is no intact safetensors file"),
    "NaN": (lambda path: change(path, fc_bias=np.full(10, np.nan, np.float32)), "holds a fc.bias that is not finite"),
    "other weights": (lambda path: change(path, fc_bias=np.zeros(10, np.float32)), "does not answer"),
    "shape": (lambda path: change(path, fc_bias=np.zeros(9, np.float32)), r"float32 \(9,\), not float32 \(10,\)"),
    "float64": (lambda path: change(path, fc_bias=np.zeros(10)), "fc.bias is float64"),
    "missing": (lambda path: change(path, fc_bias=None), 'lacks or adds "fc.bias"'),
    "extra": (lambda path: change(path, fc_extra=np.zeros(1, np.float32)), 'lacks or adds "fc.extra"'),
    "too large": (lambda path: change(path, fc_bias=np.zeros(200_000, np.float32)), "bytes; for what config.json desc"),
}


@pytest.mark.parametrize("load", [ResNet.from_pretrained, Classifier.load])
@pytest.mark.parametrize(("spoil", "words"), BAD.values(), ids=BAD)
def test_weights_that_are_damaged_or_others_are_refused(tiny_artifact, tmp_path, spoil, words, load):
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    spoil(folder / artifact.WEIGHTS)
    reseal(folder)
    with pytest.raises(ArtifactError, match=words):
        load(folder)


def test_the_weights_are_those_of_the_file(tiny_artifact):
    found = read_weights(tiny_artifact / artifact.WEIGHTS, artifact.read_config(tiny_artifact / artifact.CONFIG))
    expected = ResNet.from_pretrained(tiny_artifact).state_dict()
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], tensor.numpy()) for name, tensor in expected.items())


@pytest.mark.parametrize("settings", [{"depth": 1202, "shortcut": "B"}, {"depth": 8, "shortcut": "A"}])
def test_the_size_limits_leave_room_for_every_network(tmp_path, settings):
    """Of networks with the most and the fewest tensors for their numbers."""
    config = replace(artifact.read_config(BUNDLED / artifact.CONFIG), **settings)
    tensors = {name: np.zeros(shape, dtype) for name, (shape, dtype) in config.tensors().items()}
    save_file(tensors, tmp_path / artifact.WEIGHTS, metadata={"format": "pt"})
    (tmp_path / artifact.GRAPH).write_bytes(build_graph(config, tensors, 32))
    for file in (artifact.WEIGHTS, artifact.GRAPH):
        size, limit = (tmp_path / file).stat().st_size, artifact.max_bytes(config, file)
        assert size < limit < 1.5 * size + 100_000
