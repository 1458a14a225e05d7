"""The Evaluation tab: each number of the artifact as it is shown, and nothing of it taken for markup."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import gradio as gr
import pytest
from pydantic import TypeAdapter

from model import Classifier
from model.artifact import HISTORY_COLUMNS, Config, Metrics, Scores, SplitScores, Training, read_config
from model.cifar10 import CLASS_NAMES
from model.hub import BUNDLED
from tests.markup import EVIL, elements, find, text
from ui import accuracy

NAMES = ["cat", "dog"]


def parse(kind: type, value: dict):
    """As it stands in a file of the artifact."""
    return TypeAdapter(kind).validate_json(json.dumps(value))


def scores(matrix: list[list[int]], interval: Sequence[float] = (0, 1), loss: float = 0.5) -> SplitScores:
    """Those of a confusion matrix."""
    n, hits = sum(map(sum, matrix)), [row[i] for i, row in enumerate(matrix)]
    empty = {"lower": 0, "upper": 0.5, "n": 0, "confidence": None, "accuracy": None}
    bins = [empty, {"lower": 0.5, "upper": 1, "n": n, "confidence": 0.95, "accuracy": 0.9}]
    calibration = {"ece_before": 0.05, "ece_after": 0.0123, "loss_after": 0.2, "bins_before": bins, "bins_after": bins}
    found = {
        "n": n,
        "correct": sum(hits),
        "accuracy": sum(hits) / n,
        "accuracy_interval": list(interval),
        "loss": loss,
        "per_class_accuracy": [hit / max(1, sum(row)) for hit, row in zip(hits, matrix, strict=True)],
        "confusion_matrix": matrix,
        "calibration": calibration,
    }
    return parse(SplitScores, found)


TRAINING = {
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
}
TEACHER = {"recipe": "record", "seed": 1, "depth": 56, "epochs": 1920, "parameters": 9, "val_accuracy": 0.95}
TEACHER["sha256"] = "ab"
FIRST = TEACHER | {"recipe": "paper", "depth": 32, "epochs": 82, "val_accuracy": 0.9}
PART = {"started": "2026-01-02T03:04:05+00:00", "device": "GPU: other", "precision": "bf16-mixed"}
PART |= {"versions": {"torch": "2.12", "numpy": "2.4"}, "git_commit": "0123456789abcdef"}

METRICS = Metrics(
    format_version=1,
    val=scores([[14, 6], [3, 27]], [0.692, 0.9023], 0.5),
    test=scores([[600, 0], [100, 400]], [0.8906, 0.9247], 0.25),
    training=parse(Training, TRAINING),
)
CONFIG = replace(read_config(BUNDLED / "config.json"), temperature=1.2345678, threshold=None)
HISTORY = [dict.fromkeys(HISTORY_COLUMNS, 1.0)]


def upper(metrics: Metrics = METRICS, names=NAMES) -> str:
    return accuracy.accuracy_html(metrics, names, CONFIG)


def lower(config: Config = CONFIG, **training) -> str:
    metrics = replace(METRICS, training=parse(Training, TRAINING | training))
    return accuracy.training_html(metrics, config, HISTORY)


def rows(html: str) -> list[list[str]]:
    """The text of each cell, by row."""
    found = []
    for element in elements(html):
        if element.tag == "tr":
            found.append([])
        elif element.tag in ("th", "td"):
            found[-1].append(element.text)
    return found


# Above the matrix


def test_each_split_that_was_measured_has_accuracy_interval_number_and_loss():
    measured = [
        ["Test", "90.91%", "89.06% to 92.47%", "1,000 of 1,100", "0.250"],
        ["Validation", "82.00%", "69.20% to 90.23%", "41 of 50", "0.500"],
    ]
    assert rows(upper())[1:4] == [*measured, ["Class", "", "Test", "Validation"]]
    flipped = Scores(n=1100, correct=1001, accuracy=0.91, accuracy_interval=(0.8916, 0.9255), loss=0.2)
    assert rows(upper(replace(METRICS, test=replace(METRICS.test, flip_tta=flipped))))[1:5] == [
        *measured,
        ["Test-time augmentation (horizontal flip)"],
        ["Test", "91.00%", "89.16% to 92.55%", "1,001 of 1,100", "0.200"],
    ]


def test_published_results_stand_beside_those_of_a_cifar_10_network_only():
    bundled = Classifier.load()
    html = upper(bundled.metrics, bundled.class_names)
    first = rows(html).index(["Published results (as reported)"]) + 1
    assert [row[:3] for row in rows(html)[first : first + 3]] == [
        ["He et al. 2015 (ResNet-32)", "92.49%", "not stated"],
        ["Course report", "86.77%", "not stated"],
        ["Course report (validation)", "87.16%", "not stated"],
    ]
    assert "On unseen CIFAR-10 images it is right about 93 times in 100." in text(html)
    assert "92.49%" not in upper(names=CLASS_NAMES[:2]) and "CIFAR-10" not in upper()


def test_a_share_of_100_images_is_rounded_without_claiming_all_or_none():
    for correct, n, expected in (
        (9228, 10000, ("about", "92")),
        (9999, 10000, ("more than", "99")),
        (10, 10, ("about", "100")),
        (1, 1000, ("fewer than", "1")),
        (0, 10, ("about", "0")),
    ):
        test = Scores(n=n, correct=correct, accuracy=correct / n, accuracy_interval=(0, 1), loss=0.5)
        assert accuracy.correct_of_100(test) == expected


def test_split_selection_and_what_was_fitted_are_described_with_their_numbers():
    shown = text(upper())
    assert "Trained on 45,000 images. Another 50 of the training set were held out for validation." in shown
    assert "epoch 25 of 26, selected by highest validation accuracy." in shown
    assert "reads the 1,100 test images once, after that choice" in shown
    facts = {
        "Train / validation / test": "45,000 / 50 / 1,100",
        "Split seed": "7",
        "Split checksum (SHA-256)": "ab",
        "Validation checksum (SHA-256)": "not recorded",
        "Temperature": "1.235",
    }
    assert accuracy.split_facts(METRICS.training, CONFIG) == facts
    threshold = accuracy.split_facts(METRICS.training, replace(CONFIG, threshold=0.0)).keys() - facts.keys()
    assert threshold == {"OOD threshold (max logit)"}


def test_classes_are_listed_best_first_and_those_without_images_last():
    test = scores([[0, 0, 0, 0], [0, 400, 100, 0], [0, 0, 600, 0], [0, 500, 0, 0]])
    val = scores([[1, 0, 0, 1], [0, 7, 3, 0], [0, 1, 9, 0], [0, 0, 0, 1]])
    metrics, names = replace(METRICS, test=test, val=val), ["cow", "cat", "dog", "emu"]
    expected = [("dog", 1.0, 0.9), ("cat", 0.8, 0.7), ("emu", 0.0, 1.0), ("cow", None, 0.5)]
    assert accuracy.class_rows(metrics, names) == expected
    assert rows(upper(metrics, names))[-1] == ["cow", "", "no images", "50.0%"]
    assert find(upper(metrics, names), "span")[1]["style"] == "--share: 0.8000; --val: 0.7000"
    assert accuracy.best_and_worst(test, names) == (
        "Best: dog (100.0%). Worst: emu (0.0%). Each class has 500 to 600 test images."
    )
    equal = accuracy.best_and_worst(scores([[2, 1], [1, 2]]), NAMES)
    assert equal == "Equal for every class: 66.7%. Each class has 3 test images."


# The matrix


def test_the_three_most_frequent_errors_are_named():
    assert accuracy.frequent_errors([[5, 3, 0], [1, 9, 2], [2, 0, 9]], ["cat", "dog", "emu"]) == (
        "Most frequent errors: 3 of 8 cat images predicted as dog, 2 of 12 dog images predicted as emu and "
        "2 of 11 emu images predicted as cat."
    )
    one = accuracy.frequent_errors([[5, 0], [2, 4]], NAMES)
    assert one == "Most frequent error: 2 of 6 dog images predicted as cat."
    assert accuracy.frequent_errors([[5, 0], [0, 4]], NAMES) == "There is no error on the test images."


def test_the_confusion_matrix_is_a_table_of_buttons_in_one_tab_stop():
    html = accuracy.matrix_html([[1600, 0], [100, 400]], NAMES)
    assert rows(html) == [["true \\ predicted", "cat", "dog"], ["cat", "1,600", "0"], ["dog", "100", "400"]]
    assert [head["scope"] for head in find(html, "th")] == ["col", "col", "row", "row"]
    assert [cell.classes for cell in find(html, "td")[1:]] == [["hit"], ["none"], ["miss"], ["hit"]]
    assert [(button["tabindex"], button["aria-label"]) for button in find(html, "button")] == [
        ("0", "1,600 of 1,600 cat images predicted as cat: show them"),
        ("-1", "100 of 500 dog images predicted as cat: show them"),
        ("-1", "400 of 500 dog images predicted as dog: show them"),
    ]
    for odd in ([[0, 3], [0, 5]], [[0, 3], [2, 0]], [[0, 0], [5, 1]]):
        stops = [cell for row in accuracy.confusion_rows(odd, NAMES) for cell in row if cell.tab_stop]
        assert len(stops) == 1 and stops[0].count > 0


def test_a_cell_is_shaded_by_the_square_root_of_its_share_of_the_row():
    shades = [cell.shade for row in accuracy.confusion_rows([[1, 0], [100, 300]], NAMES) for cell in row]
    assert shades == pytest.approx([1, 0, 0.5, math.sqrt(0.75)])


WRONG = [None, 7, "true", {"true": 1}, *({"true": 1, "predicted": k} for k in (2, -1, True, 1.0, "1", {}, math.nan))]


@pytest.mark.parametrize("data", WRONG, ids=repr)
def test_what_names_no_cell_is_refused(data):
    assert accuracy.chosen_cell(gr.EventData(None, data), 2) is None
    assert accuracy.chosen_cell(gr.EventData(None, {"true": 1, "predicted": 0}), 2) == (1, 0)


def test_a_cell_brings_its_images_and_what_is_none_an_error():
    with gr.Blocks() as page:
        accuracy.build_tab(Classifier.load(), lambda true, predicted: f"images of {true} as {predicted}")
    (event,) = page.fns.values()
    answer = event.fn(gr.EventData(None, {"true": 3, "predicted": 5}))
    assert (answer["true"], answer["predicted"], answer["images"]) == (3, 5, "images of 3 as 5")
    assert answer["status"].endswith("cat images predicted as dog: shown below the matrix.")
    with pytest.raises(gr.Error, match="There is no such cell"):
        event.fn(gr.EventData(None, {"true": 10, "predicted": 0}))


# Below the matrix


def test_the_reliability_diagrams_state_ece_and_overconfidence():
    before, after = accuracy.reliability_diagrams(METRICS.test)
    assert before.title == "Before temperature scaling: ECE 5.00%"
    assert after.summary == (
        "Reliability diagram. After temperature scaling: ECE 1.23%; overconfident in 1 of 1 bins, 1,100 images"
    )
    assert rows(lower())[1] == ["50% to 100%", "1,100", "95.0%", "90.0%"]
    assert "(ECE) from 5.00% to 1.23%." in text(lower())
    few = replace(METRICS, test=scores([[9, 1], [0, 10]]))
    assert find(accuracy.training_html(few, CONFIG, HISTORY), "rect", "few") and not find(lower(), "rect", "few")


def test_the_run_is_listed_with_what_is_recorded_of_it():
    facts = {
        "Recipe": "default",
        "Seed": "3",
        "Epochs": "26 (selected: 25)",
        "Parameters": "464,154",
        "Training time": "1 h 18 min",
        "Throughput": "1,250 images/s",
        "Hardware": "CPU: some",
        "Precision": "32-true",
        "Peak memory": "not recorded",
        "Started": "2026-01-01 00:00:00 UTC",
        "Commit": "not recorded",
        "Resumed": "never",
    }
    assert accuracy.run_facts(METRICS.training) == facts
    more = {
        "changes": ["--cutout 8"],
        "git_commit": "0123456789abcdef",
        "peak_memory_bytes": {"host": 2**30, "device": 2**31},
        "resumed": [PART, PART],
        "pretrained": {"teacher": TEACHER, "initial_weights": FIRST},
    }
    assert accuracy.run_facts(parse(Training, TRAINING | more)) == facts | {
        "Recipe": "default, with overrides",
        "Peak memory": "1.0 GiB (host), 2.0 GiB (device)",
        "Commit": "0123456789ab",
        "Resumed": "2 times",
        "Initial weights": "ResNet-32, recipe paper, 82 epochs, 90.00% validation accuracy",
        "Teacher": "ResNet-56, recipe record, 1,920 epochs, 95.00% validation accuracy",
    }
    assert accuracy.run_facts(parse(Training, TRAINING | {"resumed": [PART]}))["Resumed"] == "once"


def test_overrides_resumed_sessions_and_hyperparameters_stand_below_the_run():
    assert "Overrides" not in lower() and "Resumed sessions" not in lower()
    html = lower(changes=["--cutout 8", "--no-nesterov"], resumed=[PART | {"git_commit": None}])
    assert [code.text for code in find(html, "code")] == ["--cutout 8", "--no-nesterov"]
    (session,) = find(html, "li")
    assert session.text == (
        "2026-01-02T03:04:05+00:00: GPU: other, bf16-mixed, commit not recorded; torch 2.12, numpy 2.4"
    )
    values = {term.text: value.text for term, value in zip(find(html, "dt"), find(html, "dd"), strict=True)}
    shown = {"learning_rate": "0.1", "nesterov": "true", "max_steps": "null", "betas": "[0.9, 0.99]", "torch": "2.11.0"}
    assert shown.items() <= values.items()


def test_a_duration_has_its_two_largest_units():
    assert [accuracy.duration(seconds) for seconds in (0.4, 59.6, 250, 4700)] == [
        *("0 s", "1 min 0 s", "4 min 10 s", "1 h 18 min"),
    ]


# The tab


def test_no_string_of_the_artifact_brings_markup_into_the_page():
    anything = {EVIL: [EVIL], "a": EVIL}
    network = TEACHER | dict.fromkeys(("recipe", "sha256", "source"), EVIL)
    texts = dict.fromkeys(("recipe", "device", "precision", "selected_by", "git_commit", "started"), EVIL)
    hostile = TRAINING | texts | {"hyperparameters": anything, "versions": anything, "changes": [EVIL]}
    hostile["resumed"] = [PART | {name: texts[name] for name in ("started", "device", "precision", "git_commit")}]
    hostile["resumed"][0]["versions"] = anything
    hostile["pretrained"] = {"initial_weights": network, "teacher": network}
    hostile["split"] = TRAINING["split"] | {"sha256": EVIL, "val_sha256": EVIL}
    names = [EVIL, f"{EVIL}2"]
    html = upper(replace(METRICS, training=parse(Training, hostile)), names) + lower(**hostile)
    html += accuracy.matrix_html(METRICS.test.confusion_matrix, names)
    assert find(html, "i") == [] and len(find(html, "button")) == 3
    label = f"100 of 500 {EVIL}2 images predicted as {EVIL}: show them"
    assert find(html, "button")[1]["aria-label"] == label
    # two checksums, start, hardware, precision; "a" of both lists
    assert [fact.text for fact in find(html, "dd")].count(EVIL) == 7 and find(html, "code")[0].text == EVIL


@pytest.mark.parametrize("count", [2, 21, 100])
def test_a_network_of_2_to_100_classes_is_shown(count):
    matrix = [[2 if i == j else int(j == (i + 1) % count) for j in range(count)] for i in range(count)]
    metrics, names = replace(METRICS, val=scores(matrix), test=scores(matrix)), [f"class {i}" for i in range(count)]
    html = upper(metrics, names) + accuracy.matrix_html(matrix, names)
    found = Counter((element.tag, *element.classes) for element in elements(html))
    assert found["button",] == 2 * count and found["td", "bar"] == count and found["table", "many"] == (count > 20)
    assert len(html) < 2_000_000
