import math
import re
from collections import Counter
from dataclasses import replace

import gradio as gr
import httpx
import pytest
from PIL import ImageColor

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
    read_history,
)
from model.cifar10 import CLASS_NAMES
from model.hub import BUNDLED
from model.schema import parse, to_json
from tests.conftest import first_call_held
from tests.markup import EVIL, elements, find, text
from tests.visitor import COUNT_CALLS, wait_for_answers
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


def whole_tab(metrics: Metrics, names: list[str], config: Config = CONFIG, history: list[dict] = HISTORY) -> str:
    return (
        accuracy.accuracy_html(metrics, names, config)
        + accuracy.matrix_html(metrics.test.confusion_matrix, names)
        + accuracy.training_html(metrics, config, history)
    )


# Above the matrix


def test_each_split_that_was_measured_has_accuracy_interval_number_and_loss():
    assert accuracy.score_rows({"Test": METRICS.test, "Validation": METRICS.val, "Other": None}) == [
        ("Test", "90.91%", "89.06% to 92.47%", "1,000 of 1,100", "0.250"),
        ("Validation", "82.00%", "69.20% to 90.23%", "41 of 50", "0.500"),
    ]


def test_published_results_stand_beside_those_of_a_cifar_10_network_only():
    published = ["Test, He et al. 2015 (ResNet-32)92.49%not stated", "Test, course report86.77%not stated"]
    published += ["Validation, course report87.16%not stated"]
    rows = [row.text for row in find(accuracy.accuracy_html(METRICS, CLASS_NAMES[:2], CONFIG), "tr")]
    assert not set(published) & set(rows)
    bundled = Classifier.load()
    html = accuracy.accuracy_html(bundled.metrics, bundled.class_names, bundled.config)
    rows = [row.text for row in find(html, "tr")]
    assert rows[rows.index("Published results (as reported)") + 1 :][:3] == published
    assert "On unseen CIFAR-10 images it is right about 93 times in 100." in text(html)
    assert "Deep Residual Learning for Image Recognition, table 6" in text(html)


@pytest.mark.parametrize(
    ("correct", "n", "expected"),
    [
        (9228, 10000, ("about", "92")),
        (9999, 10000, ("more than", "99")),
        (10, 10, ("about", "100")),
        (1, 1000, ("fewer than", "1")),
        (0, 10, ("about", "0")),
    ],
)
def test_a_share_of_100_images_is_rounded_without_claiming_all_or_none(correct, n, expected):
    test = Scores(n=n, correct=correct, accuracy=correct / n, accuracy_interval=(0, 1), loss=0.5)
    assert accuracy.correct_of_100(test) == expected


def test_test_time_augmentation_is_listed_where_it_was_measured():
    flipped = Scores(n=1100, correct=1001, accuracy=0.91, accuracy_interval=(0.8916, 0.9255), loss=0.2)
    html = accuracy.accuracy_html(replace(METRICS, test=replace(METRICS.test, flip_tta=flipped)), NAMES, CONFIG)
    rows = [row.text for row in find(html, "tr")]
    assert rows[rows.index("Test-time augmentation (horizontal flip)") + 1].startswith("Test91.00%89.16% to 92.55%")
    assert "Test-time augmentation" not in accuracy.accuracy_html(METRICS, NAMES, CONFIG)


def test_split_and_selection_are_described_with_the_numbers_of_the_run():
    shown = text(accuracy.accuracy_html(METRICS, NAMES, CONFIG))
    assert "Trained on 45,000 images. Another 50 of the training set were held out for validation." in shown
    assert "epoch 25 of 26, selected by highest validation accuracy." in shown
    assert "reads the 1,100 test images once, after that choice" in shown


def test_the_split_is_identified_and_what_was_fitted_on_it_is_listed():
    assert accuracy.split_facts(TRAINING, CONFIG) == {
        "Train / validation / test": "45,000 / 50 / 1,100",
        "Split seed": "7",
        "Split checksum (SHA-256)": "ab",
        "Validation checksum (SHA-256)": "not recorded",
        "Temperature": "1.235",
    }


@pytest.mark.parametrize(("threshold", "shown"), [(5.4501, "5.45"), (-3.0, "-3"), (0.0, "0"), (None, None)])
def test_the_threshold_is_listed_where_the_config_has_one(threshold, shown):
    facts = accuracy.split_facts(TRAINING, replace(CONFIG, threshold=threshold))
    assert facts.get("OOD threshold (max logit)") == shown


def test_classes_are_listed_best_first_those_without_images_last_with_bars_of_their_accuracy():
    test = scores([[400, 100, 0], [0, 600, 0], [0, 0, 0]])
    val = scores([[7, 3, 0], [1, 9, 0], [1, 0, 1]])
    rows = accuracy.class_rows(replace(METRICS, test=test, val=val), ["cat", "dog", "cow"])
    assert rows == [
        ("dog", 1.0, 0.9, "100.0%", "90.0%"),
        ("cat", 0.8, 0.7, "80.0%", "70.0%"),
        ("cow", 0.0, 0.5, "no images", "50.0%"),
    ]
    bars = find(accuracy.accuracy_html(METRICS, NAMES, CONFIG), "span")
    assert [bar["style"] for bar in bars] == ["--share: 1.0000; --val: 0.7000", "--share: 0.8000; --val: 0.9000"]


def test_the_best_and_the_worst_class_are_named_and_classes_without_images_are_neither():
    test = scores([[600, 0, 0, 0], [100, 400, 0, 0], [0] * 4, [0, 0, 100, 400]])
    expected = "Best: cat (100.0%). Worst: dog and emu (80.0%). Each class has 500 to 600 test images."
    assert accuracy.best_and_worst(test, ["cat", "dog", "cow", "emu"]) == expected
    equal = accuracy.best_and_worst(scores([[2, 1], [1, 2]]), NAMES)
    assert equal == "Equal for every class: 66.7%. Each class has 3 test images."


# The matrix


def test_the_three_most_frequent_errors_are_named_and_a_tie_at_the_end():
    matrix = [[5, 3, 2], [1, 9, 2], [2, 0, 9]]
    assert accuracy.frequent_errors(matrix, ["cat", "dog", "emu"]) == (
        "Most frequent errors: 3 of 10 cat images predicted as dog, 2 of 10 cat images predicted as emu and "
        "2 of 12 dog images predicted as emu, as many as in 1 other cell."
    )
    one = accuracy.frequent_errors([[5, 0], [2, 4]], NAMES)
    assert one == "Most frequent error: 2 of 6 dog images predicted as cat."
    assert accuracy.frequent_errors([[5, 0], [0, 4]], NAMES) == "There is no error on the test images."


def test_the_confusion_matrix_has_true_classes_as_rows_with_headers_for_both_directions():
    html = accuracy.matrix_html(METRICS.test.confusion_matrix, NAMES)
    assert [row.text for row in find(html, "tr")] == ["true \\ predictedcatdog", "cat 600 0", "dog 100 400"]
    assert [(head["scope"], head.text) for head in find(html, "th")] == [
        *(("col", name) for name in NAMES),
        *(("row", name) for name in NAMES),
    ]
    kinds = [cell.classes for cell in find(html, "td")[1:]]
    assert kinds == [["hit"], ["none"], ["miss"], ["hit"]]


def test_every_count_above_0_is_a_button_in_one_tab_stop_that_says_what_it_shows():
    buttons = find(accuracy.matrix_html([[1600, 0], [100, 400]], NAMES), "button")
    assert [(button["tabindex"], button["aria-label"], button.text) for button in buttons] == [
        ("0", "1,600 of 1,600 cat images predicted as cat: show them", "1,600"),
        ("-1", "100 of 500 dog images predicted as cat: show them", "100"),
        ("-1", "400 of 500 dog images predicted as dog: show them", "400"),
    ]


@pytest.mark.parametrize("matrix", [[[0, 3], [0, 5]], [[0, 3], [2, 0]], [[0, 0], [5, 1]]])
def test_the_matrix_has_one_tab_stop_whatever_is_on_the_diagonal(matrix):
    assert [cell.count > 0 for row in accuracy.confusion_rows(matrix, NAMES) for cell in row if cell.tab_stop] == [True]


def test_a_cell_is_shaded_by_the_square_root_of_its_share_of_the_row():
    shades = [cell.shade for row in accuracy.confusion_rows([[1, 0], [100, 300]], NAMES) for cell in row]
    assert shades == pytest.approx([1, 0, 0.5, math.sqrt(0.75)])


def luminance(colour: list[float]) -> float:
    """WCAG 2 relative luminance of (R, G, B), 0 to 255."""
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("kind", ["hit", "miss"])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_the_number_in_a_cell_has_enough_contrast_on_every_shade(kind, mode):
    css, look = next(path for path in CSS if path.name == "accuracy.css").read_text(), theme()
    most = int(re.search(r"--most: (\d+)%", css)[1]) / 100
    assert (look.body_text_color, look.body_text_color_dark) == ("*neutral_800", "*neutral_100")
    assert (look.block_background_fill, look.block_background_fill_dark) == ("white", "*neutral_900")
    ink, card = (look.neutral_800, "#ffffff") if mode == "light" else (look.neutral_100, look.neutral_900)
    full, ink, card = (ImageColor.getrgb(name) for name in (re.search(rf"--{kind}: (#\w+)", css)[1], ink, card))
    for part in (most * step / 20 for step in range(21)):
        ground = [part * a + (1 - part) * b for a, b in zip(full, card, strict=True)]
        dark, light = sorted((luminance(ground), luminance(ink)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize(
    "data",
    [
        *(None, 7, [1, 1], "true", {}, {"true": 1}),
        *({"true": 1, "predicted": wrong} for wrong in (2, -1, True, 1.0, "1", [1], {}, math.nan)),
    ],
)
def test_what_names_no_cell_is_refused(data):
    assert accuracy.chosen_cell(gr.EventData(None, data), 2) is None
    assert accuracy.chosen_cell(gr.EventData(None, {"true": 1, "predicted": 0}), 2) == (1, 0)


# Below the matrix


def test_the_reliability_diagrams_state_ece_and_overconfidence():
    before, after = accuracy.reliability_diagrams(METRICS.test.calibration)
    assert (before.title, after.title) == (
        "Before temperature scaling: ECE 5.00%",
        "After temperature scaling: ECE 1.23%",
    )
    assert before.summary == (
        "Reliability diagram before temperature scaling: overconfident in 1 of 1 bins, ECE 5.00%, 1,100 images"
    )
    rows = accuracy.bin_rows(METRICS.test.calibration.bins_after)
    assert rows == [("50% to 100%", "1,100", "95.0%", "90.0%")]


def test_the_run_and_its_hyperparameters_are_listed():
    assert accuracy.run_facts(TRAINING) == {
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
    values = accuracy.plain_texts(TRAINING.hyperparameters)
    assert values == {"learning_rate": "0.1", "nesterov": "true", "max_steps": "none", "betas": "[0.9, 0.99]"}


TEACHER = {"recipe": "record", "seed": 1, "depth": 56, "epochs": 1920, "parameters": 9, "val_accuracy": 0.95}
TEACHER["sha256"] = "ab"
FIRST = TEACHER | {"recipe": "paper", "depth": 32, "epochs": 82, "val_accuracy": 0.9}
PART = {"started": "2026-01-02T03:04:05+00:00", "device": "GPU: other", "precision": "bf16-mixed"}
PART |= {"versions": {"torch": "2.12", "numpy": "2.4"}, "git_commit": "0123456789abcdef"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"changes": ("--cutout 8", "--no-nesterov")}, {"Overrides": "--cutout 8\n--no-nesterov"}),
        ({"git_commit": "0123456789abcdef"}, {"Commit": "0123456789ab"}),
        ({"peak_memory_bytes": PeakMemory(host=3 * 2**29, device=None)}, {"Peak memory": "1.5 GiB (host)"}),
        (
            {"peak_memory_bytes": PeakMemory(host=2**30, device=2**31)},
            {"Peak memory": "1.0 GiB (host), 2.0 GiB (device)"},
        ),
        ({"resumed": (parse(Resumed, PART),)}, {"Resumed": "once"}),
        ({"resumed": (parse(Resumed, PART),) * 2}, {"Resumed": "2 times"}),
        (
            {"pretrained": parse(Pretrained, {"teacher": TEACHER, "initial_weights": FIRST})},
            {
                "Initial weights": "ResNet-32, recipe paper, 82 epochs, 90.00% validation accuracy",
                "Teacher": "ResNet-56, recipe record, 1,920 epochs, 95.00% validation accuracy",
            },
        ),
    ],
)
def test_the_run_lists_what_else_is_recorded(changes, expected):
    facts = accuracy.run_facts(replace(TRAINING, **changes))
    assert facts == accuracy.run_facts(TRAINING) | expected


def test_a_run_that_was_resumed_lists_where_it_went_on():
    parts = [parse(Resumed, PART), parse(Resumed, PART | {"device": "CPU: some", "git_commit": None})]
    assert accuracy.resumed_sessions(replace(TRAINING, resumed=tuple(parts))) == [
        "2026-01-02 03:04:05 UTC: GPU: other, bf16-mixed, commit 0123456789ab; torch 2.12, numpy 2.4",
        "2026-01-02 03:04:05 UTC: CPU: some, bf16-mixed, commit not recorded; torch 2.12, numpy 2.4",
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (250, "4 min 10 s"), (4700, "1 h 18 min")]
)
def test_a_duration_has_its_two_largest_units(seconds, expected):
    assert accuracy.duration(seconds) == expected


# The tab


def test_no_string_of_the_artifact_brings_markup_into_the_page():
    anything = {EVIL: [EVIL], "a": EVIL}
    network = TEACHER | dict.fromkeys(("recipe", "sha256", "source"), EVIL)
    texts = dict.fromkeys(("recipe", "device", "precision", "selected_by", "git_commit", "started"), EVIL)
    hostile = to_json(TRAINING) | texts | {"hyperparameters": anything, "versions": anything, "changes": [EVIL, EVIL]}
    hostile["resumed"] = [PART | {name: texts[name] for name in ("started", "device", "precision", "git_commit")}]
    hostile["resumed"][0]["versions"] = anything
    hostile["pretrained"] = {"initial_weights": network, "teacher": network}
    hostile["split"] |= {"sha256": EVIL, "val_sha256": EVIL}
    html = whole_tab(replace(METRICS, training=parse(Training, hostile)), [EVIL, f"{EVIL}2"])
    assert find(html, "i") == [] and len(find(html, "button")) == 3
    assert [button["aria-label"] for button in find(html, "button")][1] == (
        f"100 of 500 {EVIL}2 images predicted as {EVIL}: show them"
    )
    facts = [fact.text for fact in find(html, "dd")]
    assert facts.count(EVIL) == 8  # two checksums, recipe, hardware, precision, start; "a" of both lists


@pytest.mark.parametrize("count", [2, 3, 21, 100])
def test_a_network_of_2_to_100_classes_is_shown(count):
    matrix = [[2 if i == j else int(j == (i + 1) % count) for j in range(count)] for i in range(count)]
    html = whole_tab(replace(METRICS, val=scores(matrix), test=scores(matrix)), [f"class {i}" for i in range(count)])
    found = Counter((element.tag, *element.classes) for element in elements(html))
    assert found["button",] == 2 * count and found["td", "bar"] == count and found["table", "many"] == (count > 20)
    assert len(html) < 2_000_000


def test_the_tab_shows_the_numbers_of_a_real_artifact_and_every_chart_and_table_in_words():
    classifier = Classifier.load()
    history, metrics = read_history(BUNDLED), classifier.metrics
    html = whole_tab(metrics, classifier.class_names, classifier.config, history)
    cells = find(accuracy.matrix_html(metrics.test.confusion_matrix, classifier.class_names), "td")[1:]
    assert [int(cell.text) for cell in cells] == [count for row in metrics.test.confusion_matrix for count in row]
    assert f"Test{metrics.test.accuracy:.2%}" in text(html) and "Test-time augmentation" in text(html)
    charts = find(html, "svg")
    assert [chart["role"] for chart in charts] == ["img"] * 5 and all(len(chart["aria-label"]) > 40 for chart in charts)
    assert len(find(html, "caption")) == len(find(html, "table")) == 5


@pytest.fixture(scope="module")
def shown():
    """Address of a page that has the tab of the bundled model alone, and the cells that were asked for."""
    classifier, asked = Classifier.load(), []

    def cell_html(true: int, predicted: int) -> str:
        asked.append((true, predicted))
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
    page.add_init_script(COUNT_CALLS)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(shown[0])
    page.locator("#confusion button").first.wait_for()
    yield page
    page.close()
    assert errors == []


def cell(tab, true: str, predicted: str):
    return tab.get_by_role("button", name=re.compile(f"{true} images predicted as {predicted}: show them"))


@pytest.mark.slow
def test_a_click_on_a_number_shows_its_images_below_the_matrix_and_says_so(tab, shown):
    counts = Classifier.load().metrics.test.confusion_matrix
    tab.set_viewport_size({"width": 1280, "height": 300})
    status = tab.locator("#cell [role=status]")
    assert status.inner_text() == "Select a number above to see its images here."
    cell(tab, "cat", "dog").click()
    tab.locator("#cell h3", has_text="cat as dog").wait_for()
    expected = f"{counts[3][5]:,} of {sum(counts[3]):,} cat images predicted as dog: shown below the matrix."
    assert status.text_content() == expected
    assert tab.locator("#confusion [aria-pressed=true]").text_content() == str(counts[3][5])
    assert shown[1][-1] == (3, 5)
    tab.wait_for_function("document.querySelector('#cell h3').getBoundingClientRect().bottom <= innerHeight")


@pytest.mark.slow
def test_of_two_quick_clicks_the_later_is_shown_whichever_is_answered_first(tab):
    with first_call_held(tab) as wait:
        cell(tab, "cat", "dog").click()
        wait()
        cell(tab, "dog", "cat").click()
        tab.locator("#cell h3", has_text="dog as cat").wait_for()
    tab.wait_for_function("window.answered === 2")
    wait_for_answers(tab)
    assert tab.locator("#cell h3").all_inner_texts() == ["dog as cat"]
    assert "dog images predicted as cat: shown below the matrix." in tab.locator("#cell [role=status]").text_content()


def focused(page) -> str:
    return page.evaluate("document.activeElement.textContent")


@pytest.mark.slow
def test_the_matrix_is_one_tab_stop_and_arrow_keys_move_past_empty_cells(tab, shown):
    counts = Classifier.load().metrics.test.confusion_matrix
    row_1 = [k for k in range(10) if counts[1][k]]
    assert row_1[0] == 0 and 2 < len(row_1) < 10  # there are empty cells to move past
    tab.locator('#confusion button[tabindex="0"]').focus()
    walk = [("ArrowDown", 1, 0), *(("ArrowRight", 1, k) for k in row_1[1:]), ("ArrowUp", 0, row_1[-1])]
    walk += [("End", 0, 9), ("ArrowRight", 0, 9), ("Home", 0, 0), ("ArrowUp", 0, 0), ("End", 0, 9)]
    for key, true, predicted in walk:
        tab.keyboard.press(key)
        assert focused(tab) == f"{counts[true][predicted]:,}", key
    assert tab.locator('#confusion button[tabindex="0"]').count() == 1
    for key, true in (("Enter", 1), ("Space", 2)):
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press(key)
        tab.locator("#cell h3", has_text=f"{CLASS_NAMES[true]} as truck").wait_for()
        assert focused(tab) == str(counts[true][9])
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.closest('#confusion')") is None


def test_a_call_with_another_cell_is_refused_and_no_public_route_leads_there(shown):
    address, asked, page = shown
    (event,) = page.fns.values()
    before = len(asked)
    for data in ({"true": 10, "predicted": 0}, {"true": "../", "predicted": 0}, None, [1]):
        body = {"data": [], "event_data": data, "fn_index": event._id, "session_hash": "s", "trigger_id": None}
        assert httpx.post(f"{address}gradio_api/queue/join", json=body, timeout=60).status_code == 200
        with httpx.stream("GET", f"{address}gradio_api/queue/data?session_hash=s", timeout=60) as stream:
            ended = next(line for line in stream.iter_lines() if "process_completed" in line)
        assert '"success":false' in ended and "There is no such cell" in ended, data
    assert len(asked) == before
    assert httpx.get(f"{address}gradio_api/info", timeout=60).json()["named_endpoints"] == {}
