"""The page as a whole: head, tabs, address, calls for others, and that nothing comes from another host."""

import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

from model import Classifier, artifact
from model.hub import BUNDLED, Source
from tests.markup import EVIL, find, text
from ui import predict
from ui.page import TABS, build_page, head_html, model_name, notice_html
from ui.render import CSS

FROM_PROJECT = Source("bundled", BUNDLED)


@pytest.fixture(scope="module")
def page(tiny_artifact) -> gr.Blocks:
    classifier = Classifier.load(tiny_artifact)
    classifier.config = replace(classifier.config, fit="pad")
    return build_page(classifier, Path("nowhere"))


@pytest.fixture(scope="module")
def config(page) -> dict:
    return page.get_config_file()


def parts(config: dict, kind: str) -> list[dict]:
    return [part["props"] for part in config["components"] if part["type"] == kind]


def test_the_page_has_four_tabs_in_this_order_by_the_names_of_its_address(config):
    tabs = parts(config, "tabitem")
    assert [tab["label"] for tab in tabs] == ["Predict", "Test images", "Evaluation", "About & API"]
    assert tuple(tab["id"] for tab in tabs) == TABS == ("predict", "test-images", "accuracy", "about")


def test_programs_have_two_calls_that_take_and_give_what_the_docs_say(config):
    calls = {call["api_name"]: call for call in config["dependencies"] if call["api_visibility"] != "private"}
    kinds = {part["id"]: part["type"] for part in config["components"]}
    assert {
        name: ([kinds[part] for part in call["inputs"]], [kinds[part] for part in call["outputs"]])
        for name, call in calls.items()
    } == {"predict": (["image", "slider", "radio"], ["label", "json"]), "model_info": ([], ["json"])}
    assert not any(call["batch"] for call in config["dependencies"])


def test_what_a_caller_or_visitor_leaves_out_is_5_classes_and_the_fit_of_the_model(config):
    fits = [radio for radio in parts(config, "radio") if "stretch" in dict(radio["choices"]).values()]
    assert [radio["value"] for radio in fits] == ["pad", "pad"]  # on the page, and for programs
    sliders = [(one["minimum"], one["maximum"], one["value"]) for one in parts(config, "slider")]
    assert sliders == [(1, 10, 5)] * 2
    assert [value for _, value in fits[0]["choices"]] == ["crop", "pad", "stretch"]


# The head


def head_of(names: list[str], source: Source = FROM_PROJECT) -> str:
    found = artifact.read(BUNDLED)
    return head_html(SimpleNamespace(class_names=names, config=found.config, metrics=found.metrics, source=source))


def test_the_head_says_which_model_it_is_and_how_good():
    html = head_of(["cat", "dog", "cow"], Source("folder", Path("/home/ann/runs/mine")))
    assert [term.text for term in find(html, "dt")] == ["Test accuracy", "Network", "Model"]
    assert [value.text for value in find(html, "dd")] == [
        *("92.87%", "92.35% to 93.36% (95% CI)", "ResNet-32", "464,154 parameters", "folder mine", "on this server"),
    ]
    assert "Recognizes 3 classes: cat, dog and cow." in text(html)
    assert "/home" not in html and "ann" not in html
    assert "Recognizes 100 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 90 more." in text(head_of([*map(str, range(100))]))


def test_a_model_is_named_by_where_it_comes_from():
    source = Source("hub", Path("/home/ann/cache"), "ann/resnet", "0123456789abcdef" * 2 + "01234567")
    assert model_name(source) == ("ann/resnet", "Hugging Face Hub, commit 0123456789ab")
    assert model_name(FROM_PROJECT) == ("bundled", "with this project")


def test_no_name_of_the_artifact_and_no_notice_brings_markup():
    evil = EVIL.replace("/", "|")  # a folder's name has no slash
    html = head_of(["cat", f"{EVIL}1", f"{EVIL}2"], Source("folder", Path("/a") / evil))
    assert find(html, "i") == [] and f"Recognizes 3 classes: cat, {EVIL}1 and {EVIL}2." in text(html)
    assert find(html, "dd")[-2].text == f"folder {evil}"
    html = notice_html(EVIL)
    assert find(html, "i") == [] and find(html, "p")[0].text == EVIL and find(html, "div")[0]["role"] == "status"


def test_notice_and_examples_have_a_place_only_where_there_are_some(tmp_path, config, monkeypatch):
    assert {"notice", "examples"} & {part.get("elem_id") for part in parts(config, "html")} == {"examples"}
    monkeypatch.setattr(predict, "EXAMPLES", tmp_path)
    html = parts(build_page(Classifier.load(), tmp_path, "Another model.").get_config_file(), "html")
    shown = {part["elem_id"]: text(part["value"]) for part in html if part.get("elem_id") in ("notice", "examples")}
    assert shown == {"notice": "Model noticeAnother model."}


# The address


def restored(page, **asked) -> list:
    """What the page changes for an address: tab, fit, top, show, true, predicted; "-": nothing."""
    (restore,) = [event.fn for event in page.fns.values() if event.fn and event.fn.__name__ == "restore"]
    return ["-" if part == gr.skip() else part for part in restore(SimpleNamespace(query_params=asked))]


def test_an_address_restores_what_it_names(page):
    assert restored(page) == ["-"] * 6
    named = {"fit": "crop", "top": "10", "show": "mistakes", "true": "cat", "predicted": "dog"}
    tab, *settings = restored(page, tab="test-images", **named)
    assert tab.selected == "test-images" and settings == ["crop", 10, "mistakes", "cat", "dog"]


@pytest.mark.parametrize("word", ["", "Predict", EVIL, "null", "-1", "2.5", "0", "11", "05", "٥"])
def test_what_an_address_names_and_there_is_not_is_ignored(page, word):
    names = ("tab", "fit", "top", "show", "true", "predicted", "other")
    assert restored(page, **dict.fromkeys(names, word)) == ["-"] * 6


def test_what_is_chosen_is_written_into_the_address_and_what_is_usual_is_left_out(config):
    scripts = [call["js"] for call in config["dependencies"] if isinstance(call["js"], str)]
    written = [re.search(r"write\((.*)\)", js)[1] for js in scripts if "write(" in js]
    assert set(written) == {
        *(f'"tab", "{tab}", "predict", null' for tab in TABS),
        *('"fit", value, "pad", null', '"top", value, 5, null', '"show", value, "all", "grid-page"'),
        *('"true", value, "<any>", "grid-page"', '"predicted", value, "<any>", "grid-page"'),
    }


# Look and silence


def test_no_style_comes_from_another_host_and_gradios_analytics_are_off():
    assert len(CSS) >= 5
    for path in CSS:
        style = path.read_text()
        assert "url(" not in style and "@import" not in style, path.name
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] == "100000"
