"""The page as a whole: head, three tabs, look, and how it is served."""

from html import escape
from pathlib import Path

import gradio as gr

from model import Classifier
from ui import accuracy, predict, test_images

TITLE = "CIFAR-10 image classifier"
CSS = Path(__file__).with_name("page.css")

HOUR = 3600
MAX_UPLOAD = "20mb"


def build_page(classifier: Classifier, data_dir: Path, notice: str | None = None) -> gr.Blocks:
    """The page for one classifier. `data_dir` may hold CIFAR-10, for test images that the artifact does not bring.
    `notice` stands at the top: why this is not the model that was asked for."""
    with gr.Blocks(title=TITLE, delete_cache=(HOUR, 24 * HOUR)) as page:
        if notice:
            gr.HTML(notice_html(notice), elem_id="notice", apply_default_css=False)
        gr.HTML(head_html(classifier), elem_id="head", apply_default_css=False)
        with gr.Tabs():
            with gr.Tab("Predict", id="predict"):
                predict.build_tab(classifier)
            with gr.Tab("Test images", id="test-images-tab"):
                test_images.build_tab(classifier, data_dir)
            with gr.Tab("Accuracy", id="accuracy"):
                accuracy.build_tab(classifier)
    # A prediction takes milliseconds; decoding a large photo is what may overlap.
    # api_open=False closes the routes that would go round the queue; /predict through it stays open.
    page.queue(max_size=64, default_concurrency_limit=4, api_open=False)
    return page


def notice_html(notice: str) -> str:
    return (
        f'<div class="notice" role="status"><strong>About the model on this page</strong><p>{escape(notice)}</p></div>'
    )


def head_html(classifier: Classifier) -> str:
    """Title, what the network knows, and which model this is."""
    test, training = classifier.metrics["test"], classifier.metrics["training"]
    low, high = test["accuracy_interval"]
    names = [escape(name) for name in classifier.class_names]
    known = f"{', '.join(names[:-1])} and {names[-1]}"
    facts = (
        ("Test accuracy", f"{test['accuracy']:.2%}", f"{low:.2%} to {high:.2%} (95%)"),
        ("Network", f"ResNet-{classifier.config['depth']}", f"{training['parameters']:,} weights"),
        ("Model", *model_name(classifier.source, f"recipe: {training['recipe']}")),
    )
    tiles = "".join(
        f"<div><dt>{term}</dt><dd{' class=long' if len(value) > 16 else ''}>{escape(value)}</dd>"
        f'<dd class="small">{escape(note)}</dd></div>'
        for term, value, note in facts
    )
    return (
        f"<header><div><h1>{TITLE}</h1><p>It knows {len(names)} things: {known}. "
        "It looks at 32 × 32 pixels, and calls any other picture one of these too.</p></div>"
        f"<dl>{tiles}</dl></header>"
    )


def model_name(source: str, recipe: str) -> tuple[str, str]:
    """What to call the model of a `Classifier.source`, and the small print, where a commit of the Hub goes."""
    if not source.startswith("hub:"):
        return source, recipe
    repo, sha = source.removeprefix("hub:").split("@")
    return repo, f"commit {sha[:12]}, {recipe}"


def theme() -> gr.themes.Base:
    """One accent, neutral greys, and fonts that gradio serves itself: no request leaves the host."""
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
        stat_background_fill="*primary_500",
        stat_background_fill_dark="*primary_500",
        block_label_background_fill="*block_background_fill",
        block_label_background_fill_dark="*block_background_fill",
        block_label_border_width="0px",
        block_label_border_width_dark="0px",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_600",
        block_title_text_color_dark="*neutral_300",
    )


def launch(page: gr.Blocks, host: str | None = None, port: int | None = None) -> str:
    """Serves the page in the background and returns its address. None: GRADIO_SERVER_NAME and GRADIO_SERVER_PORT,
    else 127.0.0.1 and the first free port from 7860. Raises OSError where it cannot listen."""
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        ssr_mode=False,
        show_error=False,  # only `gr.Error` messages reach a visitor, never the text of another exception
        enable_monitoring=False,
        run_history=False,
        max_file_size=MAX_UPLOAD,
        max_threads=8,
        state_session_capacity=64,
        allowed_paths=[str(predict.EXAMPLES)],
        theme=theme(),
        css_paths=CSS,
        footer_links=["api", "settings"],
    )
    return address
