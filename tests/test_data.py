from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as vision

from trainer import data
from trainer.config import RECIPES, ConfigError, TrainConfig
from trainer.data import CIFAR10DataModule, EvalLoader, PadCrop, ResizedCrop, TrainLoader

OFFICIAL_LABELS = np.arange(50_000) % 10


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (64, 32, 32, 3), dtype=torch.uint8, generator=generator())


# The split


def test_the_split_is_45000_and_5000_disjoint_complete_and_stratified():
    split = data.split_train_val(OFFICIAL_LABELS)
    assert (len(split.train), len(split.val)) == (45_000, 5_000)
    assert np.array_equal(np.sort(np.concatenate([split.train, split.val])), np.arange(50_000))
    assert np.bincount(OFFICIAL_LABELS[split.val]).tolist() == [500] * 10


def test_the_split_never_changes():
    # Pinned: with another split, accuracies of old and new runs could not be compared.
    digest = "8be7eb376f69610f2e6ad5bf5081ac4ff67ca1586ec8c71a972fabb04bc3b3aa"
    assert data.split_train_val(OFFICIAL_LABELS).sha256() == digest


def test_the_split_does_not_depend_on_the_runs_seed(tiny_cifar):
    np.random.seed(1)
    torch.manual_seed(1)
    one = data.load_training_data(tiny_cifar).split
    np.random.seed(2)
    torch.manual_seed(2)
    assert one.sha256() == data.load_training_data(tiny_cifar).split.sha256()


def test_mean_and_std_come_from_the_training_part_alone(tiny_cifar):
    found = data.load_training_data(tiny_cifar)
    pixels = found.images[found.split.train] / 255
    np.testing.assert_allclose(found.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std((0, 1, 2)), rtol=1e-12)
    everything = (found.images / 255).mean((0, 1, 2))
    assert not np.allclose(found.mean, everything, rtol=1e-9)


@pytest.mark.parametrize("count", [10, 123, 1000])
def test_a_part_of_the_training_images_is_stratified(count):
    split = data.split_train_val(OFFICIAL_LABELS)
    part = data.stratified_part(split.train, OFFICIAL_LABELS, count)
    per_class = np.bincount(OFFICIAL_LABELS[part], minlength=10)
    assert len(np.unique(part)) == count and set(part) <= set(split.train)
    assert per_class.max() - per_class.min() <= 1


def test_a_part_larger_than_the_training_split_is_refused(tiny_cifar):
    with pytest.raises(ConfigError, match="--train-images is 271; the training split has only 270 images"):
        data.load_training_data(tiny_cifar, 271)


# Augmentation


@pytest.mark.parametrize("by_stretch", [True, False])
def test_pad_crop_equals_torchvisions_pad_crop_and_flip_pixel_for_pixel(images, by_stretch):
    augment = PadCrop(images, 4)
    augment.by_stretch = by_stretch
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
    assert torch.equal(found[0], data.to_float(images[3:4])[0])
    assert torch.equal(found[1], found[0].flip(2))


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
    augment = data.augmentation(config, same)
    out = augment.apply(torch.arange(64), augment.draw(64, generator()))
    assert len({tuple(image.flatten().tolist()) for image in out}) > 30


# Loaders


def train_loader(images, seed=0, batch_size=10):
    return TrainLoader(PadCrop(images, 2), torch.arange(len(images)), batch_size, seed)


def test_an_epoch_shows_every_image_once_but_for_the_dropped_short_batch(images):
    batches = list(train_loader(images))
    assert len(batches) == len(train_loader(images)) == 6
    seen = torch.cat([labels for _, labels in batches])
    assert len(seen) == len(seen.unique()) == 60
    assert all(x.shape == (10, 3, 32, 32) and 0 <= x.min() and x.max() <= 1 for x, _ in batches)


def test_labels_stay_with_their_images(images):
    loader = TrainLoader(PadCrop(images, 0), torch.arange(64), 16, 0)
    for x, labels in loader:
        for image, label in zip(x, labels, strict=True):
            original = data.to_float(images[label : label + 1])[0]
            assert torch.equal(image, original) or torch.equal(image, original.flip(2))


def epoch_of(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return [(x.clone(), y.clone()) for x, y in loader]


def equal(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True)
    )


def test_order_and_augmentation_depend_on_seed_and_epoch_alone(images):
    first = epoch_of(train_loader(images), 3)
    torch.manual_seed(99)
    assert equal(first, epoch_of(train_loader(images), 3))
    assert not equal(first, epoch_of(train_loader(images), 4))
    assert not equal(first, epoch_of(train_loader(images, seed=1), 3))


def test_a_restored_loader_goes_on_with_the_next_batch(images):
    whole = epoch_of(train_loader(images), 2)
    loader = train_loader(images)
    loader.sampler.set_epoch(2)
    started = iter(loader)
    for _ in range(4):
        next(started)
    restored = train_loader(images)
    restored.load_state_dict(loader.state_dict())
    restored.sampler.set_epoch(2)
    assert equal(list(restored), whole[4:])
    assert equal(epoch_of(restored, 3), epoch_of(train_loader(images), 3))


def test_a_loader_that_was_used_up_starts_the_epoch_again(images):
    loader = train_loader(images)
    assert equal([(x.clone(), y) for x, y in loader], list(loader))


def test_a_batch_larger_than_the_set_is_the_whole_set(images):
    loader = train_loader(images, batch_size=100)
    assert [len(labels) for _, labels in loader] == [64] and len(loader) == 1


def test_evaluation_sees_every_image_once_in_order_and_unchanged(monkeypatch, images):
    monkeypatch.setattr(data, "EVAL_BATCH", 25)
    loader = EvalLoader(images, torch.arange(64))
    batches = list(loader)
    assert [len(y) for _, y in batches] == [21, 21, 22] and len(loader) == 3
    assert torch.equal(torch.cat([y for _, y in batches]), torch.arange(64))
    expected = images.permute(0, 3, 1, 2).float() / 255
    assert torch.equal(torch.cat([x for x, _ in batches]), expected)


def test_the_data_module_keeps_val_images_out_of_training_and_augments_training_alone(tiny_cifar):
    found = data.load_training_data(tiny_cifar)
    module = CIFAR10DataModule(found, TrainConfig(batch_size=27))
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    module.trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)
    val_images = torch.cat([x for x, _ in module.val_dataloader()])
    assert torch.equal(
        (val_images * 255).round().byte().permute(0, 2, 3, 1), torch.from_numpy(found.images[found.split.val])
    )
    train = module.train_dataloader()
    assert sum(len(y) for _, y in train) == 270
    originals = {image.tobytes() for image in found.images[found.split.val]}
    middle = torch.tensor([[4, 4, 0]]).repeat(270, 1)
    stored = (train.augment.apply(torch.arange(270), middle) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    assert not originals & {np.ascontiguousarray(image).tobytes() for image in stored}
    trained = {image.tobytes() for image in found.images[found.split.train]}
    assert {np.ascontiguousarray(image).tobytes() for image in stored} == trained


# Several processes


@pytest.mark.parametrize("world_size", [2, 3, 5])
@pytest.mark.parametrize("crop", [PadCrop, ResizedCrop])
def test_the_parts_of_a_batch_put_together_are_the_batch_of_a_single_process(images, world_size, crop):
    def loader(rank, world_size):
        augment = PadCrop(images, 4) if crop is PadCrop else ResizedCrop(images, (0.8, 1.0), (0.9, 1.1))
        return TrainLoader(augment, torch.arange(64), 30, 0, rank, world_size)

    parts = [epoch_of(loader(rank, world_size), 3) for rank in range(world_size)]
    together = [(torch.cat([x for x, _ in step]), torch.cat([y for _, y in step])) for step in zip(*parts, strict=True)]
    assert all(len(y) == 30 // world_size for part in parts for _, y in part)
    assert equal(together, epoch_of(loader(0, 1), 3))


@pytest.mark.parametrize("count", [64, 61, 50])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_evaluation_parts_are_disjoint_complete_and_of_equally_many_batches(monkeypatch, images, world_size, count):
    monkeypatch.setattr(data, "EVAL_BATCH", 5)
    loaders = [EvalLoader(images[:count], torch.arange(count), rank, world_size) for rank in range(world_size)]
    assert len({len(loader) for loader in loaders}) == 1
    seen = []
    for loader in loaders:
        batches = list(loader)
        assert len(batches) == len(loader) and all(1 <= len(y) <= 5 for _, y in batches)
        seen += torch.cat([y for _, y in batches]).tolist()
    assert seen == list(range(count))
