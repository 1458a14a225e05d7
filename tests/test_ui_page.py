"""The page as a whole: head, tabs, address, calls for others, and that nothing on it is markup or from another host."""

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
from ui.page import TABS, build_page, head_html
from ui.render import CSS, FOLDER, render

FROM_PROJECT = Source("bundled", BUNDLED)
FROM_FOLDER = Source("folder", Path("/home/ann/runs/mine"))
FROM_HUB = Source("hub", Path("/home/ann/cache"), "ann/resnet", "0123456789abcdef" * 2 + "01234567")


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


def test_the_page_has_four_tabs_and_programs_have_two_calls_as_the_docs_say(config):
    tabs = [(tab["id"], tab["label"]) for tab in parts(config, "tabitem")]
    names = ["Predict", "Test images", "Evaluation", "About & API"]
    assert tabs == list(zip(("predict", "test-images", "accuracy", "about"), names, strict=True))
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


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (FROM_PROJECT, ["bundled", "with this project"]),
        (FROM_FOLDER, ["folder mine", "on this server"]),
        (FROM_HUB, ["ann/resnet", "Hugging Face Hub, commit 0123456789ab"]),
    ],
)
def test_the_head_says_which_model_it_is_and_how_good_and_not_where_it_lies(source, name):
    found = artifact.read(BUNDLED)
    model = SimpleNamespace(class_names=["cat", "cow", EVIL], config=found.config, metrics=found.metrics, source=source)
    html = head_html(model)
    assert [term.text for term in find(html, "dt")] == ["Test accuracy", "Network", "Model"]
    right, (low, high) = found.metrics.test.correct, found.metrics.test.accuracy_interval
    accuracy = [f"{right / 100:.2f}%", f"{low:.2%} to {high:.2%} (95% CI)", "ResNet-32", "464,154 parameters"]
    assert [value.text for value in find(html, "dd")] == [*accuracy, *name]
    assert f"Recognizes 3 classes: cat, cow and {EVIL}." in text(html) and "/home" not in html
    model.class_names = [*map(str, range(100))]
    assert "Recognizes 100 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 90 more." in text(head_html(model))


def test_notice_and_examples_have_a_place_only_where_there_are_some(tmp_path, config, monkeypatch):
    assert {"notice", "examples"} & {part.get("elem_id") for part in parts(config, "html")} == {"examples"}
    monkeypatch.setattr(predict, "EXAMPLES", tmp_path)
    html = parts(build_page(Classifier.load(), tmp_path, "Another model.").get_config_file(), "html")
    shown = {part["elem_id"]: text(part["value"]) for part in html if part.get("elem_id") in ("notice", "examples")}
    assert shown == {"notice": "Model noticeAnother model."}


# What an artifact or a visitor says


def test_no_text_brings_markup_in_any_template_and_python_makes_none():
    html = render("notice.html", notice=EVIL)
    assert find(html, "i") == [] and find(html, "p")[0].text == EVIL
    button = find(render("examples.html", examples={EVIL: "data:,"}, side=96), "button")[0]
    assert button["data-name"] == button.text == EVIL
    for path in FOLDER.rglob("*.html"):
        source = path.read_text()
        assert not re.search(r"\|\s*safe|autoescape|=\{\{|<script|\son\w+=", source), path
        assert not re.search(r'="[^"<>]*tojson(?!\|forceescape)', source), path
    code = {path.name: path.read_text() for path in FOLDER.glob("*.py")}
    assert [name for name, text in code.items() if "Markup(" in text] == ["render.py"]
    assert not [name for name, text in code.items() if re.search(r"</|<\w+[ >]", text.replace("<any>", ""))]


# The address


def restored(page, **asked) -> list:
    """What the page changes for an address: tab, fit, top, show, true, predicted; "-": nothing."""
    (restore,) = [event.fn for event in page.fns.values() if event.fn and event.fn.__name__ == "restore"]
    return ["-" if part == gr.skip() else part for part in restore(SimpleNamespace(query_params=asked))]


def test_an_address_restores_what_it_names_and_ignores_what_there_is_not(page):
    named = {"fit": "crop", "top": "10", "show": "mistakes", "true": "cat", "predicted": "dog"}
    tab, *settings = restored(page, tab="test-images", **named)
    assert tab.selected == "test-images" and settings == ["crop", 10, "mistakes", "cat", "dog"]
    assert restored(page) == ["-"] * 6
    for word in ("", "Predict", EVIL, "null", "-1", "2.5", "0", "11", "05", "٥"):
        assert restored(page, **dict.fromkeys(("tab", *named, "other"), word)) == ["-"] * 6, word


def test_what_is_chosen_is_written_into_the_address_and_what_is_usual_is_left_out(config):
    scripts = [call["js"] for call in config["dependencies"] if isinstance(call["js"], str)]
    written = [re.search(r"write\((.*)\)", js)[1] for js in scripts if "write(" in js]
    assert set(written) == {
        *(f'"tab", "{tab}", "predict", null' for tab in TABS),
        *('"fit", value, "pad", null', '"top", value, 5, null', '"show", value, "all", "grid-page"'),
        *('"true", value, "<any>", "grid-page"', '"predicted", value, "<any>", "grid-page"'),
    }


def test_no_style_comes_from_another_host_and_gradios_analytics_are_off():
    assert len(CSS) >= 5 and not any(re.search(r"url\(|@import", path.read_text()) for path in CSS)
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] == "100000"
