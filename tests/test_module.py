"""The LightningModule: its schedules, losses, optimizer and averages."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from model.resnet import ResNet
from trainer.config import TrainConfig, configure
from trainer.data import steps_per_epoch
from trainer.module import (
    TrainingModule,
    cosine_with_warmup,
    distillation_loss,
    float_tensors,
    steps_factor,
    update_ema,
)


def test_the_schedule_rises_linearly_to_the_peak_then_falls_to_zero():
    factors = [cosine_with_warmup(step, 100, 0.1) for step in range(101)]
    assert factors[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert factors[10] == 1 and max(factors) == 1
    assert factors[100] == pytest.approx(0) and cosine_with_warmup(0, 10, 0.0) == 1
    assert all(a > b for a, b in zip(factors[10:], factors[11:], strict=False))


def test_after_the_warm_up_the_schedule_is_torchs_cosine_annealing():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    oracle = CosineAnnealingLR(optimizer, T_max=80)
    for step in range(20, 100):
        assert cosine_with_warmup(step, 100, 0.2) == pytest.approx(oracle.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize(("max_epochs", "total"), [(183, 64_000), (10, 3510)])
def test_the_paper_recipes_steps_and_their_milestones(max_epochs, total):
    config = configure("paper", {"max_epochs": max_epochs})
    found = TrainingModule(ResNet(depth=8), config, steps_per_epoch(45_000, config.batch_size))
    first, second = (32_000, 48_000) if total == 64_000 else (1755, 2632)
    factors = [found.learning_rate_factor(step) for step in (0, first - 1, first, second - 1, second, total)]
    assert found.total_steps == total and factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_two_milestones_at_the_same_place_count_twice():
    assert [steps_factor(step, 10, (0.5, 0.5), 0.1) for step in (4, 5)] == pytest.approx([1, 0.01])


def module(taught_by=None, **settings) -> TrainingModule:
    torch.manual_seed(0)
    config = TrainConfig(depth=8, max_epochs=1, **settings)
    return TrainingModule(ResNet(depth=8), config, steps_per_epoch=10, teacher=taught_by)


def batch(count=20):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, 32, 32, generator=generator), torch.arange(count) % 10


def test_the_optimizer_takes_every_hyperparameter_from_the_config():
    found = module(learning_rate=0.3, momentum=0.8, nesterov=True, weight_decay=1e-3, warmup_fraction=0.0)
    optimizer = found.configure_optimizers()["optimizer"]
    group = optimizer.param_groups[0]
    assert isinstance(optimizer, torch.optim.SGD) and len(optimizer.param_groups) == 1
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.3, 0.8, True, 1e-3)
    assert len(group["params"]) == len(list(found.network.parameters()))


def test_the_plateau_schedule_takes_factor_and_patience_from_the_config():
    found = module(schedule="plateau", plateau_factor=0.5, plateau_patience=1)
    optimizer = found.configure_optimizers()
    for loss in (1.0, 1.0, 1.0):
        found.plateau.step(loss)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)  # 0.2, halved after more than one idle epoch


def test_the_loss_is_cross_entropy_of_raw_logits_and_the_sums_count_every_image():
    found = module().eval()
    images, labels = batch()
    loss = found.training_step((images, labels), 0)
    logits = found.network(images)
    expected = -torch.log_softmax(logits, 1)[torch.arange(20), labels].mean()
    torch.testing.assert_close(loss, expected)
    correct = (logits.argmax(1) == labels).sum()
    torch.testing.assert_close(
        found.train_sums, torch.stack([expected * 20, correct.float(), torch.tensor(20.0)]).detach()
    )


def test_one_batch_can_be_overfitted():
    found = module(learning_rate=0.05, warmup_fraction=0.0)
    optimizer = found.configure_optimizers()["optimizer"]
    data = batch(10)
    for _ in range(40):
        optimizer.zero_grad()
        loss = found.training_step(data, 0)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 < math.log(10)
    assert (found.network(data[0]).argmax(1) == data[1]).all()


def test_weight_decay_on_weights_leaves_biases_and_batch_norm_alone():
    found = module(weight_decay=1e-3, weight_decay_on="weights")
    decayed, free = found.configure_optimizers()["optimizer"].param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (1e-3, 0)
    kinds = {id(p): type(m) for m in found.network.modules() for name, p in m.named_parameters(recurse=False)}
    biases = {id(m.bias) for m in found.network.modules() if getattr(m, "bias", None) is not None}
    assert {kinds[id(p)] for p in decayed["params"]} == {torch.nn.Conv2d, torch.nn.Linear}
    assert not biases & {id(p) for p in decayed["params"]}
    assert len(decayed["params"]) + len(free["params"]) == len(list(found.network.parameters()))


def test_smoothed_labels_give_every_class_its_part():
    found = module(label_smoothing=0.1).eval()
    images, labels = batch()
    targets = torch.full((20, 10), 0.01) + 0.9 * torch.nn.functional.one_hot(labels, 10)
    expected = -(targets * torch.log_softmax(found.network(images), 1)).sum(1).mean()
    torch.testing.assert_close(found.training_step((images, labels), 0), expected)


def test_the_loss_of_a_mixed_batch_counts_both_labels_by_their_share():
    found = module().eval()
    images, labels = batch()
    alone = [found.training_step((images, each), 0) for each in (labels, labels.roll(1))]
    found.train_sums.zero_()
    mixed = found.training_step((images, labels, torch.stack([labels, labels.roll(1)], 1), torch.tensor([0.7, 0.3])), 0)
    torch.testing.assert_close(mixed, 0.7 * alone[0] + 0.3 * alone[1])
    assert found.train_sums[1] == (found.network(images).argmax(1) == labels).sum()


def test_the_average_follows_parameters_and_statistics_as_torchs_own():
    torch.manual_seed(0)
    network, ours = ResNet(depth=8), ResNet(depth=8)
    oracle = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    oracle.update_parameters(network)  # the first is a copy
    ours.load_state_dict(network.state_dict())
    for step in range(100, 103):  # late enough for the whole decay
        with torch.no_grad():
            for value in float_tensors(network):
                value.add_(torch.rand_like(value))
        oracle.update_parameters(network)
        update_ema(float_tensors(ours), float_tensors(network), 0.9, step)
    for name, value in oracle.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(ours.state_dict()[name], value, msg=name)


def test_the_average_forgets_the_random_weights_that_it_began_with():
    average, current = [torch.zeros(1)], [torch.ones(1)]
    for step in range(1, 21):
        update_ema(average, current, 0.999, step)
    assert average[0] > 0.999


def test_the_loss_of_distillation_is_that_of_hinton_et_al():
    logits, taught = torch.randn(2, 20, 10, generator=torch.Generator().manual_seed(2)).double()
    logits.requires_grad_()
    for temperature in (1.0, 4.0):
        own, goal = (torch.softmax(each / temperature, 1) for each in (logits, taught))
        loss = distillation_loss(logits, taught, temperature)
        expected = temperature**2 * (goal * (goal.log() - own.log())).sum(1).mean()
        torch.testing.assert_close(loss, expected)
        (gradient,) = torch.autograd.grad(loss, logits)
        torch.testing.assert_close(gradient, temperature * (own - goal) / 20)  # T (q - p), section 2.1
    assert distillation_loss(taught, taught, 4.0).abs() < 1e-12


def test_of_mixed_images_the_loss_asks_for_the_teachers_output_alone():
    images, labels = batch()
    teacher = ResNet(depth=14).eval()
    taught = module(teacher, teacher="somewhere", teacher_temperature=2.0).eval()
    mixed = torch.stack([labels, labels.roll(1)], 1), torch.tensor([0.7, 0.3])
    with torch.no_grad():
        expected = distillation_loss(taught.network(images), teacher(images), 2.0)
        torch.testing.assert_close(taught.training_step((images, labels, *mixed), 0), expected)


def test_a_teachers_part_of_the_loss_is_its_weight():
    images, labels = batch()
    teacher = ResNet(depth=14).eval()
    settings = {"teacher": "somewhere", "teacher_weight": 0.7, "teacher_temperature": 2.0, "label_smoothing": 0.1}
    taught = module(teacher, **settings).eval()
    alone = module(label_smoothing=0.1).eval()
    with torch.no_grad():
        difference = distillation_loss(alone.network(images), teacher(images), 2.0)
        expected = 0.3 * alone.training_step((images, labels), 0) + 0.7 * difference
        torch.testing.assert_close(taught.training_step((images, labels), 0), expected)
