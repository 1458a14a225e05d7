"""The tab "About & API": what happens to a picture, which model this is, and code that asks it from elsewhere.

The snippets are constants, so that the tests run what a visitor copies. On the server they carry `PAGE`; in the browser
`ON_LOAD` puts the address there under which the visitor has the page open.
"""

from html import escape

import gradio as gr

from model import Classifier
from model.artifact import Config
from model.hub import BUNDLED_NAME, Source
from model.preprocess import DRAFT_SIDE, FITS, MAX_PIXELS, MAX_PIXELS_JPEG, MAX_UPLOAD_BYTES
from ui.address import fill
from ui.api import TOP_K
from ui.uploads import KEEP_SECONDS

PAGE = "http://127.0.0.1:7860"
FOLDER = "path/to/artifact"
"""What the code calls the folder of a model: never where it lies on this server."""

HUB = "https://huggingface.co"
REPORT = "https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf"

CURL = f'curl -fsS -F image=@picture.png "{PAGE}/api/predict?top_k=3"'

PYTHON = f"""\
import httpx
found = httpx.post("{PAGE}/api/predict", files={{"image": open("picture.png", "rb")}})
print(found.json())
"""

PYTHON_BATCH = f"""\
import httpx
images = [("images", open(path, "rb")) for path in ["picture.png", "picture.png"]]
print(httpx.post("{PAGE}/api/predict/batch", files=images).json())
"""

PYTHON_CLIENT = f"""\
from gradio_client import Client, handle_file
found = Client("{PAGE}").predict(handle_file("picture.png"), top_k=3, fit="crop", api_name="/predict")
print(found)
"""

PYTHON_LOAD = """\
from PIL import Image

from model import Classifier

classifier = Classifier.load(ARGUMENTS)
picture = Image.open("picture.png")
for label, probability in classifier.predict(picture, top_k=3):
    print(label, round(probability, 3))
"""

JAVASCRIPT = f"""\
const body = new FormData();
body.append("image", file);
const response = await fetch("{PAGE}/api/predict?top_k=3", {{ method: "POST", body }});
const found = await response.json();
if (!response.ok) throw new Error(found.detail);
console.log(found.label, found.confidences);
"""

ON_LOAD = fill(
    r"""
const address = $APP;
const said = element.querySelector("[role=status]");
// What is no plain address stays out: the code is pasted into shells.
if (/^https?:\/\/[\w.:\[\]\/~%-]+$/.test(address)) {
  for (const code of element.querySelectorAll("pre code")) {
    code.textContent = code.textContent.split("PAGE").join(address);
  }
}

async function copy(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {  // without https, or where a frame may not
    window.getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
}

element.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const done = await copy(element.querySelector("#" + button.dataset.code));
  const word = button.querySelector("span");
  word.textContent = done ? "Copied" : "Press Ctrl+C";
  said.textContent = word.textContent;
  setTimeout(() => { word.textContent = "Copy"; said.textContent = ""; }, 2500);
});
""".replace("PAGE", PAGE)
)


def build_tab(classifier: Classifier, max_images: int, max_request_bytes: int) -> None:
    """Puts the tab's content into the Blocks that is being built."""
    gr.HTML(
        about(classifier, max_images, max_request_bytes), js_on_load=ON_LOAD, elem_id="about", apply_default_css=False
    )


def about(classifier: Classifier, max_images: int, max_request_bytes: int) -> str:
    """The whole tab; a request may have `max_images` and `max_request_bytes`.

    What comes from the artifact is escaped: it may be anybody's."""
    names = [escape(name) for name in classifier.class_names]
    cards = (
        _card("What happens to a picture", INTRODUCTION + steps(classifier.config), "wide"),
        _card("What it cannot do", limits_of_the_network(names, classifier.config.threshold is not None)),
        _card("Where your pictures go", UPLOADS),
        _card("Which model this is", model_facts(classifier)),
        _card("License", license_text(classifier.source)),
        _card("Client code", snippets(classifier.source), "wide"),
        _card(
            "HTTP API",
            calls_table(classifier, max_images) + call_notes(max_images, max_request_bytes),
            "wide",
        ),
    )
    return f'<div class="report about">{"".join(cards)}<p class="spoken" role="status"></p></div>'


def _card(title: str, body: str, width: str = "") -> str:
    return f'<section class="card {width}"><h2>{title}</h2>{body}</section>'


def _link(address: str, text: str) -> str:
    """A link that a visitor may follow; nothing is fetched before. In a tab of its own, because the page may stand in a
    frame, where other sites do not open."""
    return f'<a href="{escape(address)}" target="_blank" rel="noopener noreferrer">{escape(text)}</a>'


INTRODUCTION = (
    "<p>This page lets you watch a small neural network at work: what it takes a picture for, how sure it is, what in "
    "the picture it goes by, and how often it is right on pictures that it has never seen.</p>"
)

UPLOADS = (
    "<ul><li>Your picture is sent to the server of this page and decoded there. No other service gets it.</li>"
    "<li>It is not shown to other visitors, and nothing is trained with it.</li>"
    f"<li>The stored file is deleted about {KEEP_SECONDS // 60} minutes after its last use, at the latest.</li>"
    "<li>In your browser the page loads nothing from another host. The links on this tab do, when you follow them.</li>"
    "</ul>"
)


def steps(config: Config) -> str:
    """From the upload to the probabilities, in five steps."""
    told = (
        ("Your picture", "A JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC file, a camera photo, or a pasted picture."),
        (
            "Upright and square",
            "Turned as the camera noted, laid on white where it is transparent, then made square as you chose: its "
            "centre cropped, the whole of it padded with white, or stretched.",
        ),
        ("32 × 32 pixels", "All that the network ever sees. The Predict tab shows it enlarged."),
        ("The network", f"A ResNet-{config.depth} weighs those pixels into one score for each class."),
        (
            "Probabilities",
            f"The scores are divided by {config.temperature:.3g}, a number that was fitted on validation images so "
            "that of the answers given with 80% about 80 in 100 are right, and turned into shares of 100%.",
        ),
    )
    return f'<ol class="steps">{"".join(f"<li><h3>{name}</h3><p>{text}</p></li>" for name, text in told)}</ol>'


def limits_of_the_network(names: list[str], notices_others: bool) -> str:
    """`names` are escaped; `notices_others`: whether the model has the threshold of the "none of these" notice."""
    hint = (
        "<li>Where a picture is probably none of these, the page says so. That is a hint, not a test: many pictures of "
        "other things pass, and about 1 in 20 validation images does not.</li>"
    )
    return (
        f"<ul><li>It knows {len(names)} classes: {', '.join(names[:-1])} and {names[-1]}. It calls anything else one "
        "of these too: a face, a chair, a line of text.</li>"
        f"{hint if notices_others else ''}"
        "<li>It learned from small photos with one thing in the middle. Drawings, wide scenes and things at the edge "
        "mislead it, and its percentages hold for pictures like those it learned from.</li>"
        "<li>A heat map shows where the score of a class came from, in 8 × 8 fields. It does not say why.</li></ul>"
    )


def model_facts(classifier: Classifier) -> str:
    """Where the model comes from and where its card is."""
    test, source = classifier.metrics.test, classifier.source
    if source.kind == "hub":
        rows = [
            ("Source", f"Hugging Face Hub, {_link(f'{HUB}/{source.repo}/tree/{source.sha}', source.repo)}"),
            ("Commit", f"<code>{escape(source.sha)}</code>"),
            ("Card", _link(f"{HUB}/{source.repo}/blob/{source.sha}/README.md", "its model card at this commit")),
        ]
    elif source.kind == "bundled":
        rows = [
            ("Source", "bundled with this project"),
            ("Card", f"<code>{BUNDLED_NAME}/README.md</code> in the project"),
        ]
    else:
        rows = [("Source", "a folder on this server"), ("Card", "<code>README.md</code> in that folder")]
    rows += [
        ("Network", f"ResNet-{classifier.config.depth}, {classifier.metrics.training.parameters:,} weights"),
        ("Test accuracy", f"{test.accuracy:.2%} of {test.n:,} images"),
    ]
    return f"<dl>{''.join(f'<div><dt>{term}</dt><dd>{value}</dd></div>' for term, value in rows)}</dl>"


def license_text(source: Source) -> str:
    of_the_model = (
        "<p>The license of the model's weights is in its card.</p>"
        if source.kind != "bundled"
        else "<p>The same holds for the bundled model.</p>"
    )
    return (
        f"<p>The code of this page is free to use under the MIT license.</p>{of_the_model}"
        "<p>CIFAR-10, the pictures that the network learned from, is not included: it was collected by Alex "
        "Krizhevsky, Vinod Nair and Geoffrey Hinton "
        f"({_link(REPORT, 'Learning Multiple Layers of Features from Tiny Images')}, 2009).</p>"
    )


def python_load(source: Source) -> str:
    """`Classifier.load` with the arguments that give the model of this page."""
    arguments = {
        "bundled": "",
        "folder": f'"{FOLDER}"',
        "hub": f'\n    "{source.repo}",\n    revision="{source.sha}",\n',
    }
    return PYTHON_LOAD.replace("ARGUMENTS", arguments[source.kind])


def snippets(source: Source) -> str:
    """Every snippet with what it needs, each beside a button that copies it."""
    project = (
        "Without this page: in a copy of the project, after <code>pip install -r requirements-app.txt</code>. "
        "No PyTorch needed."
    )
    if source.kind == "hub":
        project += " A private or gated model takes a token in <code>HF_TOKEN</code>."
    elif source.kind == "folder":
        project += f" <code>{FOLDER}</code> is your copy of the model."
    javascript = (
        "In a browser, on a page of any site, or in Node 18 and newer; no library. <code>file</code> is what an "
        "<code>&lt;input type=file&gt;</code> holds, in Node "
        "<code>new Blob([await (await import('node:fs/promises')).readFile('picture.png')])</code>."
    )
    told = (
        ("curl", "curl", "One request with a file in it, one answer in JSON.", CURL),
        ("python", "Python", "Needs <code>pip install httpx</code>.", PYTHON),
        ("python-batch", "Python: several images", "Needs <code>pip install httpx</code>.", PYTHON_BATCH),
        ("python-client", "Python: gradio_client", "Needs <code>pip install gradio_client</code>.", PYTHON_CLIENT),
        ("javascript", "JavaScript", javascript, JAVASCRIPT),
        ("python-load", "Python: run locally", project, python_load(source)),
    )
    return (
        "<p>The code asks about a file <code>picture.png</code> in the current folder. It carries the address under "
        "which you have this page open.</p>"
        f'<div class="snippets">{"".join(snippet(*one) for one in told)}</div>'
    )


def snippet(name: str, title: str, note: str, code: str) -> str:
    """`title` and `note` are HTML, `code` is text."""
    return (
        f'<article class="snippet" id="use-{name}"><header><h3>{title}</h3>'
        f'<button type="button" class="copy" data-code="code-{name}" aria-label="Copy: {title}"><span>Copy</span>'
        f'</button></header><p>{note}</p><pre tabindex="0" role="group" aria-label="{title}">'
        f'<code id="code-{name}">{escape(code)}</code></pre></article>'
    )


def calls_table(classifier: Classifier, max_images: int) -> str:
    """What programs may call: method and path, inputs, answer."""
    top_k = f"<code>top_k</code> from 1 to {len(classifier.class_names)}"
    fit = f"<code>fit</code>: {', '.join(FITS)} ({classifier.config.fit})"
    rows = (
        (
            "POST /api/predict",
            f"field <code>image</code>; {top_k} ({min(TOP_K, len(classifier.class_names))}), {fit}",
            "<code>label</code>, <code>confidences</code>: <code>label</code> and <code>confidence</code> of each, "
            "<code>probably_none_of_these</code>, <code>milliseconds</code>",
        ),
        (
            "POST /api/predict/batch",
            f"up to {max_images} fields <code>images</code>; <code>top_k</code>, <code>fit</code>",
            "a list of the same, or <code>error</code>, in order",
        ),
        (
            "POST /api/activation-map",
            "field <code>image</code>; <code>label</code>: a class (the most probable), <code>fit</code>",
            "<code>label</code>, <code>map</code>: 8 rows of 8 numbers from 0 to 1",
        ),
        (
            "GET /api/model",
            "none",
            "<code>source</code>, <code>class_names</code>, <code>image_size</code>, <code>config</code>, "
            "<code>parameters</code>, <code>val</code> and <code>test</code> accuracy, <code>training</code>",
        ),
        ("GET /api/health", "none", "<code>status</code>"),
    )
    body = "".join(
        f'<tr><th scope="row"><code>{name}</code></th><td>{takes}</td><td>{gives}</td></tr>'
        for name, takes, gives in rows
    )
    return (
        '<div class="scroll" role="region" aria-label="HTTP API" tabindex="0"><table><thead><tr>'
        '<th scope="col">Request</th><th scope="col">Inputs (default)</th><th scope="col">Answer, JSON</th>'
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def call_notes(max_images: int, max_request_bytes: int) -> str:
    mb = 2**20
    return (
        '<ul class="notes"><li>An image is a field of <code>multipart/form-data</code>; <code>top_k</code>, '
        "<code>fit</code> and <code>label</code> stand in the address. Errors are <code>detail</code>, one sentence. "
        "<code>/openapi.json</code> describes all of it.</li>"
        "<li><code>gradio_client</code> has <code>/predict</code> and <code>/model_info</code>.</li>"
        f"<li>Limits: {MAX_UPLOAD_BYTES // mb} MB a file; {max_request_bytes // mb} MB and {max_images} files a "
        f"request; {MAX_PIXELS // 10**6} megapixels an image, {MAX_PIXELS_JPEG // 10**6} for a plain (not progressive) "
        f"JPEG with {2 * DRAFT_SIDE:,} pixels on its shorter side. What is over them is answered with HTTP 413 "
        "or an error that says so.</li>"
        "<li>HTTP 503 means that the server is busy: try again after the seconds in <code>Retry-After</code>.</li></ul>"
    )
