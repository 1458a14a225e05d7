"""TrivialAugment of whole batches against torchvision's, one image at a time."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import TrivialAugmentWide

from trainer.trivial_augment import BINS, OPERATIONS, TrivialAugment

SETTINGS = torch.cartesian_prod(torch.arange(BINS), torch.arange(2))  # (62, 2): every magnitude with both signs


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures() -> Tensor:
    """uint8 (8, 3, 32, 32): noise of full and of little contrast, smooth, and those with few or unequal levels."""
    random = generator()
    noise = torch.randint(256, (3, 32, 32), generator=random)
    faint = torch.randint(100, 140, (3, 32, 32), generator=random)
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    smooth = torch.stack([4 * rows + 4 * columns, 8 * rows, 255 - 7 * columns])
    flat = torch.tensor([0, 77, 255]).view(3, 1, 1).expand(3, 32, 32)
    spot = torch.zeros(3, 32, 32, dtype=torch.long)
    spot[:, 5, 9] = 255
    two_levels = torch.randint(2, (3, 32, 32), generator=random) * 90 + 31
    mostly_dark = (torch.rand(3, 32, 32, generator=random) ** 6 * 256).long()
    one_flat_channel = torch.stack([noise[0], flat[1], faint[2]])
    every = [noise, faint, smooth, flat, spot, two_levels, mostly_dark, one_flat_channel]
    return torch.stack(every).to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    return images.float().div_(255)


def torchvisions(image: Tensor, *draws: int) -> Tensor:
    """With these for what it draws by chance: operation, magnitude, sign, as far as it asks for them."""
    left = iter(draws)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randint", lambda *args, **kwargs: torch.tensor([next(left)]))
        return TrivialAugmentWide()(image)


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    """256 images with their draws, among them every operation."""
    images = torch.randint(256, (256, 3, 32, 32), dtype=torch.uint8, generator=generator())
    draws = TrivialAugment().draw(256, generator(1))
    assert len(draws[:, 0].unique()) == len(OPERATIONS)
    return to_float(images), draws


def on_cpu(images: Tensor, draws: Tensor) -> Tensor:
    return TrivialAugment().apply(images, draws)


def as_on_gpu(images: Tensor, draws: Tensor) -> Tensor:
    pixels = images.permute(0, 2, 3, 1).contiguous()
    return TrivialAugment().all_at_once(pixels, draws).permute(0, 3, 1, 2)


@pytest.mark.parametrize("operation", range(len(OPERATIONS)), ids=OPERATIONS)
def test_every_operation_of_every_magnitude_and_sign_is_torchvisions_pixel_for_pixel(operation):
    for image in pictures():
        draws = torch.cat([torch.full((len(SETTINGS), 1), operation), SETTINGS], dim=1)
        expected = torch.stack([torchvisions(image, *draw) for draw in draws.tolist()])
        for apply in (on_cpu, as_on_gpu):
            assert torch.equal(apply(to_float(image.expand(len(draws), -1, -1, -1)), draws), to_float(expected))


def test_a_batch_of_all_operations_is_torchvisions_pixel_for_pixel(batch):
    images, draws = batch
    levels = (images * 255).round().to(torch.uint8)
    expected = [torchvisions(image, *draw) for image, draw in zip(levels, draws.tolist(), strict=True)]
    for apply in (on_cpu, as_on_gpu):
        assert torch.equal(apply(images, draws), to_float(torch.stack(expected)))


@pytest.mark.parametrize("apply", [on_cpu, as_on_gpu])
def test_the_last_bit_of_a_pixel_makes_no_difference(batch, apply):
    # A GPU divides by 255 by a product with 1 / 255, which is not the same number.
    images, draws = batch[0], batch[1].clone()
    draws[:, 0].clamp_(min=1)  # all but Identity
    for towards in (0.0, 2.0):
        nudged = torch.nextafter(images, torch.tensor(towards))
        assert torch.equal(apply(nudged, draws), apply(images, draws))


@pytest.mark.parametrize("apply", [on_cpu, as_on_gpu])
def test_the_result_is_an_image_like_the_input_which_stays_as_it_was(batch, apply):
    images = batch[0].clone(memory_format=torch.channels_last)
    out = apply(images, batch[1])
    assert out.shape == images.shape and out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(to_float((out * 255).round().to(torch.uint8)), out)  # at 8-bit precision, in [0, 1]
    assert torch.equal(images, batch[0])


def test_off_the_cpu_nothing_has_to_be_waited_for(batch):
    # A meta tensor has no data: whatever needs a value of it (item, nonzero, a mask as an index) raises.
    out = TrivialAugment().apply(*(tensor.to("meta") for tensor in batch))
    assert out.device.type == "meta" and out.shape == batch[0].shape


def test_operation_magnitude_and_sign_are_uniform_and_independent():
    per_cell = 100
    sizes = (len(OPERATIONS), BINS, 2)
    cells = sizes[0] * sizes[1] * sizes[2]
    draws = TrivialAugment().draw(cells * per_cell, generator())
    assert draws.shape == (cells * per_cell, 3) and draws.dtype == torch.int64
    assert draws.amin(0).tolist() == [0, 0, 0] and draws.amax(0).tolist() == [size - 1 for size in sizes]
    found = torch.bincount((draws[:, 0] * sizes[1] + draws[:, 1]) * sizes[2] + draws[:, 2], minlength=cells)
    counts = found.view(sizes).double()
    for table in (counts, counts.sum((1, 2)), counts.sum((0, 2)), counts.sum((0, 1))):
        freedom = table.numel() - 1
        chi_square = ((table - table.mean()) ** 2 / table.mean()).sum().item()
        assert abs(chi_square - freedom) < 4 * (2 * freedom) ** 0.5  # four standard deviations
