"""The network in torch: the paper's numbers of parameters, and the names and shapes that all others rely on."""

import pytest
import torch

from model.resnet import PaddedShortcut, ResNet


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("shortcut", "parameters"), [("A", 464_154), ("B", 466_906)])
def test_depth_32_has_the_known_number_of_parameters(shortcut, parameters):
    assert count(ResNet(shortcut=shortcut)) == parameters


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (56, 0.85), (110, 1.7)])
def test_parameters_match_table_6_of_the_paper(depth, millions):
    digits = len(str(millions).split(".")[1])
    assert round(count(ResNet(depth=depth)) / 1e6, digits) == millions


def test_option_a_takes_every_second_pixel_and_fills_new_channels_with_zeros():
    x = torch.rand(2, 16, 6, 6)
    out = PaddedShortcut(16, 32)(x)
    assert out.shape == (2, 32, 3, 3)
    # An independent formula: max pooling over 1x1 windows with stride 2, concatenated with zeros.
    oracle = torch.cat([torch.nn.functional.max_pool2d(x, 1, 2), torch.zeros(2, 16, 3, 3)], dim=1)
    assert torch.equal(out, oracle)
    assert list(PaddedShortcut(16, 32).parameters()) == []


def test_the_network_normalizes_its_own_input():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    torch.manual_seed(0)
    network = ResNet(depth=8, mean=mean, std=std).eval()
    torch.manual_seed(0)
    plain = ResNet(depth=8, mean=(0, 0, 0), std=(1, 1, 1)).eval()
    images = torch.rand(2, 3, 32, 32)
    normalized = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(network(images), plain(normalized))


@pytest.mark.parametrize("wrong", [{"depth": 31}, {"stem_kernel": 5}, {"shortcut": "C"}])
def test_an_architecture_that_does_not_exist_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
        ResNet(**wrong)


@pytest.mark.parametrize(("depth", "shortcut", "stem_kernel", "num_classes"), [(32, "A", 3, 10), (110, "B", 1, 7)])
def test_the_architecture_names_every_tensor_with_its_shape_and_type(depth, shortcut, stem_kernel, num_classes):
    network = ResNet(depth, stem_kernel, shortcut, num_classes)
    state = {name: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in network.state_dict().items()}
    assert network.architecture.tensors() == state
    assert network.architecture.shapes() == {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert network.architecture.parameters == count(network)
