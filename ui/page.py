"""The page as a whole: head, tabs, look, and the address that a view can be shared by. `server` serves it."""

import json
from pathlib import Path

import gradio as gr

from model import Classifier, artifact
from model.hub import Source
from model.preprocess import MAX_UPLOAD_BYTES
from ui import about, accuracy, dataset_browser, predict
from ui.api import build_api
from ui.dataset_browser import DatasetBrowser
from ui.render import render, script

TABS = ("predict", "test-images", "accuracy", "about")
"""Ids of the tabs, as `?tab=` names them."""


def build_page(
    classifier: Classifier,
    data_dir: Path,
    notice: str | None = None,
    max_images: int = 1,
    max_request_bytes: int = MAX_UPLOAD_BYTES,
) -> gr.Blocks:
    """The page for one classifier. `data_dir` may hold CIFAR-10, for test images that the artifact does not bring.
    `notice` stands at the top: why this is not the model that was asked for. A request may have `max_images` and
    `max_request_bytes`. Raises ArtifactError."""
    browser = DatasetBrowser(classifier, data_dir)
    with gr.Blocks(title=artifact.title(classifier.config, classifier.metrics)) as page:
        if notice:
            gr.HTML(render("notice.html", notice=notice), elem_id="notice", apply_default_css=False)
        gr.HTML(head_html(classifier), elem_id="head", apply_default_css=False, js_on_load=script("address.js"))
        with gr.Tabs() as tabs:
            with gr.Tab("Predict", id="predict") as first:
                settings = predict.build_tab(classifier, max_images, browser)
            with gr.Tab("Test images", id="test-images") as second:
                filters = dataset_browser.build_tab(browser)
            with gr.Tab("Evaluation", id="accuracy") as third:
                accuracy.build_tab(classifier, browser.cell_html)
            with gr.Tab("About & API", id="about") as fourth:
                about.build_tab(classifier, max_images, max_request_bytes)
        build_api(classifier)
        for tab in (first, second, third, fourth):
            tab.select(None, js=write_js("tab", TABS[0], json.dumps(tab.id)), api_visibility="private")
        for name, part in settings.items():
            part.change(None, part, None, js=write_js(name, part.value), api_visibility="private")
        for name, part in filters.items():
            js = write_js(name, part.value, reset=dataset_browser.PAGE)
            part.change(None, part, None, js=js, api_visibility="private")
        restore_from_address(page, tabs, settings | filters)
    return page


def write_js(name: str, usual: object, value: str = "value", reset: str | None = None) -> str:
    """A JavaScript function that writes a choice into the address; see static/address.js."""
    arguments = f"{json.dumps(name)}, {value}, {json.dumps(usual)}, {json.dumps(reset)}"
    return f"(value) => {{ globalThis.pageAddress?.write({arguments}); }}"


def restore_from_address(page: gr.Blocks, tabs: gr.Tabs, parts: dict[str, gr.components.Component]) -> None:
    """Chooses what `?tab=...` and the parameters of `parts` say when the page is opened. What they name and there is
    not is ignored. The scripts of the tabs read the rest: page and image of the grid, cell of the confusion matrix."""

    def restore(request: gr.Request):
        asked = dict(request.query_params)
        tab = gr.Tabs(selected=asked["tab"]) if asked.get("tab") in TABS else gr.skip()
        return [tab, *(_allowed(part, asked.get(name)) for name, part in parts.items())]

    restored = page.load(restore, None, [tabs, *parts.values()], show_progress="hidden", api_visibility="private")
    restored.then(None, js="() => { pageAddress.start(); }", api_visibility="private")


def _allowed(part: gr.components.Component, word: str | None):
    """The value that a word of the address stands for."""
    if isinstance(part, gr.Slider):
        values = range(part.minimum, part.maximum + 1)
    else:
        values = [choice for _, choice in part.choices]
    return {str(value): value for value in values}.get(word, gr.skip())


def head_html(classifier: Classifier) -> str:
    """Title, what the network recognizes, and which model this is."""
    test = classifier.metrics.test
    low, high = test.accuracy_interval
    facts = (
        ("Test accuracy", f"{test.accuracy:.2%}", f"{low:.2%} to {high:.2%} (95% CI)"),
        ("Network", f"ResNet-{classifier.config.depth}", f"{classifier.metrics.training.parameters:,} parameters"),
        ("Model", *model_name(classifier.source)),
    )
    names, size = classifier.class_names, classifier.config.image_size
    return render(
        "head.html", title=artifact.title(classifier.config, classifier.metrics), names=names, size=size, facts=facts
    )


def model_name(source: Source) -> tuple[str, str]:
    """What to call the model of a `Classifier.source`, and where it comes from."""
    if source.kind == "hub":
        return source.repo, f"Hugging Face Hub, commit {source.sha[:12]}"
    return source.public.replace(":", " ", 1), "with this project" if source.kind == "bundled" else "on this server"


def theme() -> gr.themes.Base:
    """One accent, neutral grays, and fonts that gradio serves itself: no request leaves the host."""
    sans = gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700))
    mono = gr.themes.LocalFont("IBM Plex Mono", weights=(400,))
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_md,
        font=[sans, "system-ui", "sans-serif"],
        font_mono=[mono, "ui-monospace", "monospace"],
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_shadow="none",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
    )
