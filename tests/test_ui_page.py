import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from model import Classifier
from ui.page import build_page, head_html, model_name, theme


@pytest.fixture(scope="module")
def config(tiny_artifact) -> dict:
    return build_page(Classifier.load(tiny_artifact), Path("nowhere")).get_config_file()


def test_the_page_has_three_tabs_in_this_order(config):
    tabs = [part["props"]["label"] for part in config["components"] if part["type"] == "tabitem"]
    assert tabs == ["Predict", "Test images", "Accuracy"]


def test_predict_takes_image_top_k_and_fit_and_is_the_only_call_for_others(config):
    public = [call for call in config["dependencies"] if call["api_visibility"] != "private"]
    assert [call["api_name"] for call in public] == ["predict"]
    parts = {part["id"]: part for part in config["components"]}
    assert [parts[part]["type"] for part in public[0]["inputs"]] == ["image", "slider", "radio"]
    assert [parts[part]["type"] for part in public[0]["outputs"]] == ["label", "image"]
    slider, fit = (parts[part]["props"] for part in public[0]["inputs"][1:])
    assert (slider["minimum"], slider["maximum"], slider["value"]) == (1, 10, 5)
    assert [value for _, value in fit["choices"]] == ["crop", "pad", "stretch"] and fit["value"] == "crop"


def test_without_test_images_the_tab_says_what_to_do(tiny_artifact, tmp_path):
    classifier = Classifier.load(tiny_artifact)
    classifier.folder = tmp_path
    (tmp_path / "history.csv").write_bytes((tiny_artifact / "history.csv").read_bytes())
    parts = build_page(classifier, tmp_path / "data").get_config_file()["components"]
    texts = [part["props"].get("value") or "" for part in parts if part["type"] == "html"]
    assert any("No test images to show" in text and "cifar-10-python.tar.gz" in text for text in texts)
    assert not any(part["props"].get("elem_id") == "test-images" for part in parts)


def test_the_head_says_which_model_it_is_and_how_good():
    html = head_html(
        SimpleNamespace(
            class_names=["cat", "dog", "<b>cow"],
            config={"depth": 32},
            metrics={
                "test": {"accuracy": 0.91234, "accuracy_interval": [0.9066, 0.9177], "n": 10000},
                "training": {"parameters": 464154, "recipe": "<i>mine"},
            },
            source="folder:<u>here",
        )
    )
    text = re.sub(r"<[^>]*>", " ", html)
    assert "91.23%" in text and "90.66% to 91.77%" in text
    assert "ResNet-32" in text and "464,154 weights" in text
    assert "It knows 3 things: cat, dog and &lt;b&gt;cow" in text
    assert "folder:&lt;u&gt;here" in text and "recipe: &lt;i&gt;mine" in text


def test_no_font_or_style_comes_from_another_host():
    assert all(sheet is None for sheet in theme()._stylesheets)
    assert "http" not in "".join(theme()._font_css)
    assert "url(" not in (Path(__file__).parent.parent / "ui" / "page.css").read_text()


def test_gradio_was_told_not_to_call_home_before_it_was_imported():
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_gradios_analytics_are_off_and_its_table_of_calls_is_not_rebuilt_on_every_call():
    import os

    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] == "100000"


def test_a_model_from_the_hub_is_named_by_its_repository_and_commit():
    assert model_name("hub:ann/resnet@" + "0123456789abcdef" * 2 + "01234567", "recipe: default") == (
        "ann/resnet",
        "commit 0123456789ab, recipe: default",
    )
    assert model_name("bundled", "recipe: paper") == ("bundled", "recipe: paper")
