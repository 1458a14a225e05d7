"""The tab "About / use it": what happens to a picture, which model this is, and code that asks it from elsewhere.

The snippets are constants, so that the tests run what a visitor copies. On the server they carry `PAGE`; in the browser
`ON_LOAD` puts the address there under which the visitor has the page open.
"""

from html import escape

import gradio as gr

from model import Classifier
from model.artifact import Config
from model.hub import BUNDLED_NAME, Source
from model.preprocess import DRAFT_SIDE, MAX_PIXELS, MAX_PIXELS_JPEG
from ui.api import TOP_K
from ui.guard import MB, Limits
from ui.uploads import KEEP_SECONDS

PAGE = "http://127.0.0.1:7860"
FOLDER = "path/to/artifact"
"""What the code calls the folder of a model: never where it lies on this server."""

HUB = "https://huggingface.co"
REPORT = "https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf"

PYTHON_ONE = f"""\
from gradio_client import Client, handle_file

client = Client("{PAGE}")
picture = handle_file("picture.png")
answer, details = client.predict(
    picture, top_k=3, fit="crop", api_name="/predict"
)
for entry in answer["confidences"]:
    print(entry["label"], round(entry["confidence"], 3))
if details["probably_none_of_these"]:
    print("Probably none of these.")
"""

PYTHON_MANY = f"""\
from pathlib import Path

from gradio_client import Client, handle_file

client = Client("{PAGE}")
paths = sorted(Path(".").glob("*.png"))[:16]
answers = client.predict(
    [handle_file(path) for path in paths],
    top_k=3,
    fit="crop",
    api_name="/predict_batch",
)
for path, answer in zip(paths, answers):
    print(path, answer.get("label") or answer["error"])
"""

PYTHON_LOAD = """\
from PIL import Image

from model import Classifier

classifier = Classifier.load(ARGUMENTS)
picture = Image.open("picture.png")
for label, probability in classifier.predict(picture, top_k=3):
    print(label, round(probability, 3))
"""

# No comment in it: an interactive zsh takes "#" for a command.
CURL = f"""\
page={PAGE}
path=$(curl -fsS -F "files=@picture.png" \\
  "$page/gradio_api/upload" | cut -d '"' -f 2)
event=$(curl -fsS -H "Content-Type: application/json" \\
  -d '{{"data": [{{"path": "'"$path"'", "meta":
       {{"_type": "gradio.FileData"}}}}, 3, "crop"]}}' \\
  "$page/gradio_api/call/predict" | cut -d '"' -f 4)
curl -fsS -N "$page/gradio_api/call/predict/$event"
"""

JAVASCRIPT = f"""\
const api = "{PAGE}/gradio_api/";

async function ask(path, options) {{
  const response = await fetch(api + path, options);
  if (!response.ok) throw new Error(await response.text());
  return response;
}}

async function classify(picture, topK = 3, fit = "crop") {{
  const body = new FormData();
  body.append("files", picture, picture.name ?? "picture.png");
  const post = {{ method: "POST", body }};
  const uploaded = await ask("upload", post);
  const [path] = await uploaded.json();
  const file = {{ path, meta: {{ _type: "gradio.FileData" }} }};
  const called = await ask("call/predict", {{
    method: "POST",
    headers: {{ "Content-Type": "application/json" }},
    body: JSON.stringify({{ data: [file, topK, fit] }}),
  }});
  const {{ event_id }} = await called.json();
  const events = await ask("call/predict/" + event_id);
  const last = /event: (complete|error)\\ndata: (.*)/;
  const [, event, data] = (await events.text()).match(last);
  if (event === "error") throw new Error(data);
  const [answer, details] = JSON.parse(data);
  return {{ ...answer, ...details }};
}}
"""

JAVASCRIPT_BROWSER = """\
const input = document.querySelector("input[type=file]");
console.log(await classify(input.files[0]));
"""

JAVASCRIPT_NODE = """\
const { readFile } = await import("node:fs/promises");
const picture = new Blob([await readFile("picture.png")]);
console.log(await classify(picture));
"""

ON_LOAD = r"""
const address = (window.location.origin + window.location.pathname).replace(/\/+$/, "");
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


def build_tab(classifier: Classifier) -> None:
    """Puts the tab's content into the Blocks that is being built."""
    gr.HTML(about(classifier), js_on_load=ON_LOAD, elem_id="about", apply_default_css=False)


def about(classifier: Classifier) -> str:
    """The whole tab. What comes from the artifact is escaped: it may be anybody's."""
    names = [escape(name) for name in classifier.class_names]
    cards = (
        _card("What happens to a picture", INTRODUCTION + steps(classifier.config), "wide"),
        _card("What it cannot do", limits_of_the_network(names, classifier.config.threshold is not None)),
        _card("Where your pictures go", UPLOADS),
        _card("Which model this is", model_facts(classifier)),
        _card("License", license_text(classifier.source)),
        _card("Use it from a program", snippets(classifier.source), "wide"),
        _card("Calls over HTTP", calls_table(len(names), classifier.config.fit) + CALL_NOTES, "wide"),
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

LIMITS = Limits()

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
        ("Your picture", "A JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file, a camera photo, or a pasted picture."),
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
    client = "Needs <code>pip install gradio_client</code>."
    project = (
        "Without this page: in a copy of the project, after <code>pip install -r requirements-app.txt</code>. "
        "No PyTorch needed."
    )
    if source.kind == "hub":
        project += " A private or gated model takes a token in <code>HF_TOKEN</code>."
    elif source.kind == "folder":
        project += f" <code>{FOLDER}</code> is your copy of the model."
    shell = "Any POSIX shell: upload, ask, read the events. The last line printed holds the answer."
    javascript = "In a browser, on a page of any site, or in Node 18 and newer; no library. Add one of the calls."
    told = (
        ("python-one", "Python: one picture", client, PYTHON_ONE),
        ("python-many", "Python: up to 16 pictures", client, PYTHON_MANY),
        ("python-load", "Python: the model itself", project, python_load(source)),
        ("curl", "curl", shell, CURL),
        ("javascript", "JavaScript", javascript, JAVASCRIPT),
        (
            "javascript-browser",
            "JavaScript: call it in a browser",
            "In a module script of a page that has an input for files.",
            JAVASCRIPT_BROWSER,
        ),
        (
            "javascript-node",
            "JavaScript: call it in Node",
            "Below the function, in a file <code>classify.mjs</code>; then <code>node classify.mjs</code>.",
            JAVASCRIPT_NODE,
        ),
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


def calls_table(classes: int, fit: str) -> str:
    """What others may call, with inputs and outputs in order."""
    top_k = f"<code>top_k</code> from 1 to {classes} ({min(TOP_K, classes)})"
    fits = f"<code>fit</code>: crop, pad or stretch ({fit})"
    confidences = "<code>label</code>, <code>confidences</code>: <code>label</code> and <code>confidence</code> of each"
    rows = (
        (
            "/predict",
            f"<code>image</code>, {top_k}, {fits}",
            f"1. {confidences}, most probable first<br>2. <code>probably_none_of_these</code>, "
            "<code>milliseconds</code> spent in the model",
        ),
        (
            "/activation_map",
            f"<code>image</code>, <code>label</code>: a class name, {fits}",
            "8 rows of 8 numbers from 0 to 1: where the score of that class came from",
        ),
        (
            "/predict_batch",
            f"<code>files</code>: a list of up to {LIMITS.files}, {top_k}, {fits}",
            f"a list in the same order: {confidences}, and the second of <code>/predict</code>; or <code>error</code>",
        ),
        (
            "/model_info",
            "none",
            "<code>source</code>, <code>class_names</code>, <code>config</code>, <code>parameters</code>, "
            "<code>val</code> and <code>test</code> accuracy, <code>training</code>",
        ),
    )
    body = "".join(
        f'<tr><th scope="row"><code>{name}</code></th><td>{takes}</td><td>{gives}</td></tr>'
        for name, takes, gives in rows
    )
    return (
        '<div class="scroll" role="region" aria-label="Calls over HTTP" tabindex="0"><table><thead><tr>'
        '<th scope="col">Call</th><th scope="col">Inputs, in this order (default)</th><th scope="col">Outputs</th>'
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


CALL_NOTES = (
    '<ul class="notes"><li>A picture is what <code>POST /gradio_api/upload</code> stored: '
    '<code>{"path": PATH, "meta": {"_type": "gradio.FileData"}}</code>. Web addresses and data URLs are refused.</li>'
    '<li><code>POST /gradio_api/call/NAME</code> with <code>{"data": [inputs]}</code> answers '
    '<code>{"event_id": ID}</code>; <code>GET /gradio_api/call/NAME/ID</code> then sends events, the last of which is '
    "<code>complete</code> with the outputs, or <code>error</code> with the reason.</li>"
    f"<li>Limits: {LIMITS.file_bytes // MB} MB a file; {LIMITS.upload_bytes // MB} MB and {LIMITS.files} files a "
    f"request; {MAX_PIXELS // 10**6} megapixels a picture, {MAX_PIXELS_JPEG // 10**6} for a plain (not progressive) "
    f"JPEG with {2 * DRAFT_SIDE:,} pixels on its shorter side. What is over them is answered with HTTP 413 or an error "
    "that says so.</li>"
    "<li>HTTP 503 means that too many calls are waiting already: try again in a few seconds.</li></ul>"
)
