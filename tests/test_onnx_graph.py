"""The ONNX graph against the same network in torch, for every kind of architecture."""

import subprocess
import venv
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from model import artifact
from model.hub import BUNDLED
from model.onnx_graph import build_graph
from model.resnet import ResNet

PROJECT = Path(__file__).resolve().parent.parent


def random_network(*architecture) -> ResNet:
    """Untrained, but with statistics, scales and offsets of its own in each batch normalization."""
    torch.manual_seed(0)
    network = ResNet(*architecture).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
    return network


def graph_of(network: ResNet, image_size: int = 32) -> bytes:
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return build_graph(network.architecture, weights, image_size)


def check_against_torch(network: ResNet, images: np.ndarray, image_size: int = 32) -> None:
    session = onnxruntime.InferenceSession(graph_of(network, image_size))
    with torch.inference_mode():
        features = network.features(torch.from_numpy(images))
        expected = network.classify(features).numpy(), features.numpy()
    for found, wanted in zip(session.run(["logits", "features"], {"images": images}), expected, strict=True):
        assert found.shape == wanted.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize(("depth", "stem_kernel", "shortcut"), [(8, 1, "B"), (32, 3, "A")])
def test_it_computes_what_torch_computes(depth, stem_kernel, shortcut):
    network = random_network(depth, stem_kernel, shortcut)
    images = np.random.RandomState(1).rand(64, 3, 32, 32).astype(np.float32)
    check_against_torch(network, images)


@pytest.mark.parametrize(("num_classes", "image_size"), [(2, 48), (100, 128)])
def test_it_has_any_number_of_classes_and_any_size(num_classes, image_size):
    images = np.random.RandomState(1).rand(2, 3, image_size, image_size).astype(np.float32)
    check_against_torch(random_network(110, 3, "B", num_classes), images, image_size)


def test_the_file_is_valid_whole_and_of_a_format_that_old_runtimes_read():
    model = onnx.load(BUNDLED / artifact.GRAPH)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 10 and [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param and not batch.dim_value


def test_the_bundled_file_is_what_is_built_of_the_bundled_weights():
    network = ResNet.from_pretrained(BUNDLED)
    assert (BUNDLED / artifact.GRAPH).read_bytes() == graph_of(network)


@pytest.mark.slow
def test_the_lowest_versions_that_the_requirements_allow_load_it_and_answer_the_same(tmp_path):
    lowest = []
    for line in (PROJECT / "requirements-app.txt").read_text().splitlines():
        name, _, bounds = line.partition(">=")
        if name in ("numpy", "onnx", "onnxruntime", "pillow", "safetensors", "huggingface_hub"):
            lowest.append(f"{name}=={bounds.partition(',')[0]}.*")
    assert len(lowest) == 6
    venv.create(tmp_path, with_pip=True)
    python = tmp_path / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", *lowest], check=True, timeout=600)
    code = "from model import Classifier, artifact; print(*Classifier.load().logits(artifact.probe_image())[0])"
    answer = subprocess.run([python, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    expected = artifact.read_config(BUNDLED / artifact.CONFIG).expected_logits
    np.testing.assert_allclose(list(map(float, answer.stdout.split())), expected, atol=1e-4)
