"""`Classifier.activation_map` against Grad-CAM (Selvaraju et al. 2017) in captum, which for global average pooling and
one linear layer gives the same map by another way: through gradients, in torch."""

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from PIL import Image

from model import Classifier, preprocess
from model.artifact import Artifact
from model.hub import BUNDLED, Source
from model.resnet import ResNet
from trainer.export import write_network


def classifier_of(folder, weight=None, **architecture):
    """Of a network that was not trained, but with statistics of its own in each BatchNormalization; with a `weight`,
    all of the linear layer's are that."""
    torch.manual_seed(0)
    network = ResNet(**architecture).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    if weight is not None:
        network.fc.weight.data.fill_(weight)
    folder.mkdir()
    names = tuple(f"class {i}" for i in range(network.fc.out_features))
    config = write_network(network, names, folder)
    return Classifier(Artifact(folder, config, None), Source("folder", folder)), network


@pytest.fixture(scope="module", params=["bundled", "stem 1 and shortcut B", "as many classes as features", "2 classes"])
def pair(request, tmp_path_factory):
    """A classifier and the same network in torch."""
    if request.param == "bundled":
        return Classifier.load(), ResNet.from_pretrained(BUNDLED)
    architecture = {
        "stem 1 and shortcut B": {"depth": 14, "stem_kernel": 1, "shortcut": "B"},
        "as many classes as features": {"depth": 8, "num_classes": 64},  # the weights' shape does not tell their order
        "2 classes": {"depth": 8, "num_classes": 2},
    }[request.param]
    return classifier_of(tmp_path_factory.mktemp("network") / "artifact", **architecture)


@pytest.fixture(scope="module")
def images():
    random = np.random.RandomState(5)
    drawn = [Image.open(BUNDLED.parent / "examples" / f"{name}.png") for name in ("cat", "ship", "truck")]
    return [*drawn, *(Image.fromarray(random.randint(0, 256, (h, w, 3), np.uint8)) for h, w in ((7, 50), (90, 40)))]


def grad_cam(network, image, target, fit):
    """float64 (8, 8), the highest 1; and by how much one place speaks for the class at most, before the division."""
    images = torch.from_numpy(preprocess(image, fit))[None].double().requires_grad_()
    found = LayerGradCam(network.double(), network.stage3[-1]).attribute(images, target, relu_attributions=True)
    network.float()
    evidence = 64 * found.detach().numpy()[0, 0]  # captum weighs by the mean of the gradients over 8 x 8 places
    highest = evidence.max()
    return (evidence / highest if highest > 0 else evidence), highest


def test_the_map_of_every_class_is_captums_grad_cam_within_1e_5(pair, images):
    classifier, network = pair
    for image, fit in zip(images, ("crop", "pad", "stretch", "stretch", "pad"), strict=True):
        for target, label in enumerate(classifier.class_names):
            expected, highest = grad_cam(network, image, target, fit)
            least = min(1, highest) or 1  # dividing by little enlarges what float32 rounds: 2e-6 of a feature
            found = classifier.activation_map(image, label, fit)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 / least)
            assert found.dtype == np.float32 and found.min() >= 0 and found.max() in (0, 1)


def test_where_nothing_speaks_for_a_class_its_map_is_all_zeros(images, tmp_path):
    classifier, _ = classifier_of(tmp_path / "artifact", weight=-1, depth=8)  # features are never below 0
    assert not classifier.activation_map(images[0], "class 3").any()


def test_an_unknown_label_or_fit_is_refused(images):
    with pytest.raises(ValueError, match="it must be one of airplane, automobile, bird, cat, .*, truck$"):
        Classifier.load().activation_map(images[0], "Cat")
    with pytest.raises(ValueError, match="unknown fit 'zoom'"):
        Classifier.load().activation_map(images[0], "cat", "zoom")
