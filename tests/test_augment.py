"""Augmentation of whole batches against torchvision's of single images: pixels and distributions."""

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomErasing as TorchvisionErasing
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as vision

from trainer.augment import Augmentation, Cutout, PadCrop, RandomErasing, ResizedCrop, blank, draw_mixtures, to_float
from trainer.config import RECIPES, TrainConfig


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def images():
    return torch.randint(256, (64, 32, 32, 3), dtype=torch.uint8, generator=generator())


def test_pad_crop_equals_torchvisions_pad_crop_and_flip_pixel_for_pixel(images):
    augment = PadCrop(images, 4)
    draws = augment.draw(len(images), generator())
    found = augment.apply(torch.arange(len(images)), draws)
    assert found.shape == (64, 3, 32, 32) and found.dtype == torch.float32
    for image, (top, left, flip), out in zip(images, draws.tolist(), found, strict=True):
        expected = vision.crop(vision.pad(image.permute(2, 0, 1), [4, 4, 4, 4]), top, left, 32, 32)
        expected = vision.hflip(expected) if flip else expected
        assert torch.equal(out, expected.float() / 255)


def test_resized_crop_is_torchvisions_rounded_to_8_bits(images):
    augment = ResizedCrop(images, (0.5, 1.0), (0.8, 1.25))
    draws = augment.draw(len(images), generator())
    found = augment.apply(torch.arange(len(images)), draws) * 255
    assert (found - found.round()).abs().max() < 1e-4
    for image, (top, left, height, width, flip), out in zip(images, draws.tolist(), found, strict=True):
        expected = vision.resized_crop(image.permute(2, 0, 1).float(), top, left, height, width, [32, 32])
        expected = vision.hflip(expected) if flip else expected
        assert (out - expected).abs().max() < 0.501  # half a level: the rounding and nothing else


def test_a_resized_crop_of_the_whole_image_is_the_image(images):
    draws = torch.tensor([[0, 0, 32, 32, 0], [0, 0, 32, 32, 1]])
    found = ResizedCrop(images, (1.0, 1.0), (1.0, 1.0)).apply(torch.tensor([3, 3]), draws)
    assert torch.equal(found[0], to_float(images[3:4])[0])
    assert torch.equal(found[1], found[0].flip(2))


def test_without_the_crop_an_image_is_whole_and_flipped_as_drawn(images):
    for augment in (PadCrop(images, 4), ResizedCrop(images, (0.5, 0.6), (0.8, 1.25))):
        draws = augment.draw(len(images), generator())
        whole = augment.apply(torch.arange(len(images)), augment.without_crop(draws))
        flipped = draws[:, -1:].bool().view(-1, 1, 1, 1)
        assert torch.equal(whole, torch.where(flipped, to_float(images).flip(3), to_float(images)))


def test_where_no_crop_fits_the_whole_image_is_taken(images):
    draws = ResizedCrop(images, (4.0, 4.0), (1.0, 1.0)).draw(9, generator())
    assert (draws[:, :4] == torch.tensor([0, 0, 32, 32])).all()


def chi_square(found: np.ndarray, expected: np.ndarray) -> float:
    """Per degree of freedom, of two equally large samples of small integers."""
    size = max(found.max(), expected.max()) + 1
    a, b = np.bincount(found, minlength=size), np.bincount(expected, minlength=size)
    seen = a + b > 20
    return float(((a - b)[seen] ** 2 / (a + b)[seen]).sum() / (seen.sum() - 1))


def test_resized_crop_draws_like_torchvisions_get_params(images):
    count = 20_000
    draws = ResizedCrop(images, (0.8, 1.0), (0.9, 1.1)).draw(count, generator()).numpy()
    torch.manual_seed(0)
    picture = images[0].permute(2, 0, 1)
    oracle = np.array([RandomResizedCrop.get_params(picture, [0.8, 1.0], [0.9, 1.1]) for _ in range(count)])
    for column in range(4):
        assert chi_square(draws[:, column], oracle[:, column]) < 2.5
    joint_found, joint_oracle = draws[:, 2] * 33 + draws[:, 3], oracle[:, 2] * 33 + oracle[:, 3]
    assert chi_square(joint_found, joint_oracle) < 2.0
    assert abs(draws[:, 4].mean() - 0.5) < 0.02


def test_pad_crop_draws_every_offset_and_flip_equally_often(images):
    draws = PadCrop(images, 4).draw(40_000, generator()).numpy()
    for column, values in ((0, 9), (1, 9), (2, 2)):
        counts = np.bincount(draws[:, column], minlength=values)
        assert len(counts) == values and ((counts - 40_000 / values) ** 2 / (40_000 / values)).sum() < 30
    together = np.bincount(draws @ [18, 2, 1], minlength=162)  # the three are independent
    assert ((together - 40_000 / 162) ** 2 / (40_000 / 162)).sum() < 250  # 161 degrees of freedom: p = 1e-5


@pytest.mark.parametrize("config", RECIPES.values(), ids=RECIPES)
def test_every_image_of_a_batch_draws_its_own_randomness(images, config):
    same = images[:1].repeat(64, 1, 1, 1)
    augment = Augmentation(config, same, (0.5, 0.5, 0.5))
    out = augment.apply(torch.arange(64), augment.draw(64, generator()))
    assert len({tuple(image.flatten().tolist()) for image in out}) > 30


def test_cutout_blanks_a_square_around_any_pixel_as_far_as_it_lies_inside(images):
    boxes = Cutout(32, 8).draw(20_000, generator())
    top, left, bottom, right = boxes.unbind(1)
    assert boxes.min() == 0 and boxes.max() == 32
    assert set((bottom - top).tolist()) == set((right - left).tolist()) == {4, 5, 6, 7, 8}
    assert set(top.tolist()) == set(range(28)) | {0} and abs(((bottom - top) == 8).float().mean() - 25 / 32) < 0.01
    assert abs(np.corrcoef(top, left)[0, 1]) < 0.03


def test_erasing_draws_like_torchvisions_get_params():
    count = 20_000
    boxes = RandomErasing(32, 1.0).draw(count, generator())
    top, left, bottom, right = boxes.unbind(1)
    torch.manual_seed(0)
    picture = torch.zeros(3, 32, 32)
    oracle = [TorchvisionErasing.get_params(picture, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] for _ in range(count)]
    for found, expected in zip((top, left, bottom - top, right - left), np.array(oracle).T, strict=True):
        assert chi_square(found.numpy(), expected) < 2.5


@pytest.mark.parametrize("probability", [0.0, 0.1, 1.0])
def test_erasing_happens_with_its_probability(probability):
    top, left, bottom, right = RandomErasing(32, probability).draw(20_000, generator()).unbind(1)
    assert ((bottom - top) * (right - left) > 0).float().mean() == pytest.approx(probability, abs=0.01)


def test_blank_fills_the_boxes_and_nothing_else(images):
    before = to_float(images[:3])
    boxes = torch.tensor([[2, 4, 10, 30], [5, 5, 5, 5], [0, 0, 32, 32]])
    found = blank(before, boxes, torch.tensor([0.1, 0.2, 0.3]))
    expected = before.clone()
    expected[0, :, 2:10, 4:30] = expected[2] = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    assert torch.equal(found, expected)


def test_mixtures_follow_their_beta_distribution():
    def draw(**settings):
        return draw_mixtures(TrainConfig(**settings), 20_000, 32, np.random.default_rng(0))

    shares = np.array([mixture.shares[0] for mixture in draw(mixup=0.2)])
    assert shares.mean() == pytest.approx(0.5, abs=0.01) and shares.var() == pytest.approx(0.25 / 1.4, abs=0.005)
    mixtures = draw(cutmix=1.0)
    sides = np.array([(m.patches[0].height, m.patches[0].width) for m in mixtures])
    assert [m.shares[0] for m in mixtures[:50]] == [1 - height * width / 1024 for height, width in sides[:50].tolist()]
    assert (sides.max(), sides.min()) == (30, 0)  # half a side is rounded down, as in torchvision
    kinds = [len(m.patches) for m in draw(mixup=0.2, cutmix=1.0, ricap=0.3, mix_probability=0.75) if len(m.shares) > 1]
    assert len(kinds) / 20_000 == pytest.approx(0.75, abs=0.01)
    assert np.bincount(kinds)[[0, 1, 4]] / len(kinds) == pytest.approx([1 / 3] * 3, abs=0.02)


def test_ricap_cuts_four_images_around_a_point_of_its_beta_distribution():
    mixtures = draw_mixtures(TrainConfig(ricap=0.3), 5_000, 32, np.random.default_rng(0))
    corners = np.array([(m.patches[0].height, m.patches[0].width) for m in mixtures]) / 32
    assert corners.mean() == pytest.approx(0.5, abs=0.02) and corners.var() == pytest.approx(0.25 / 1.6, abs=0.01)
    for mixture in mixtures[:200]:
        covered = np.zeros((32, 32), int)
        for k, patch in enumerate(mixture.patches):
            (top, left), (row, column) = patch.to, patch.start
            covered[top : top + patch.height, left : left + patch.width] += 1
            assert patch.image == k and mixture.shares[k] == patch.height * patch.width / 1024
            assert 0 <= row <= 32 - patch.height and 0 <= column <= 32 - patch.width
        assert (covered == 1).all() and sum(mixture.shares) == 1
    places = np.array([patch.start for mixture in mixtures for patch in mixture.patches if patch.height == 16])
    assert set(places[:, 0]) == set(range(17)) and abs(np.corrcoef(places.T)[0, 1]) < 0.15  # each crop anywhere


def test_everything_together_keeps_shape_range_and_layout(images):
    config = TrainConfig(trivial_augment=True, cutout=8, erasing=0.5)
    augment = Augmentation(config, images, (0.4, 0.5, 0.6))
    out = augment.apply(torch.arange(64), augment.draw(64, generator()))
    assert out.shape == (64, 3, 32, 32) and out.dtype == torch.float32 and 0 <= out.min() and out.max() <= 1
    assert out.is_contiguous(memory_format=torch.channels_last)
    blanked = (out == torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)).all(1).flatten(1).sum(1)
    assert blanked.min() >= 16
