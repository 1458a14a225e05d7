"""TrainConfig: what the recipes are, which values and combinations are refused, what is stored."""

import json
from dataclasses import fields, replace

import pytest

from trainer.config import (
    RECIPES,
    ConfigError,
    TrainConfig,
    changed,
    configure,
    flag,
    published,
    suit_few_images,
    torchrun_devices,
)


def test_the_report_recipe_is_what_the_course_report_describes():
    report = RECIPES["report"]
    assert (report.depth, report.stem_kernel, report.crop) == (32, 1, "resized")
    assert (report.crop_scale, report.crop_ratio) == ((0.8, 1.0), (0.9, 1.1))
    assert (report.batch_size, report.max_epochs) == (128, 50)
    assert (report.learning_rate, report.momentum, report.nesterov, report.weight_decay) == (0.1, 0.9, False, 1e-4)
    assert report.schedule == "plateau"
    # What the report leaves open, and we chose:
    assert (report.shortcut, report.plateau_factor, report.plateau_patience) == ("B", 0.1, 5)


def test_the_paper_recipe_is_he_et_al_2015_section_4_2():
    paper = RECIPES["paper"]
    assert (paper.depth, paper.stem_kernel, paper.shortcut) == (32, 3, "A")
    assert (paper.crop, paper.crop_padding, paper.batch_size) == ("pad", 4, 128)
    assert (paper.learning_rate, paper.momentum, paper.nesterov, paper.weight_decay) == (0.1, 0.9, False, 1e-4)
    assert (paper.schedule, paper.milestones, paper.milestone_factor) == ("steps", (32 / 64, 48 / 64), 0.1)
    assert paper.total_steps(45_000 // 128) == 64_000


def test_total_steps_are_those_of_the_epochs_unless_max_steps_is_less():
    assert TrainConfig(max_epochs=3).total_steps(10) == 30
    assert TrainConfig(max_epochs=3, max_steps=25).total_steps(10) == 25
    assert TrainConfig(max_epochs=2, max_steps=25).total_steps(10) == 20


def test_a_recipes_name_is_its_key_and_every_help_ends_as_a_sentence():
    assert all(config.recipe == name for name, config in RECIPES.items())
    assert all(f.metadata["help"].endswith(".") for f in fields(TrainConfig) if f.name != "recipe")


def test_overrides_replace_single_settings_of_a_recipe():
    config = configure("report", {"max_epochs": 3, "seed": 7})
    assert config == replace(RECIPES["report"], max_epochs=3, seed=7)
    with pytest.raises(ConfigError, match="--recipe is 'fast'; it must be one of default, report"):
        configure("fast", {})


@pytest.mark.parametrize(
    ("given", "words", "needed"),
    [
        ({"plateau_patience": 3}, "--plateau-patience has no effect with --schedule cosine", {"schedule": "plateau"}),
        ({"cuda_graphs": True}, "with --no-compile: leave it out or add --compile", {"compile": True}),
        (
            {"mix_until": 0.9},
            "where no batch is mixed: leave it out or add --mixup, --cutmix or --ricap",
            {"ricap": 0.3},
        ),
        ({"teacher_weight": 0.5}, "without --teacher: leave it out or add --teacher", {"teacher": "folder"}),
    ],
)
def test_a_setting_without_effect_is_refused_rather_than_ignored(given, words, needed):
    with pytest.raises(ConfigError, match=words):
        configure("default", given)
    assert configure("default", given | needed).hyperparameters().items() >= given.items()


OUT_OF_RANGE = {
    **dict(depth=31, stem_kernel=2, shortcut="C", crop="none", crop_padding=-1, crop_scale=(0.8, 1.2)),
    **dict(crop_ratio=(1.1, 0.9), flip="never", cutout=33, erasing=1.1, mixup=-0.1, cutmix=-0.1, label_smoothing=1.0),
    **dict(ricap=-0.1, mix_probability=0.0, mix_until=1.1, ema_fraction=1.0),
    **dict(weight_decay_on="biases", ema_decay=1.0, teacher_weight=0.0, teacher_temperature=0.0, max_epochs=0),
    **dict(batch_size=1, learning_rate=0.0, momentum=1.0, weight_decay=-1e-4, max_steps=0, schedule="step"),
    **dict(milestones=(0.8, 0.5), milestone_factor=1.0, devices=0, num_nodes=0, warmup_fraction=1.0),
    **dict(plateau_factor=1.0, plateau_patience=-1, seed=-1, train_images=1, device="tpu", precision="16"),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused_with_the_flag_and_the_allowed_values(name):
    with pytest.raises(ConfigError, match=f"{flag(name)} is .*it must be "):
        TrainConfig(**{name: OUT_OF_RANGE[name]})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"momentum": 0.0, "nesterov": True}, "--nesterov"),
        ({"devices": 2, "batch_size": 31}, "--batch-size is 31; it must be a multiple of the 2 devices"),
        ({"num_nodes": 3, "batch_size": 4}, "--batch-size is 4; it must be a multiple of the 3 devices"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        TrainConfig(**settings)


@pytest.mark.parametrize("recipe", RECIPES)
def test_hyperparameters_survive_json_and_name_only_what_has_an_effect(recipe):
    config = RECIPES[recipe]
    values = json.loads(json.dumps(config.hyperparameters()))
    assert TrainConfig.from_hyperparameters(values) == config
    assert ("warmup_fraction" in values) == (config.schedule == "cosine")
    assert ("crop_scale" in values) == (config.crop == "resized")


def test_a_stored_setting_that_no_longer_exists_is_shown_by_its_name():
    stored = TrainConfig(seed=3, flip="none").hyperparameters() | {"dropout": 8}
    assert TrainConfig.from_hyperparameters(stored) == TrainConfig(seed=3, flip="none")
    assert changed(stored) == {"seed": 3, "flip": "none", "dropout": 8}


def test_settings_of_runs_from_before_the_youngest_settings_mean_the_same():
    stored = {"recipe": "default", "mixup": 0.2, "ema_decay": 0.0}
    assert TrainConfig.from_hyperparameters(stored) == TrainConfig(mixup=0.2) and changed(stored) == {"mixup": 0.2}
    assert TrainConfig.from_hyperparameters({"ema_decay": 0.99}).average_decay(1000) == 0.99


def test_the_average_spans_a_fraction_of_the_steps_unless_its_decay_is_given():
    fraction = TrainConfig(ema_fraction=0.04)
    assert fraction.averages and fraction.average_decay(50_000) == pytest.approx(1 - 1 / 2000)
    assert fraction.average_decay(10) == 0
    assert TrainConfig(ema_fraction=0.04, ema_decay=0.9).average_decay(50_000) == 0.9
    assert not TrainConfig().averages and not TrainConfig(ema_fraction=0.04, ema_decay=0.0).averages


def test_record_uses_trivial_augment_in_long_runs_alone_unless_asked():
    assert configure("record", {}).trivial_augment and not configure("record", {"max_epochs": 500}).trivial_augment
    short = configure("record", {"max_epochs": 500, "trivial_augment": True})
    assert short.trivial_augment and changed(short.hyperparameters()) == {"max_epochs": 500, "trivial_augment": True}
    assert changed(configure("record", {"max_epochs": 500}).hyperparameters()) == {"max_epochs": 500}


@pytest.mark.parametrize(
    ("value", "shown"),
    [("/home/ann/runs/big", "big"), ("../../ann/big", "big"), ("runs/big", "runs/big"), ("ann/big", "ann/big")],
)
def test_a_path_through_the_folders_of_a_machine_is_published_as_a_name(value, shown):
    settings = TrainConfig(teacher=value, initial_weights=value).hyperparameters()
    names = {"teacher": shown, "initial_weights": shown}
    assert published(settings) == settings | names and settings["teacher"] == value
    assert published({"recipe": "default", "teacher": None}) == {"recipe": "default", "teacher": None}


def test_torchrun_says_how_many_devices_there_are():
    environment = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}
    assert torchrun_devices(environment, {}) == {"devices": 4, "num_nodes": 2}
    assert torchrun_devices({}, {}) == {}
    with pytest.raises(ConfigError, match="--devices is 2, but torchrun started 4"):
        torchrun_devices(environment, {"devices": 2})


def test_few_images_of_a_folder_get_small_batches_and_steps_enough():
    config = TrainConfig(images="photos")
    small = suit_few_images(config, 160, ())
    assert (small.batch_size, small.learning_rate, small.max_epochs) == (32, 0.05, 300)
    assert suit_few_images(config, 160, ("batch_size", "max_epochs")) == suit_few_images(config, 5000, ()) == config
    assert suit_few_images(TrainConfig(), 160, ()) == TrainConfig()
