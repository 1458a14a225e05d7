import copy
import math
import re

import pytest

from model import Classifier
from model.artifact import HISTORY_COLUMNS
from ui import accuracy

NAMES = ["cat", "dog"]
METRICS = {
    "val": {
        "n": 50,
        "correct": 40,
        "accuracy": 0.8,
        "accuracy_interval": [0.6696, 0.8876],
        "loss": 0.5,
        "per_class_accuracy": [0.7, 0.9],
        "confusion_matrix": [[15, 5], [5, 25]],
    },
    "test": {
        "n": 1100,
        "correct": 1000,
        "accuracy": 10 / 11,
        "accuracy_interval": [0.8906, 0.9247],
        "loss": 0.25,
        "per_class_accuracy": [1.0, 0.8],
        "confusion_matrix": [[600, 0], [100, 400]],
    },
    "training": {
        "recipe": "default",
        "hyperparameters": {"learning_rate": 0.1, "nesterov": True, "max_steps": None, "betas": [0.9, 0.99]},
        "seed": 3,
        "epochs": 26,
        "best_epoch": 25,
        "selected_by": "highest val accuracy",
        "wall_seconds": 4700.0,
        "images_per_second": 1250.4,
        "device": "CPU: some",
        "precision": "32-true",
        "versions": {"torch": "2.11.0"},
        "git_commit": None,
        "started": "2026-01-01T00:00:00+00:00",
        "split": {"train": 45000, "val": 50, "test": 1100, "seed": 7, "sha256": "ab"},
        "parameters": 464154,
    },
}


def cells(html: str) -> list[list[str]]:
    """The text of each cell of each row."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.S)
    return [[re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def test_the_summary_gives_accuracy_interval_and_number_of_both_splits():
    assert cells(accuracy.summary_table(METRICS)) == [
        ["Images", "Accuracy", "95% interval", "Correct", "Loss"],
        ["Test", "90.91%", "89.06% to 92.47%", "1,000 of 1,100", "0.250"],
        ["Validation", "80.00%", "66.96% to 88.76%", "40 of 50", "0.500"],
    ]


def test_the_flipped_view_is_told_apart_from_the_table_where_it_is_known():
    flipped = {"n": 1100, "correct": 1001, "accuracy": 0.91, "accuracy_interval": [0.8916, 0.9255], "loss": 0.2}
    test = METRICS["test"] | {"flip_tta": flipped}
    told = accuracy.flip_sentence(METRICS | {"test": test})
    assert "Mean of the image and its mirror image: test 91.00% (89.16% to 92.55%). All other" in told
    both = accuracy.flip_sentence({"test": test, "val": METRICS["val"] | {"flip_tta": flipped | {"accuracy": 0.9}}})
    assert "test 91.00% (89.16% to 92.55%), validation 90.00% (89.16% to 92.55%). All other" in both
    assert accuracy.summary_table(METRICS | {"test": test}) == accuracy.summary_table(METRICS)
    assert accuracy.flip_sentence(METRICS) == ""


def test_the_way_of_choosing_is_told_with_the_numbers_of_the_run():
    told = accuracy.chosen_sentence(METRICS)
    assert "epoch 25 of 26, selected by highest val accuracy" in told
    assert "45,000 images were trained on and 50 held out for that choice" in told
    assert "the 1,100 test images were read once, after it" in told


def test_each_class_has_its_test_and_validation_accuracy_and_a_bar_of_that_length():
    table = accuracy.per_class_table(METRICS, NAMES)
    assert cells(table)[1:] == [["cat", "", "100.0%", "70.0%"], ["dog", "", "80.0%", "90.0%"]]
    assert re.findall(r"--share: ([\d.]+)", table) == ["1.0000", "0.8000"]


def test_the_confusion_matrix_has_true_classes_as_rows_with_headers_for_both_directions():
    table = accuracy.confusion_table(METRICS["test"]["confusion_matrix"], NAMES)
    assert cells(table) == [["true \\ said", "cat", "dog"], ["cat", "600", "0"], ["dog", "100", "400"]]
    assert re.findall(r'<th scope="col"><span>(\w+)', table) == NAMES
    assert re.findall(r'<th scope="row">(\w+)', table) == NAMES
    assert 'title="100 of 500 dog images called cat"' in table


def test_a_cell_is_shaded_by_the_square_root_of_its_share_of_the_row():
    table = accuracy.confusion_table([[0, 0], [100, 300]], NAMES)
    shades = [float(shade) for shade in re.findall(r"--shade: ([\d.]+)", table)]
    assert shades == pytest.approx([0, 0, 0.5, math.sqrt(0.75)], abs=1e-3)


def test_the_run_and_every_hyperparameter_are_listed():
    lists = accuracy.training_lists(METRICS["training"])
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", lists))
    assert facts["Recipe"] == "default" and facts["Seed"] == "3" and facts["Parameters"] == "464,154"
    assert facts["Time"] == "1 h 18 min" and facts["Speed"] == "1,250 images per second"
    assert facts["Started"] == "2026-01-01 00:00:00 UTC" and facts["Commit"] == "not recorded"
    assert facts["Split"] == "45,000 / 50 / 1,100 (seed 7)"
    assert facts["learning_rate"] == "0.1" and facts["nesterov"] == "true" and facts["max_steps"] == "none"
    assert facts["betas"] == "[0.9, 0.99]" and facts["torch"] == "2.11.0"


def test_a_commit_is_shortened_to_12_characters():
    training = METRICS["training"] | {"git_commit": "0123456789abcdef0123456789abcdef01234567"}
    assert "<dd>0123456789ab</dd>" in accuracy.training_lists(training)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (250, "4 min 10 s"), (4700, "1 h 18 min")]
)
def test_a_duration_is_told_in_its_two_largest_units(seconds, expected):
    assert accuracy.duration(seconds) == expected


def test_no_string_of_the_artifact_brings_markup_into_the_page():
    evil = "<img src=x onerror=alert(1)>\"'"
    metrics = copy.deepcopy(METRICS)
    training = metrics["training"]
    for key in ("recipe", "device", "precision", "selected_by", "git_commit", "started"):
        training[key] = evil
    training["hyperparameters"] = {evil: [evil], "a": evil}
    training["versions"] = {evil: evil}
    page = accuracy.report(metrics, [evil, "dog"], [dict.fromkeys(HISTORY_COLUMNS, 1.0)])
    assert "<img" not in page
    assert "\"'" not in page
    assert "&lt;img" in page


def test_the_tab_shows_the_numbers_of_a_real_artifact(tiny_artifact):
    classifier = Classifier.load(tiny_artifact)
    history = accuracy.read_history(tiny_artifact)
    page = accuracy.report(classifier.metrics, classifier.class_names, history)
    test = classifier.metrics["test"]
    assert len(history) == classifier.metrics["training"]["epochs"] == 2
    assert ["Test", f"{test['accuracy']:.2%}"] == cells(page)[1][:2]
    shown = [
        [int(cell) for cell in row[1:]] for row in cells(re.search('<table id="confusion".*?</table>', page)[0])[1:]
    ]
    assert shown == test["confusion_matrix"]
    assert page.count("<svg") == 2
    assert accuracy.flip_sentence(classifier.metrics) in page and "mirror image" in page
