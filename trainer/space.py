"""The page becomes a Hugging Face Space: one commit of this project's page, and two variables that name the model.

Needs neither torch nor Lightning; gradio must be installed, but is not imported.
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from huggingface_hub import HfApi, SpaceCardData
from packaging.requirements import Requirement
from packaging.version import Version

from model import artifact, hub
from model.classifier import Classifier
from model.hub import HubError
from trainer.publish import Published, call_hub, commit, keep_line_ends, open_repo, visible_files

PROJECT = Path(__file__).resolve().parent.parent
FILES = ("app.py", "LICENSE")
FOLDERS = ("ui/", "server/", "model/", "assets/examples/", f"{hub.BUNDLED_NAME}/")
"""All that `python app.py` reads; a Space holds nothing else below these folders."""

NEEDED = (artifact.CONFIG, *artifact.SERVING)
"""Of the model's repository; fetched when the Space is built, so that it starts without asking the Hub."""


def create_space(space: str, model: str, revision: str | None = None, private: bool = False) -> Published:
    """Creates or updates the Space that serves `model` at the commit that `revision` is now.

    Raises HubError where the Hub refuses or the model's repository is incomplete, ArtifactError where the page
    would refuse the model.
    """
    files = space_files()
    info = call_hub(HfApi().model_info, model, revision=revision)
    present = {file.rfilename for file in info.siblings or []}
    classifier = Classifier.from_artifact(*hub.pull(model, info.sha))  # what the page would refuse is not hosted
    samples = [name for name in artifact.SAMPLE_FILES if name in present]
    if len(samples) < len(artifact.SAMPLE_FILES) and artifact.is_cifar10(classifier.class_names, classifier.metrics):
        raise HubError(
            f"{model} lacks sample images at {info.sha[:12]}, and a Space has no CIFAR-10 of its own: "
            "`python -m trainer publish` brings all of an exported folder."
        )
    preloaded = [*NEEDED, *samples]
    title = artifact.title(classifier.config, classifier.metrics)
    variables = {"MODEL_REPO": model, "MODEL_REVISION": info.sha}
    pairs = [{"key": key, "value": value} for key, value in variables.items()]
    open_repo(space, "space", private, space_sdk="gradio", space_variables=pairs)
    keep_line_ends(space, "space")
    hidden = bool(info.private or info.gated)
    files["README.md"] = space_card(model, info.sha, title, [] if hidden else preloaded).encode()
    done = commit(space, files, FOLDERS, f"Serve {model} at {info.sha[:12]}", repo_type="space")
    try:
        before = call_hub(HfApi().get_space_variables, space)
        for key, value in variables.items():
            if key not in before or before[key].value != value:  # each change starts the Space anew
                call_hub(HfApi().add_space_variable, space, key=key, value=value)
    except HubError as error:
        raise HubError(f"{done.url} is there, but may still show another model: {error}") from error
    return done


def space_files() -> dict[str, Path | bytes]:
    """Path in the Space -> file of this project. Raises HubError where it is incomplete."""
    files: dict[str, Path | bytes] = {name: PROJECT / name for name in FILES}
    files["requirements.txt"] = PROJECT / "requirements-app.txt"
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing := missing + [folder for folder in FOLDERS if not (PROJECT / folder).is_dir()]:
        raise HubError(f"{PROJECT} lacks {', '.join(missing)}: run this in a clone of the project.")
    for folder in FOLDERS:
        files |= {folder + name: path for name, path in visible_files(PROJECT / folder).items()}
    files["requirements.txt"] = pinned_requirements(files["requirements.txt"].read_text("utf-8")).encode()
    return files


HELD_BACK = ("pydantic",)
"""Their lines keep their bounds: gradio's extras on a Space take an older version than runs elsewhere."""


def pinned_requirements(bounds: str) -> str:
    """The lines of a requirements file at the versions that run here, so that a later build gives the same Space.

    Direct dependencies only: a Space installs gradio with the extras oauth and mcp, which hold others back. A line for
    another system stays as it is. Raises HubError.
    """
    lines = ["# Direct dependencies, as they were installed where `python -m trainer space` ran."]
    for line in filter(None, (line.partition("#")[0].strip() for line in bounds.splitlines())):
        requirement = Requirement(line)
        if requirement.name not in HELD_BACK and (requirement.marker is None or requirement.marker.evaluate()):
            line = re.sub("[<>=!~][^;]*", f"=={installed(requirement.name)}", line, count=1)
        lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def installed(package: str) -> str:
    """The version, as a package index has it. Raises HubError."""
    try:
        return Version(version(package)).public
    except PackageNotFoundError:
        raise HubError(f"{package} is not installed: pip install -r requirements-app.txt") from None


def space_card(model: str, sha: str, title: str, preloaded: list[str]) -> str:
    """README.md of the Space: front matter that the Hub obeys, then what a reader should know. `preloaded`: files of
    the model, none where it is private or gated, because a build has no token."""
    note = "\nThe model's repository is private or gated: give the Space a secret HF_TOKEN that may read it.\n"
    return (
        f"---\n{front_matter(model, sha, title, preloaded).to_yaml()}\n---\n\n# {title}\n\n"
        f"The page for [{model}](https://huggingface.co/{model}), commit `{sha}`. To show another model, duplicate "
        f"this Space and set its variables `MODEL_REPO` and `MODEL_REVISION`.\n{'' if preloaded else note}"
    )


def front_matter(model: str, sha: str, title: str, preloaded: list[str]) -> SpaceCardData:
    """https://huggingface.co/docs/hub/spaces-config-reference; what is None is left out."""
    cifar10 = title == artifact.CIFAR10_TITLE
    return SpaceCardData(
        title=title,
        emoji="🐸" if cifar10 else "📷",
        colorFrom="green",
        colorTo="blue",
        sdk="gradio",
        sdk_version=installed("gradio"),
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        app_file="app.py",
        short_description="What a small ResNet sees in small images" if cifar10 else None,
        models=[model],
        tags=["image-classification", "resnet", "onnx"],
        license="mit",
        pinned=False,
        suggested_hardware="cpu-basic",
        datasets=["cifar10"] if cifar10 else None,
        preload_from_hub=[f"{model} {','.join(preloaded)} {sha}"] if preloaded else None,
    )
