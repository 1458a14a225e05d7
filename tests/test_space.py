"""Hosting the page: the Space that `python -m trainer space` makes, on a Hub on the loopback interface."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml

from model import artifact
from model.artifact import ArtifactError
from model.hub import HubError
from tests.hub_client import REPO, contents, environment, json_with, steps
from tests.test_publish import ROOT, run
from trainer import space as hosting
from trainer.space import create_space

SPACE = "ann/page"


def tree(hub) -> dict[str, bytes]:
    return hub.files(SPACE, repo_type="space")


def front_matter(hub) -> dict:
    return yaml.safe_load(tree(hub)["README.md"].decode().split("---\n")[1])


def test_one_commit_holds_all_that_the_page_needs_and_nothing_of_the_trainer(hub, sha):
    done = create_space(SPACE, REPO)
    created, kept, commit = hub.history(SPACE, repo_type="space")
    assert hub.files(SPACE, kept, repo_type="space").keys() == {".gitattributes"}
    assert done.sha == commit and done.url == f"{hub.url}/spaces/{SPACE}/commit/{commit}"
    found = tree(hub)
    for name in ("app.py", "ui/page.py", "ui/templates/head.html", "assets/resnet32-cifar10/model.onnx"):
        assert found[name] == (ROOT / name).read_bytes()
    folders = {name.split("/")[0] for name in found}
    expected = ".gitattributes LICENSE README.md app.py assets model requirements.txt server ui"
    assert folders == set(expected.split())
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in found)


def test_the_model_is_pinned_to_the_commit_that_the_revision_is_now(hub, sha):
    create_space(SPACE, REPO)
    assert hub.repo(SPACE, "space").variables == {"MODEL_REPO": REPO, "MODEL_REVISION": sha}
    hub.repo(REPO).tags["v1"] = sha
    newer = hub.commit(REPO, {"README.md": b"new"})
    create_space(SPACE, REPO)
    assert hub.repo(SPACE, "space").variables["MODEL_REVISION"] == newer
    create_space(SPACE, REPO, revision="v1")
    assert hub.repo(SPACE, "space").variables["MODEL_REVISION"] == sha


def test_the_front_matter_is_what_the_hub_reads(hub, sha):
    create_space(SPACE, REPO)
    matter = front_matter(hub)
    files = ",".join((artifact.CONFIG, *artifact.SERVING, *artifact.SAMPLE_FILES))
    assert matter["preload_from_hub"] == [f"{REPO} {files} {sha}"]
    assert hub.repo(SPACE, "space").sdk == matter["sdk"] == "gradio"
    assert matter["sdk_version"] == version("gradio")
    assert matter["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert matter["app_file"] in tree(hub) and matter["models"] == [REPO]
    assert 0 < len(matter["short_description"]) <= 60 and len(matter["emoji"]) == 1
    colors = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {matter["colorFrom"], matter["colorTo"]} <= colors
    assert matter["license"] == "mit" and matter["pinned"] is False and matter["title"]


def test_the_space_installs_the_versions_that_run_here(hub, sha):
    """Bounds alone would build another Space next year: some of 2023 no longer start."""
    create_space(SPACE, REPO)
    comment, *lines = tree(hub)["requirements.txt"].decode().splitlines()
    given = [line for line in (ROOT / "requirements-app.txt").read_text().splitlines() if not line.startswith("#")]
    names = [re.match(r"[\w-]+", line)[0] for line in given]
    markers = [line.partition(";")[1:] for line in given]
    expected = [f"{name}=={version(name)}{''.join(marker)}" for name, marker in zip(names, markers, strict=True)]
    expected = ["pydantic>=2.11,<3" if line.startswith("pydantic==") else line for line in expected]
    assert comment.startswith("#") and lines == expected and any("; sys_platform" in line for line in lines)
    assert f"gradio=={front_matter(hub)['sdk_version']}" in lines


def test_a_line_keeps_extras_and_marker_one_for_another_system_its_bounds(monkeypatch):
    monkeypatch.setattr(hosting, "version", lambda name: "2.4.6+cpu")  # the local part is left out
    elsewhere = 'not-here>=1,<2; sys_platform == "vms"'
    found = hosting.pinned_requirements(f"# bounds\n\ngradio[mcp]>=2,<3  # the page\n{elsewhere}\n")
    assert found.splitlines()[1:] == ["gradio[mcp]==2.4.6", elsewhere]


def test_a_package_that_is_not_installed_is_named_before_the_hub_is_asked(hub, monkeypatch):
    def missing(name: str) -> str:
        if name == "httptools":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(hosting, "version", missing)
    with pytest.raises(HubError, match=r"^httptools is not installed: pip install -r requirements-app\.txt$"):
        create_space(SPACE, REPO)
    assert steps(hub) == []


@pytest.mark.slow
def test_what_the_space_installs_can_be_installed_together(tmp_path):
    """With the extras that a Space adds to gradio; they hold pydantic back."""
    (tmp_path / "requirements.txt").write_bytes(hosting.space_files()["requirements.txt"])
    command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed"]
    command += ["-r", "requirements.txt", f"gradio[oauth,mcp]=={version('gradio')}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_again_makes_no_commit_a_file_that_the_page_lost_is_removed(hub, sha):
    create_space(SPACE, REPO)
    assert create_space(SPACE, REPO).sha == hub.history(SPACE, repo_type="space")[-1]
    assert len(hub.history(SPACE, repo_type="space")) == 3
    hub.commit(SPACE, {"ui/old_tab.py": b"import torch", "notes.md": b"mine"}, repo_type="space")
    create_space(SPACE, REPO)
    assert "ui/old_tab.py" not in tree(hub) and tree(hub)["notes.md"] == b"mine"


@pytest.mark.parametrize(
    ("missing", "words"), [("model.safetensors", "model.safetensors at"), ("samples/test.png", "sample images at")]
)
def test_an_incomplete_model_of_cifar10_is_refused_with_the_reason(hub, sha, missing, words):
    hub.commit(REPO, {missing: None})
    with pytest.raises(HubError, match=f"{REPO} lacks {words} .*publish` (brings|writes) all"):
        create_space(SPACE, REPO)
    assert ("space", SPACE) not in hub.repos


def test_a_model_that_the_page_would_refuse_is_not_hosted(hub, sha):
    hub.commit(REPO, {"config.json": json_with(hub, "config.json", temperature=-1)})
    with pytest.raises(ArtifactError, match="is refused: config.json has temperature"):
        create_space(SPACE, REPO)
    assert ("space", SPACE) not in hub.repos


def test_a_private_model_needs_a_secret_and_the_card_says_so(hub, sha):
    create_space(SPACE, REPO)
    assert "HF_TOKEN" not in tree(hub)["README.md"].decode()
    hub.repo(REPO).private = True
    create_space(SPACE, REPO)
    assert "give the Space a secret HF_TOKEN that may read it" in tree(hub)["README.md"].decode()
    assert "hf_loopback" not in str(hub.repo(SPACE, "space").variables)
    assert "preload_from_hub" not in front_matter(hub)


def test_only_variables_that_differ_are_written_later(hub, sha):
    create_space(SPACE, REPO)
    assert "variable" not in [step for step, method, _ in hub.log if method == "POST"]
    newer = hub.commit(REPO, {"README.md": b"new"})
    hub.log.clear()
    create_space(SPACE, REPO)
    written = [path for step, method, path in hub.log if step == "variable" and method == "POST"]
    assert len(written) == 1 and hub.repo(SPACE, "space").variables["MODEL_REVISION"] == newer
    hub.commit(REPO, {"README.md": b"newer"})
    hub.fail("variable", 500)
    with pytest.raises(HubError, match="is there, but may still show another model: The Hub answered HTTP 500"):
        create_space(SPACE, REPO)


def test_a_folder_of_that_name_does_not_stand_for_the_repository(hub, sha, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / REPO).mkdir(parents=True)
    assert create_space(SPACE, REPO).sha


def test_what_is_no_repository_is_refused(hub):
    with pytest.raises(HubError, match="is no valid name on the Hub"):
        create_space(SPACE, "assets/resnet32-cifar10/model.onnx")
    assert steps(hub) == []


def test_an_incomplete_project_is_named(hub, sha, tmp_path, monkeypatch):
    monkeypatch.setattr(hosting, "PROJECT", tmp_path)
    with pytest.raises(HubError, match=r"lacks app\.py, LICENSE, requirements\.txt, ui/, .*: run this in a clone"):
        create_space(SPACE, REPO)


def test_the_command_prints_the_address_and_needs_neither_torch_nor_gradio(hub, sha, tmp_path):
    done = run("space", SPACE, "--model", REPO, hub=hub, cache=tmp_path / "home")
    commit = hub.history(SPACE, repo_type="space")[-1]
    expected = f"The page is being built: {hub.url}/spaces/{SPACE} (commit {commit})\nset()\n"
    assert done.stdout == expected, done.stderr
    assert done.returncode == 0


def test_the_uploaded_tree_imports_by_itself(hub, sha, tmp_path):
    """As the Space would: nothing of this project on the path but what was uploaded."""
    create_space(SPACE, REPO)
    write_tree(hub, tmp_path / "space")
    code = "import app, server.run, sys; print(app.__file__); assert 'torch' not in sys.modules"
    env = environment(hub, tmp_path / "home") | {"PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "space", env=env, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == str(tmp_path / "space" / "app.py"), done.stderr


def write_tree(hub, folder: Path) -> Path:
    """The Space's files as a checkout."""
    for name, data in tree(hub).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert contents(folder).keys() == tree(hub).keys()
    return folder
