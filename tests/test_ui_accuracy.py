import math
import re
import threading
from dataclasses import replace

import gradio as gr
import pytest

from model import Classifier
from model.artifact import (
    HISTORY_COLUMNS,
    Bin,
    Calibration,
    Config,
    Metrics,
    PeakMemory,
    Pretrained,
    Resumed,
    Scores,
    SplitScores,
    Training,
    read_config,
)
from model.cifar10 import CLASS_NAMES
from model.hub import BUNDLED
from model.schema import parse, to_json
from tests.conftest import first_call_held, settle
from ui import accuracy
from ui.page import theme
from ui.render import CSS

NAMES = ["cat", "dog"]


def calibration(n: int) -> Calibration:
    bins = (
        Bin(lower=0.0, upper=0.5, n=0, confidence=None, accuracy=None),
        Bin(lower=0.5, upper=1.0, n=n, confidence=0.95, accuracy=0.9),
    )
    return Calibration(ece_before=0.05, ece_after=0.0123, loss_after=0.2, bins_before=bins, bins_after=bins)


def scores(matrix: list[list[int]], interval: tuple[float, float] = (0, 1), loss: float = 0.5) -> SplitScores:
    """Those of a confusion matrix."""
    n, hits = sum(map(sum, matrix)), [row[i] for i, row in enumerate(matrix)]
    return SplitScores(
        n=n,
        correct=sum(hits),
        accuracy=sum(hits) / n,
        accuracy_interval=interval,
        loss=loss,
        per_class_accuracy=tuple(hit / max(1, sum(row)) for hit, row in zip(hits, matrix, strict=True)),
        confusion_matrix=tuple(map(tuple, matrix)),
        calibration=calibration(n),
    )


TRAINING = parse(
    Training,
    {
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
)
METRICS = Metrics(
    format_version=1,
    val=scores([[14, 6], [3, 27]], (0.692, 0.9023), 0.5),
    test=scores([[600, 0], [100, 400]], (0.8906, 0.9247), 0.25),
    training=TRAINING,
)
CONFIG = replace(read_config(BUNDLED / "config.json"), temperature=1.2345678, threshold=None)
HISTORY = [dict.fromkeys(HISTORY_COLUMNS, 1.0)]


def cells(html: str) -> list[list[str]]:
    """The text of each cell of each row."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.S)
    return [[re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def text(html: str) -> str:
    return re.sub("<[^>]+>", "", html)


def whole_tab(metrics: Metrics, names: list[str], config: Config = CONFIG, history: list[dict] = HISTORY) -> str:
    return (
        accuracy.overview(metrics, names, config)
        + accuracy.matrix_card(metrics.test.confusion_matrix, names)
        + accuracy.background(metrics, config, history)
    )


def test_the_summary_gives_accuracy_interval_and_number_of_both_splits():
    assert cells(accuracy.summary_table(METRICS, NAMES)) == [
        ["Images", "Accuracy", "95% interval", "Right", "Loss"],
        ["Test", "90.91%", "89.06% to 92.47%", "1,000 of 1,100", "0.250"],
        ["Validation", "82.00%", "69.20% to 90.23%", "41 of 50", "0.500"],
    ]


def test_published_accuracies_stand_apart_beside_those_of_a_cifar_10_network_only():
    table = accuracy.summary_table(METRICS, list(CLASS_NAMES))
    assert cells(table)[3:] == [
        ["For comparison, as stated there"],
        ["Test, He et al. 2015 (ResNet-32)", "92.49%", "not stated", "", ""],
        ["Test, course report", "86.77%", "not stated", "", ""],
        ["Validation, course report", "87.16%", "not stated", "", ""],
    ]
    assert "Deep Residual Learning for Image Recognition, table 6" in text(table)
    assert "He et al." not in accuracy.summary_table(METRICS, list(CLASS_NAMES[::-1]))


@pytest.mark.parametrize(
    ("correct", "n", "told"),
    [
        (9228, 10000, "gets about 92 right"),
        (9999, 10000, "gets more than 99 right"),
        (10, 10, "gets about 100 right"),
        (1, 1000, "gets fewer than 1 right"),
        (0, 10, "gets about 0 right"),
    ],
)
def test_a_sentence_says_of_100_pictures_how_many_it_gets_right(correct, n, told):
    test = Scores(n=n, correct=correct, accuracy=correct / n, accuracy_interval=(0, 1), loss=0.5)
    sentence = text(accuracy.plain_sentence(test, 4))
    assert f"Of 100 new pictures of this kind, it {told}." in sentence
    assert f"the {n:,} test images" in sentence and "Guessing among the 4 classes would get about 25." in sentence


def test_the_flipped_view_is_told_apart_from_the_table_where_it_is_known():
    flipped = Scores(n=1100, correct=1001, accuracy=0.91, accuracy_interval=(0.8916, 0.9255), loss=0.2)
    metrics = replace(METRICS, test=replace(METRICS.test, flip_tta=flipped))
    told = "Mean of the image and its mirror image: test 91.00% (89.16% to 92.55%)"
    assert f"{told}. All other" in accuracy.flip_sentence(metrics)
    of_val = replace(flipped, n=50, correct=45, accuracy=0.9)
    both = accuracy.flip_sentence(replace(metrics, val=replace(METRICS.val, flip_tta=of_val)))
    assert f"{told}, validation 90.00% (89.16% to 92.55%). All other" in both
    assert cells(accuracy.summary_table(metrics, NAMES)) == cells(accuracy.summary_table(METRICS, NAMES))
    assert accuracy.flip_sentence(METRICS) == ""


def test_split_and_selection_are_told_with_the_numbers_of_the_run():
    told = text(accuracy.chosen_sentences(METRICS))
    assert "It learned from 45,000 training images. Another 50 of the training set" in told
    assert "held out: no weight was trained on them" in told
    assert "After each of the 26 epochs" in told and "those of epoch 25, selected by highest val accuracy." in told
    assert "reads the 1,100 test images once, after that choice" in told


def facts(html: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html))


def test_the_split_is_identified_and_what_was_fitted_on_it_is_listed():
    assert facts(accuracy.split_facts(TRAINING, CONFIG)) == {
        "Train / validation / test": "45,000 / 50 / 1,100",
        "Split seed": "7",
        "Hash of the split (SHA-256)": "ab",
        "Hash of its validation part": "not recorded",
        "Temperature": "1.235",
    }
    split = replace(TRAINING.split, sha256=None, val_sha256="cd")
    told = facts(accuracy.split_facts(replace(TRAINING, split=split), CONFIG))
    assert told["Hash of the split (SHA-256)"] == "not recorded" and told["Hash of its validation part"] == "cd"


@pytest.mark.parametrize(("threshold", "told"), [(5.4501, "5.45"), (-3.0, "-3"), (0.0, "0"), (None, None)])
def test_the_threshold_of_none_of_these_is_listed_where_the_config_has_one(threshold, told):
    listed = facts(accuracy.split_facts(TRAINING, replace(CONFIG, threshold=threshold)))
    assert listed.get("Threshold of “none of these”") == (told and f"highest logit below {told}")


def test_each_class_has_its_accuracies_and_a_bar_with_a_tick_of_that_length_best_first():
    metrics = replace(METRICS, test=scores([[400, 100], [0, 600]]))
    table = accuracy.per_class_table(metrics, NAMES)
    assert cells(table)[1:] == [["dog", "", "100.0%", "90.0%"], ["cat", "", "80.0%", "70.0%"]]
    assert re.findall(r"--share: ([\d.]+)", table) == ["1.0000", "0.8000"]
    assert re.findall(r"--val: ([\d.]+)", table) == ["0.9000", "0.7000"]


def test_the_best_and_the_worst_class_are_named_and_classes_without_images_are_neither():
    test = scores([[600, 0, 0, 0], [100, 400, 0, 0], [0] * 4, [0, 0, 100, 400]])
    metrics = replace(METRICS, test=test, val=scores([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]))
    names = ["cat", "dog", "cow", "emu"]
    told = text(accuracy.best_worst_sentence(metrics, names))
    assert told == "Best at cat (100.0%), worst at dog and emu (80.0%). Each class has 500 to 600 test images."
    assert cells(accuracy.per_class_table(metrics, names))[-1] == ["cow", "", "no images", "50.0%"]


def test_the_three_most_frequent_mistakes_are_told_and_a_tie_at_the_end():
    matrix = [[5, 3, 2], [1, 9, 2], [2, 0, 9]]
    assert accuracy.mistakes_sentence(matrix, ["cat", "dog", "emu"]) == (
        "Most frequent mistakes: 3 of 10 cat images were called dog, 2 of 10 cat images were called emu and "
        "2 of 12 dog images were called emu, as many as in 1 other cell."
    )
    one = accuracy.mistakes_sentence([[5, 0], [2, 4]], NAMES)
    assert one == "Most frequent mistake: 2 of 6 dog images were called cat."
    assert accuracy.mistakes_sentence([[5, 0], [0, 4]], NAMES) == "It made no mistake on the test images."


def test_the_confusion_matrix_has_true_classes_as_rows_with_headers_for_both_directions():
    table = accuracy.confusion_table(METRICS.test.confusion_matrix, NAMES)
    assert cells(table) == [["true \\ said", "cat", "dog"], ["cat", "600", "0"], ["dog", "100", "400"]]
    assert re.findall(r'<th scope="col"><span>(\w+)', table) == NAMES
    assert re.findall(r'<th scope="row"><span>(\w+)', table) == NAMES
    assert re.findall(r'<td class="(\w+)"', table[table.index("<tbody>") :]) == ["hit", "none", "miss", "hit"]


def test_every_count_above_0_is_a_button_in_one_tab_stop_that_says_what_it_shows():
    table = accuracy.confusion_table([[1600, 0], [100, 400]], NAMES)
    assert re.findall(r'<button type="button" tabindex="(-?\d)" aria-label="([^"]+)">([\d,]+)</button>', table) == [
        ("0", "1,600 of 1,600 cat images called cat: show them", "1,600"),
        ("-1", "100 of 500 dog images called cat: show them", "100"),
        ("-1", "400 of 500 dog images called dog: show them", "400"),
    ]


@pytest.mark.parametrize("matrix", [[[0, 3], [0, 5]], [[0, 3], [2, 0]], [[0, 0], [5, 1]]])
def test_the_matrix_has_one_tab_stop_whatever_is_on_the_diagonal(matrix):
    assert accuracy.confusion_table(matrix, NAMES).count('<button type="button" tabindex="0"') == 1


def test_a_cell_is_shaded_by_the_square_root_of_its_share_of_the_row():
    table = accuracy.confusion_table([[1, 0], [100, 300]], NAMES)
    shades = [float(shade) for shade in re.findall(r"--shade: ([\d.]+)", table)]
    assert shades == pytest.approx([1, 0.5, math.sqrt(0.75)], abs=1e-3)


def luminance(colour: list[float]) -> float:
    """WCAG 2 relative luminance of (R, G, B), 0 to 255."""
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def rgb(colour: str) -> list[float]:
    return [int(colour.lstrip("#")[i : i + 2], 16) for i in (0, 2, 4)]


@pytest.mark.parametrize("kind", ["hit", "miss"])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_the_number_in_a_cell_has_enough_contrast_on_every_shade(kind, mode):
    css = next(path for path in CSS if path.name == "accuracy.css").read_text()
    full, most = re.search(rf"--{kind}: (#\w+)", css)[1], int(re.search(r"--most: (\d+)%", css)[1]) / 100
    look = theme()
    slate = look.neutral_100, look.neutral_800, look.neutral_900
    ink, card = (slate[1], "#ffffff") if mode == "light" else (slate[0], slate[2])
    assert (look.body_text_color, look.body_text_color_dark) == ("*neutral_800", "*neutral_100")
    assert (look.block_background_fill, look.block_background_fill_dark) == ("white", "*neutral_900")
    for part in (most * step / 20 for step in range(21)):
        ground = [part * a + (1 - part) * b for a, b in zip(rgb(full), rgb(card), strict=True)]
        dark, light = sorted((luminance(ground), luminance(rgb(ink))))
        assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize(
    "data",
    [
        None,
        7,
        [1, 1],
        "12",
        {},
        {"true": 1},
        {"true": 1, "predicted": 2},
        {"true": -1, "predicted": 0},
        {"true": True, "predicted": 0},
        {"true": 1.0, "predicted": 0},
        {"true": "1", "predicted": 0},
        {"true": [1], "predicted": {}},
        {"true": math.nan, "predicted": 0},
    ],
)
def test_what_names_no_cell_is_refused(data):
    assert accuracy.chosen_cell(data, 2) is None


def test_what_names_a_cell_gives_its_two_classes():
    assert accuracy.chosen_cell({"true": 1, "predicted": 0}, 2) == (1, 0)


def test_the_calibration_is_drawn_before_and_after_with_its_error_its_counts_and_its_numbers():
    card = accuracy.calibration_card(METRICS.test.calibration, 1.2345678)
    assert card.count("<svg") == 2 and card.count('class="count"') == 2
    told = text(card)
    assert "5.00 points apart before, and 1.23 points after" in told and "the temperature 1.235, fitted" in told
    assert ["50% to 100%", "1,100", "95.0%", "90.0%"] in cells(card)
    assert "Before: too sure in 1 of 1 bars, 5.00 points apart on average, 1,100 images" in card


def test_the_run_and_every_hyperparameter_are_listed():
    listed = facts(accuracy.training_lists(TRAINING))
    assert listed["Recipe"] == "default" and listed["Seed"] == "3" and listed["Parameters"] == "464,154"
    assert listed["Time"] == "1 h 18 min" and listed["Speed"] == "1,250 images per second"
    assert listed["Started"] == "2026-01-01 00:00:00 UTC" and listed["Commit"] == "not recorded"
    assert listed["Hardware"] == "CPU: some" and listed["Epochs"] == "26 (chosen: 25)"
    assert listed["learning_rate"] == "0.1" and listed["nesterov"] == "true" and listed["max_steps"] == "none"
    assert listed["betas"] == "[0.9, 0.99]" and listed["torch"] == "2.11.0"


def test_what_the_run_has_otherwise_than_its_recipe_is_told_where_the_artifact_says_it():
    def told(training: Training) -> str | None:
        return facts(accuracy.training_lists(training)).get("Changed from it")

    assert told(replace(TRAINING, changes=("--cutout 8", "--no-nesterov"))) == "--cutout 8 --no-nesterov"
    assert told(TRAINING) is None


def test_a_commit_is_shortened_to_12_characters():
    training = replace(TRAINING, git_commit="0123456789abcdef0123456789abcdef01234567")
    assert "<dd>0123456789ab</dd>" in accuracy.training_lists(training)


def test_the_peak_memory_is_told_for_each_place_where_it_is_known():
    def told(peak: PeakMemory | None) -> str:
        return facts(accuracy.training_lists(replace(TRAINING, peak_memory_bytes=peak)))["Peak memory"]

    assert told(PeakMemory(host=3 * 2**29, device=None)) == "1.5 GiB (host)"
    assert told(PeakMemory(host=2**30, device=2**31)) == "1.0 GiB (host), 2.0 GiB (device)"
    assert told(None) == told(PeakMemory(host=None, device=None)) == "not recorded"


def test_a_run_that_was_resumed_lists_where_it_went_on():
    part = {"started": "2026-01-02T03:04:05+00:00", "device": "GPU: other", "precision": "bf16-mixed"}
    part |= {"versions": {"torch": "2.12", "numpy": "2.4"}, "git_commit": "0123456789abcdef"}
    parts = [parse(Resumed, part), parse(Resumed, part | {"device": "CPU: some", "git_commit": None})]
    lists = accuracy.training_lists(replace(TRAINING, resumed=tuple(parts)))
    assert re.findall("<li>(.*?)</li>", lists) == [
        "2026-01-02 03:04:05 UTC: GPU: other, bf16-mixed, commit 0123456789ab; torch 2.12, numpy 2.4",
        "2026-01-02 03:04:05 UTC: CPU: some, bf16-mixed, commit not recorded; torch 2.12, numpy 2.4",
    ]
    for count, told in ((0, "never"), (1, "once"), (2, "2 times")):
        assert facts(accuracy.training_lists(replace(TRAINING, resumed=tuple(parts[:count]))))["Resumed"] == told
    assert "<li>" not in accuracy.training_lists(TRAINING)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (250, "4 min 10 s"), (4700, "1 h 18 min")]
)
def test_a_duration_is_told_in_its_two_largest_units(seconds, expected):
    assert accuracy.duration(seconds) == expected


def test_no_string_of_the_artifact_brings_markup_into_the_page():
    evil = "<img src=x onerror=alert(1)>\"'"
    anything = {evil: [evil], "a": evil}
    network = dict.fromkeys(("seed", "epochs", "parameters", "depth", "val_accuracy"), 1)
    network |= dict.fromkeys(("recipe", "sha256", "source"), evil)
    texts = dict.fromkeys(("recipe", "device", "precision", "selected_by", "git_commit", "started"), evil)
    hostile = to_json(TRAINING) | texts | {"hyperparameters": anything, "versions": anything, "changes": [evil, evil]}
    hostile["resumed"] = [{name: texts[name] for name in ("started", "device", "precision", "git_commit")}]
    hostile["resumed"][0]["versions"] = anything
    hostile["pretrained"] = {"initial_weights": network, "teacher": network}
    hostile["split"] |= {"sha256": evil, "val_sha256": evil}
    page = whole_tab(replace(METRICS, training=parse(Training, hostile)), [evil, f"{evil}2"])
    assert "<img" not in page
    assert "\"'" not in page
    assert "&lt;img" in page


def test_the_networks_that_took_part_are_named_where_there_were_any():
    teacher = {"recipe": "record", "seed": 1, "depth": 56, "epochs": 1920, "parameters": 9, "val_accuracy": 0.95}
    teacher["sha256"] = "ab"
    first = teacher | {"recipe": "paper", "depth": 32, "epochs": 82, "val_accuracy": 0.9}

    def told(**pretrained) -> dict[str, str]:
        listed = facts(accuracy.training_lists(replace(TRAINING, pretrained=parse(Pretrained, pretrained))))
        return {name: told for name, told in listed.items() if name in ("Began with", "Teacher")}

    expected = {
        "Began with": "ResNet of depth 32; recipe: paper; epochs: 82; validation accuracy: 90.00%",
        "Teacher": "ResNet of depth 56; recipe: record; epochs: 1,920; validation accuracy: 95.00%",
    }
    assert told(teacher=teacher, initial_weights=first) == expected
    assert told(teacher=teacher) == {"Teacher": expected["Teacher"]} and told() == {}
    assert "Teacher" not in accuracy.training_lists(TRAINING)


@pytest.mark.parametrize("count", [2, 3, 21, 100])
def test_a_network_of_2_to_100_classes_is_shown(count):
    matrix = [[2 if i == j else int(j == (i + 1) % count) for j in range(count)] for i in range(count)]
    metrics = replace(METRICS, val=scores(matrix), test=scores(matrix))
    page = whole_tab(metrics, [f"class {i}" for i in range(count)])
    assert page.count("<button") == 2 * count
    assert len(cells(re.search('<table id="confusion".*?</table>', page)[0])) == count + 1
    assert len(cells(re.search('<table id="per-class".*?</table>', page)[0])) == count + 1
    assert "Equally good at every class: 66.7%." in page and "He et al." not in page
    assert len(page) < 2_000_000


def test_the_tab_shows_the_numbers_of_a_real_artifact(tiny_artifact):
    classifier = Classifier.load(tiny_artifact)
    history = accuracy.read_history(tiny_artifact)
    page = whole_tab(classifier.metrics, classifier.class_names, classifier.config, history)
    test = classifier.metrics.test
    assert len(history) == classifier.metrics.training.epochs == 2
    assert ["Test", f"{test.accuracy:.2%}"] == cells(page)[1][:2]
    shown = [
        [int(cell) for cell in row[1:]] for row in cells(re.search('<table id="confusion".*?</table>', page)[0])[1:]
    ]
    assert shown == [list(row) for row in test.confusion_matrix]
    assert page.count("<svg") == 5
    assert accuracy.flip_sentence(classifier.metrics) in page and "mirror image" in page
    assert not re.search(r"<table(?![^>]*>\s*<caption>)", page), "a table without a caption"


@pytest.fixture(scope="module")
def shown():
    """Address of a page that has the tab of the bundled model alone, and the cells that were asked for."""
    classifier, asked = Classifier.load(), []

    def cell_html(true: int, predicted: int) -> str:
        asked.append((true, predicted, threading.get_ident()))
        return f"<h3>{classifier.class_names[true]} as {classifier.class_names[predicted]}</h3>"

    with gr.Blocks() as page, gr.Column(elem_id="tab"):
        accuracy.build_tab(classifier, cell_html)
    page.queue(api_open=False)
    _, address, _ = page.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, ssr_mode=False, theme=theme(), css_paths=CSS
    )
    yield address, asked, page
    page.close()


@pytest.fixture
def tab(browser, shown):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.goto(shown[0])
    page.locator("#confusion button").first.wait_for()
    yield page
    page.close()


def focused(page) -> str:
    return page.evaluate("document.activeElement.textContent")


@pytest.mark.slow
def test_a_click_on_a_number_shows_its_images_below_the_matrix_and_says_so(tab, shown):
    counts = Classifier.load().metrics.test.confusion_matrix
    tab.set_viewport_size({"width": 1280, "height": 300})
    assert tab.locator("#cell [role=status]").inner_text() == "Choose a number above to see its images here."
    tab.get_by_role("button", name=re.compile("cat images called dog: show them")).click()
    tab.locator("#cell h3", has_text="cat as dog").wait_for()
    told = f"{counts[3][5]:,} of {sum(counts[3]):,} cat images called dog: shown below the matrix."
    assert tab.locator("#cell [role=status]").text_content() == told
    assert tab.locator("#confusion [aria-pressed=true]").text_content() == str(counts[3][5])
    assert shown[1][-1][:2] == (3, 5)
    tab.wait_for_function("document.querySelector('#cell h3').getBoundingClientRect().bottom <= innerHeight")
    assert tab.errors == []


@pytest.mark.slow
def test_of_two_quick_clicks_the_later_is_shown(tab):
    with first_call_held(tab) as wait:
        tab.get_by_role("button", name=re.compile("cat images called dog: show them")).click()
        wait()
        tab.get_by_role("button", name=re.compile("dog images called cat: show them")).click()
    tab.locator("#cell h3", has_text="dog as cat").wait_for()
    assert "dog images called cat: shown below the matrix." in tab.locator("#cell [role=status]").text_content()
    assert tab.errors == []


@pytest.mark.slow
def test_the_matrix_is_one_tab_stop_and_arrow_keys_move_past_empty_cells(tab, shown):
    counts = Classifier.load().metrics.test.confusion_matrix
    said_of_1 = [said for said in range(10) if counts[1][said]]
    assert said_of_1[0] == 0 and 2 < len(said_of_1) < 10  # there are empty cells to move past
    tab.locator('#confusion button[tabindex="0"]').focus()
    walk = [("ArrowDown", 1, 0), *(("ArrowRight", 1, said) for said in said_of_1[1:]), ("ArrowUp", 0, said_of_1[-1])]
    walk += [("End", 0, 9), ("ArrowRight", 0, 9), ("Home", 0, 0), ("ArrowUp", 0, 0), ("End", 0, 9)]
    for key, true, said in walk:
        tab.keyboard.press(key)
        assert focused(tab) == f"{counts[true][said]:,}", key
    assert tab.locator('#confusion button[tabindex="0"]').count() == 1
    for key in ("Enter", "Space"):
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press(key)
        true = 1 if key == "Enter" else 2
        tab.locator("#cell h3", has_text=f"{CLASS_NAMES[true]} as truck").wait_for()
        assert focused(tab) == str(counts[true][9])
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.closest('#confusion')") is None


def test_a_call_with_another_cell_is_refused_and_no_public_route_leads_there(shown):
    import httpx

    address, asked, page = shown
    (event,) = page.fns.values()
    before = len(asked)
    for data in ({"true": 10, "predicted": 0}, {"true": "../", "predicted": 0}, None, [1]):
        body = {"data": [data], "event_data": None, "fn_index": event._id, "session_hash": "s", "trigger_id": None}
        assert httpx.post(f"{address}gradio_api/queue/join", json=body, timeout=60).status_code == 200
        with httpx.stream("GET", f"{address}gradio_api/queue/data?session_hash=s", timeout=60) as stream:
            ended = next(line for line in stream.iter_lines() if "process_completed" in line)
        assert '"success":false' in ended and ("There is no such cell" in ended)
    assert len(asked) == before
    assert httpx.get(f"{address}gradio_api/info", timeout=60).json()["named_endpoints"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_tab_has_no_serious_barrier_and_nothing_is_wider_than_the_screen(browser, shown, mode, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(f"{shown[0]}?__theme={mode}")
    page.locator("#confusion button").nth(5).click()
    page.locator("#cell h3").wait_for()
    page.locator(".accuracy details").evaluate_all("all => all.forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = """width => [...document.querySelectorAll('.accuracy *')].filter(
        part => part.getBoundingClientRect().right > width && !part.closest('.scroll')).length"""
    assert page.evaluate(wide, width) == 0
    clipped = """[...document.querySelectorAll('.accuracy .scroll')].filter(
        part => part.scrollWidth > part.clientWidth && getComputedStyle(part).overflowX !== 'auto').length"""
    assert page.evaluate(clipped) == 0
    settle(page)
    found = axe.Axe().run(page, context="#tab").response["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], node["html"]) for one in grave for node in one["nodes"]] == []
    page.close()
