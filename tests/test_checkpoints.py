"""Checkpoint files: atomic, checked, with the one before kept."""

import os
import random

import pytest
import torch

from trainer.checkpoints import AtomicCheckpointIO, DamagedCheckpoint, previous, read_checkpoint
from trainer.errors import TrainingError


def content(step: int) -> dict:
    generator = torch.Generator().manual_seed(step)
    return {"global_step": step, "state_dict": {"weight": torch.randn(40, 50, generator=generator)}}


def same(one: dict, other: dict) -> bool:
    return one["global_step"] == other["global_step"] and torch.equal(
        one["state_dict"]["weight"], other["state_dict"]["weight"]
    )


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    for step in (1, 2):
        AtomicCheckpointIO().save_checkpoint(content(step), path)
    return path


def assert_both_are_whole(saved):
    assert same(read_checkpoint(saved), content(2)) and same(read_checkpoint(previous(saved)), content(1))
    assert sorted(p.name for p in saved.parent.iterdir()) == ["last.ckpt", "last.previous.ckpt"]


def test_whatever_bit_flips_the_damage_is_noticed_or_has_no_effect(saved):
    whole = saved.read_bytes()
    draw = random.Random(0)
    noticed = 0
    for position in [draw.randrange(len(whole)) for _ in range(300)]:
        altered = bytearray(whole)
        altered[position] ^= 1 << draw.randrange(8)
        saved.write_bytes(altered)
        try:
            assert same(read_checkpoint(saved), content(2)), position
        except DamagedCheckpoint:
            noticed += 1
    assert noticed > 200  # the rest fell on padding and names


@pytest.mark.parametrize("part", [0.0, 0.999])
def test_a_truncated_checkpoint_is_noticed(saved, part):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(DamagedCheckpoint):
        read_checkpoint(saved)


def test_a_checkpoint_that_holds_code_is_refused(saved):
    class Evil:
        def __reduce__(self):
            return os.system, ("true",)

    torch.save({"global_step": Evil()}, saved)
    with pytest.raises(DamagedCheckpoint):
        read_checkpoint(saved)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device that is always full")
def test_a_full_disk_is_told_and_leaves_both_checkpoints_whole(saved):
    saved.with_suffix(".tmp").symlink_to("/dev/full")
    with pytest.raises(TrainingError, match="last.ckpt could not be saved .No space left on device.*--resume"):
        AtomicCheckpointIO().save_checkpoint(content(3), saved)
    assert_both_are_whole(saved)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(TrainingError, match="last.ckpt could not be saved"):
        AtomicCheckpointIO().save_checkpoint(content(1), tmp_path / "checkpoints" / "last.ckpt")
