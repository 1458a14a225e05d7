"""The tab "About & API": how it works, which model this is, and code that asks it from elsewhere.

The code that a visitor copies stands in `templates/snippets/`, where the tests run it. On the server it carries `PAGE`;
in the browser `about.js` puts the address there under which the visitor has the page open.
"""

import gradio as gr

from model import Classifier
from model.artifact import is_cifar10
from model.hub import BUNDLED_NAME, Source
from model.preprocess import DRAFT_SIDE, FITS, MAX_PIXELS, MAX_PIXELS_JPEG, MAX_UPLOAD_BYTES
from ui.api import TOP_K
from ui.render import FOLDER, render, script
from ui.uploads import KEEP_SECONDS

PAGE = "http://127.0.0.1:7860"
MODEL_FOLDER = "path/to/artifact"
"""What the code calls the folder of a model: never where it lies on this server."""

SNIPPETS = {path.stem: path.read_text("utf-8").strip() for path in (FOLDER / "templates" / "snippets").iterdir()}
"""Code by name; `ARGUMENTS` in that which loads the model stands for what `snippets` puts there."""


def build_tab(classifier: Classifier, max_images: int, max_request_bytes: int) -> None:
    """Puts the tab's content into the Blocks that is being built."""
    gr.HTML(
        about_html(classifier, max_images, max_request_bytes),
        js_on_load=script("address.js", "about.js"),
        elem_id="about",
        apply_default_css=False,
    )


def about_html(classifier: Classifier, max_images: int, max_request_bytes: int) -> str:
    """The whole tab; a request may have `max_images` and `max_request_bytes`."""
    source, names, test = classifier.source, classifier.class_names, classifier.metrics.test
    return render(
        "about.html",
        page=PAGE,
        names=names,
        cifar10=is_cifar10(classifier.class_names, classifier.metrics),
        config=classifier.config,
        parameters=f"{classifier.metrics.training.parameters:,}",
        accuracy=f"{test.accuracy:.2%} of {test.n:,} images",
        source=source,
        repository=f"https://huggingface.co/{source.repo}",
        bundled=BUNDLED_NAME,
        model_folder=MODEL_FOLDER,
        code=snippets(source),
        fits=FITS,
        top_k=min(TOP_K, len(names)),
        keep_minutes=KEEP_SECONDS // 60,
        file_mb=MAX_UPLOAD_BYTES // 2**20,
        request_mb=max_request_bytes // 2**20,
        max_images=max_images,
        megapixels=MAX_PIXELS // 10**6,
        megapixels_jpeg=MAX_PIXELS_JPEG // 10**6,
        jpeg_side=f"{2 * DRAFT_SIDE:,}",
    )


def snippets(source: Source) -> dict[str, str]:
    """The code by name; `Classifier.load` has the arguments that give the model of this page."""
    arguments = {
        "bundled": "",
        "folder": f'"{MODEL_FOLDER}"',
        "hub": f'\n    "{source.repo}",\n    revision="{source.sha}",\n',
    }
    return SNIPPETS | {"python-load": SNIPPETS["python-load"].replace("ARGUMENTS", arguments[source.kind])}
