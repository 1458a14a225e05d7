"""What `git clone` gives where core.autocrlf=true, the default of Git for Windows: the same bytes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import cannot_run
from tests.hub_client import REPO, contents
from trainer.publish import publish
from trainer.space import create_space

PROJECT = Path(__file__).resolve().parent.parent
PARTS = (".gitattributes", "app.py", "model", "assets/resnet32-cifar10")


def cloned(files: dict[str, bytes], folder: Path) -> Path:
    """A clone of a repository that holds `files`, by git without git-lfs."""
    if shutil.which("git") is None:
        cannot_run("git is not installed")
    for name, data in files.items():
        (folder / "origin" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "origin" / name).write_bytes(data)
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    own |= {f"GIT_{who}_{what}": "ann" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=folder, env=os.environ | own, check=True, capture_output=True)

    git("init", "origin")
    git("-C", "origin", "add", "--all", "--force")
    git("-C", "origin", "commit", "--message", "all")
    git("-c", "core.autocrlf=true", "clone", "origin", "clone")
    shutil.rmtree(folder / "clone" / ".git")
    return folder / "clone"


def test_the_project_is_the_same_and_its_bundled_model_loads(tmp_path):
    paths = [path for part in PARTS for path in (PROJECT / part, *(PROJECT / part).rglob("*")) if path.is_file()]
    files = {path.relative_to(PROJECT).as_posix(): path.read_bytes() for path in paths if path.suffix != ".pyc"}
    clone = cloned(files, tmp_path)
    code = "import model; print(model.__file__, model.Classifier.load().source)"
    env = os.environ | {"PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=clone, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [str(clone / "model" / "__init__.py"), "bundled"], done.stderr
    assert contents(clone) == files


@pytest.mark.parametrize(
    ("repo_type", "rules"),
    [("model", b"*.bin filter=lfs diff=lfs merge=lfs -text"), ("space", b"*.csv text eol=crlf\n"), ("model", None)],
)
def test_a_published_repository_is_the_same_and_keeps_its_rules_for_lfs(
    hub, sha, tiny_artifact, tmp_path, repo_type, rules
):
    repo = "ann/page" if repo_type == "space" else "ann/other"
    hub.add_repo(repo, {".gitattributes": rules} if rules else {}, repo_type)
    for _ in range(2):
        create_space(repo, REPO) if repo_type == "space" else publish(tiny_artifact, repo)
    files = hub.files(repo, repo_type=repo_type)
    assert files[".gitattributes"] == (rules.rstrip() + b"\n" if rules else b"") + b"* -text\n"
    assert contents(cloned(files, tmp_path)) == files
