import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

from model import Classifier, artifact
from model.artifact import Scores
from model.hub import BUNDLED, Source
from tests.markup import EVIL, find, text
from ui import predict
from ui.page import TABS, build_page, head_html, model_name, notice_html, theme
from ui.render import CSS


@pytest.fixture(scope="module")
def page(tiny_artifact) -> gr.Blocks:
    return build_page(Classifier.load(tiny_artifact), Path("nowhere"))


@pytest.fixture(scope="module")
def config(page) -> dict:
    return page.get_config_file()


def test_the_page_has_four_tabs_in_this_order_by_the_names_of_its_address(config):
    tabs = [part["props"] for part in config["components"] if part["type"] == "tabitem"]
    assert [tab["label"] for tab in tabs] == ["Predict", "Test images", "Evaluation", "About & API"]
    assert tuple(tab["id"] for tab in tabs) == TABS == ("predict", "test-images", "accuracy", "about")


def calls(config) -> dict[str, dict]:
    """The calls that are not private, by their name."""
    return {call["api_name"]: call for call in config["dependencies"] if call["api_visibility"] != "private"}


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("predict", ["image", "slider", "radio"], ["label", "json"]),
        ("model_info", [], ["json"]),
    ],
)
def test_each_call_takes_and_gives_what_the_docs_say(config, name, inputs, outputs):
    parts, call = {part["id"]: part["type"] for part in config["components"]}, calls(config)[name]
    assert [parts[part] for part in call["inputs"]] == inputs
    assert [parts[part] for part in call["outputs"]] == outputs


def test_there_is_no_other_call_for_others(config):
    assert list(calls(config)) == ["predict", "model_info"]
    assert all(call["api_visibility"] == "public" for call in calls(config).values())


def test_what_a_caller_leaves_out_is_5_classes_and_the_central_square(config):
    parts = {part["id"]: part["props"] for part in config["components"]}
    slider, fit = (parts[part] for part in calls(config)["predict"]["inputs"][1:])
    assert (slider["minimum"], slider["maximum"], slider["value"]) == (1, 10, 5)
    assert [value for _, value in fit["choices"]] == ["crop", "pad", "stretch"] and fit["value"] == "crop"


def test_what_a_caller_or_visitor_leaves_out_is_the_fit_of_the_model(tiny_artifact):
    classifier = Classifier.load(tiny_artifact)
    classifier.config = replace(classifier.config, fit="pad")
    config = build_page(classifier, Path("nowhere")).get_config_file()
    radios = [part["props"] for part in config["components"] if part["type"] == "radio"]
    fits = [radio["value"] for radio in radios if "stretch" in dict(radio["choices"]).values()]
    assert fits == ["pad", "pad"]  # on the page, and for programs


def test_each_call_is_answered_by_itself(config):
    assert not any(call["batch"] for call in config["dependencies"])


# The head


FROM_PROJECT = Source("bundled", BUNDLED)


def classifier_of(names, source=FROM_PROJECT, **training) -> SimpleNamespace:
    found = artifact.read(BUNDLED)
    test = Scores(n=10000, correct=9123, accuracy=0.9123, accuracy_interval=(0.9066, 0.9177), loss=0.3)
    training = replace(found.metrics.training, **{"changes": (), **training})
    metrics = SimpleNamespace(test=test, training=training)
    return SimpleNamespace(class_names=names, config=found.config, metrics=metrics, source=source)


def test_the_head_says_which_model_it_is_and_how_good():
    html = head_html(classifier_of(["cat", "dog", "cow"], Source("folder", Path("/home/ann/runs/mine"))))
    assert [term.text for term in find(html, "dt")] == ["Test accuracy", "Network", "Model"]
    assert [value.text for value in find(html, "dd")[::2]] == ["91.23%", "ResNet-32", "folder mine"]
    notes = [value.text for value in find(html, "dd")[1::2]]
    assert notes == ["90.66% to 91.77% (95% CI)", "464,154 parameters", "recipe default"]
    assert "Recognizes 3 classes: cat, dog and cow." in text(html)
    assert "/home" not in html and "ann" not in html


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ((), "recipe default"),
        (("--cutout 8",), "recipe default (1 override)"),
        (("--cutout 8", "--no-nesterov"), "recipe default (2 overrides)"),
    ],
)
def test_the_head_does_not_call_a_changed_recipe_by_its_name_alone(changes, told):
    assert find(head_html(classifier_of(["cat", "dog"], changes=changes)), "dd")[-1].text == told


def test_no_name_of_the_artifact_brings_markup_into_the_head():
    evil = EVIL.replace("/", "|")  # a folder's name has no slash
    source = Source("folder", Path("/a") / evil)
    html = head_html(classifier_of(["cat", f"{EVIL}1", f"{EVIL}2"], source, recipe=EVIL))
    assert find(html, "i") == []
    assert f"Recognizes 3 classes: cat, {EVIL}1 and {EVIL}2." in text(html)
    values = [value.text for value in find(html, "dd")]
    assert values[-2:] == [f"folder {evil}", f"recipe {EVIL}"]


def test_a_notice_is_told_as_it_is():
    html = notice_html(EVIL)
    assert find(html, "i") == [] and find(html, "p")[0].text == EVIL and find(html, "div")[0]["role"] == "status"


def test_there_is_a_notice_only_where_there_is_something_to_say(tiny_artifact, config):
    assert not any(part["props"].get("elem_id") == "notice" for part in config["components"])
    page = build_page(Classifier.load(tiny_artifact), Path("nowhere"), "Another model.")
    shown = [part for part in page.get_config_file()["components"] if part["props"].get("elem_id") == "notice"]
    assert [text(part["props"]["value"]) for part in shown] == ["Model noticeAnother model."]


def test_a_model_from_the_hub_is_named_by_its_repository_and_commit():
    source = Source("hub", Path("/home/ann/cache"), "ann/resnet", "0123456789abcdef" * 2 + "01234567")
    assert model_name(source, "recipe: default") == ("ann/resnet", "commit 0123456789ab, recipe: default")
    assert model_name(FROM_PROJECT, "recipe: paper") == ("bundled", "recipe: paper")


def test_a_folder_is_named_without_where_it_lies():
    for path in ("/home/ann/runs/mine", "mine", "a:b/mine"):
        assert model_name(Source("folder", Path(path)), "recipe: paper") == ("folder mine", "recipe: paper")


# The address


def function(page: gr.Blocks, name: str):
    (found,) = [event.fn for event in page.fns.values() if event.fn and event.fn.__name__ == name]
    return found


def restored(page, **asked) -> list:
    """What the page changes for an address: tab, fit, top, show, true, predicted; None: as it was."""
    updates = function(page, "restore")(SimpleNamespace(query_params=asked))
    return [None if part == gr.skip() else part for part in updates]


def test_an_address_restores_what_it_names(page):
    assert restored(page) == [None] * 6
    named = {"fit": "pad", "top": "10", "show": "mistakes", "true": "cat", "predicted": "dog"}
    tab, *settings = restored(page, tab="test-images", **named)
    assert tab.selected == "test-images" and settings == ["pad", 10, "mistakes", "cat", "dog"]


@pytest.mark.parametrize(
    "word", ["", "Predict", "nonsense", EVIL, "null", "__proto__", "-1", "2.5", "0", "11", "05", "٥"]
)
def test_what_an_address_names_and_there_is_not_is_ignored(page, word):
    names = ("tab", "fit", "top", "show", "true", "predicted", "other")
    assert restored(page, **dict.fromkeys(names, word)) == [None] * 6


def test_what_is_chosen_is_written_into_the_address_and_what_is_usual_is_left_out(config):
    scripts = [call["js"] for call in config["dependencies"] if isinstance(call["js"], str)]
    written = [re.search(r"write\((.*)\)", js)[1] for js in scripts if "write(" in js]
    assert sorted(written) == sorted(
        [
            *[f'"tab", "{tab}", "predict", null' for tab in TABS],
            '"fit", value, "crop", null',
            '"top", value, 5, null',
            '"show", value, "all", "grid-page"',
            '"true", value, "<any>", "grid-page"',
            '"predicted", value, "<any>", "grid-page"',
        ]
    )


# Look and silence


def test_no_font_or_style_comes_from_another_host():
    assert all(sheet is None for sheet in theme()._stylesheets)
    assert "http" not in "".join(theme()._font_css)
    assert len(CSS) >= 5
    for path in CSS:
        style = path.read_text()
        assert "url(" not in style and "@import" not in style, path.name


def test_gradios_analytics_are_off_and_its_table_of_calls_is_not_rebuilt_on_every_call():
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] == "100000"


def test_without_examples_the_page_has_no_place_for_them(tiny_artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "EXAMPLES", tmp_path)
    config = build_page(Classifier.load(tiny_artifact), tmp_path).get_config_file()
    assert not any(part["props"].get("elem_id") == "examples" for part in config["components"])
