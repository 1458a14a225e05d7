import json
from dataclasses import fields, replace

import pytest

from trainer.config import RECIPES, ConfigError, TrainConfig, configure, flag


def test_the_report_recipe_is_what_the_course_report_describes():
    report = RECIPES["report"]
    assert (report.depth, report.stem_kernel, report.crop) == (32, 1, "resized")
    assert (report.crop_scale, report.crop_ratio) == ((0.8, 1.0), (0.9, 1.1))
    assert (report.batch_size, report.max_epochs) == (128, 50)
    assert (report.learning_rate, report.momentum, report.nesterov, report.weight_decay) == (0.1, 0.9, False, 1e-4)
    assert report.schedule == "plateau"
    # What the report leaves open, and we chose:
    assert (report.shortcut, report.plateau_factor, report.plateau_patience) == ("B", 0.1, 5)


def test_a_recipes_name_is_its_key():
    assert all(config.recipe == name for name, config in RECIPES.items())


def test_every_setting_has_help_that_ends_as_a_sentence():
    for f in fields(TrainConfig):
        if f.name != "recipe":
            assert f.metadata["help"].endswith("."), f.name


def test_overrides_replace_single_settings_of_a_recipe():
    config = configure("report", {"max_epochs": 3, "seed": 7})
    assert config == replace(RECIPES["report"], max_epochs=3, seed=7)


def test_an_unknown_recipe_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match="--recipe is 'fast'; it must be one of default, report"):
        configure("fast", {})


def test_a_setting_without_effect_is_refused_rather_than_ignored():
    with pytest.raises(ConfigError, match="--plateau-patience has no effect with --schedule cosine"):
        configure("default", {"plateau_patience": 3})
    assert configure("default", {"plateau_patience": 3, "schedule": "plateau"}).plateau_patience == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("depth", 31),
        ("stem_kernel", 2),
        ("shortcut", "C"),
        ("crop", "none"),
        ("crop_padding", -1),
        ("crop_scale", (0.8, 1.2)),
        ("crop_ratio", (1.1, 0.9)),
        ("max_epochs", 0),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("momentum", 1.0),
        ("weight_decay", -1e-4),
        ("schedule", "step"),
        ("warmup_fraction", 1.0),
        ("plateau_factor", 1.0),
        ("plateau_patience", -1),
        ("seed", -1),
        ("train_images", 1),
        ("device", "tpu"),
        ("precision", "16"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_flag_and_the_allowed_values(name, value):
    with pytest.raises(ConfigError, match=f"{flag(name)} is .*it must be "):
        replace(TrainConfig(), **{name: value})


def test_nesterov_without_momentum_is_a_contradiction():
    with pytest.raises(ConfigError, match="--nesterov"):
        TrainConfig(momentum=0.0, nesterov=True)


@pytest.mark.parametrize("recipe", RECIPES)
def test_hyperparameters_survive_json_and_name_only_what_has_an_effect(recipe):
    config = RECIPES[recipe]
    values = json.loads(json.dumps(config.hyperparameters()))
    assert TrainConfig.from_hyperparameters(values) == config
    assert ("warmup_fraction" in values) == (config.schedule == "cosine")
    assert ("crop_scale" in values) == (config.crop == "resized")


def test_a_stored_setting_that_no_longer_exists_is_named():
    with pytest.raises(ConfigError, match="unknown settings: cutout"):
        TrainConfig.from_hyperparameters({"cutout": 8})
