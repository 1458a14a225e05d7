"""Pushing an artifact: the real client against a Hub on the loopback interface, and the command line."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from PIL import Image

from model import Classifier, artifact
from model.artifact import ArtifactError
from model.hub import HubError
from tests.conftest import TINY_FLAGS
from tests.hub_client import REPO, contents, environment, steps
from trainer import __main__ as trainer
from trainer import card
from trainer import publish as publishing
from trainer.publish import publish
from trainer.run import RunError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def copy(tiny_artifact, tmp_path) -> Path:
    return shutil.copytree(tiny_artifact, tmp_path / "artifact")


def as_published(folder: Path) -> dict[str, bytes]:
    """What the repository must hold: every byte of the folder; the card with the repository's name in its code."""
    files = contents(folder)
    return files | {artifact.CARD: files[artifact.CARD].replace(b"USER/REPO", REPO.encode())}


def pushed(hub, repo=REPO, **at) -> dict[str, bytes]:
    return {name: data for name, data in hub.files(repo, **at).items() if name != ".gitattributes"}


def test_one_commit_holds_the_whole_folder_and_again_makes_none(hub, copy):
    before = contents(copy)
    (copy / ".DS_Store").write_bytes(b"x")  # hidden files stay behind
    (copy / ".cache").mkdir()
    (copy / ".cache" / "secret").write_bytes(b"x")
    done = publish(copy, REPO)
    for name in (".DS_Store", ".cache/secret"):
        (copy / name).unlink()
    created, kept, commit = hub.history(REPO)
    assert done.sha == commit and done.url == f"{hub.url}/{REPO}/commit/{commit}"
    assert pushed(hub) == as_published(copy) and artifact.SAMPLE_FILES[0] in pushed(hub)
    assert pushed(hub, revision=created) == pushed(hub, revision=kept) == {}
    assert contents(copy) == before
    assert any(re.fullmatch(r"tensorboard/(.*/)?events\.out\.tfevents\..*", name) for name in pushed(hub))
    assert Classifier.load(REPO).metrics == Classifier.load(copy).metrics
    assert publish(copy, REPO) == done and len(hub.history(REPO)) == 3


def test_what_an_earlier_artifact_left_is_removed_other_files_stay(hub, copy):
    publish(copy, REPO)
    hub.commit(REPO, {"LICENSE": b"mine", "notes/plan.md": b"mine", "figures/old.png": b"old"})
    before = len(hub.history(REPO))
    (copy / "samples" / "mistakes.png").rename(copy / "samples" / "errors.png")
    publish(copy, REPO)
    assert pushed(hub) == as_published(copy) | {"LICENSE": b"mine", "notes/plan.md": b"mine"}
    assert len(hub.history(REPO)) == before + 1


def test_a_branch_is_created_and_main_stays_as_it_was(hub, copy):
    done = publish(copy, REPO, branch="trial")
    assert hub.repo(REPO).branches["trial"] == done.sha
    assert pushed(hub) == {} and pushed(hub, revision="trial") == as_published(copy)
    assert str(Classifier.load(REPO, "trial").source) == f"hub:{REPO}@{done.sha}"


def test_a_tag_names_the_commit_and_is_never_moved(hub, copy):
    hub.fail("tag", "lost", times=1)
    with pytest.raises(HubError, match="is there, but without the tag v1"):
        publish(copy, REPO, tag="v1")
    done = publish(copy, REPO, tag="v1")  # nothing is left to do
    assert hub.repo(REPO).tags == {"v1": done.sha} and len(hub.history(REPO)) == 3
    (copy / "figures" / "curves.png").rename(copy / "curves.png")
    history, refusal = hub.history(REPO), f"The tag v1 of {REPO} exists, on {done.sha[:12]}: choose another"
    with pytest.raises(HubError, match=refusal):
        publish(copy, REPO, tag="v1")
    (copy / "curves.png").rename(copy / "figures" / "curves.png")
    history.append(hub.commit(REPO, {"notes.md": b"theirs"}))
    with pytest.raises(HubError, match=refusal):
        publish(copy, REPO, tag="v1")
    assert hub.history(REPO) == history and hub.repo(REPO).tags == {"v1": done.sha}


@pytest.mark.parametrize(
    ("name", "repo", "words"),
    [
        (artifact.CARD, REPO, "README.md is not UTF-8 text"),
        (artifact.GRAPH, REPO, "model.onnx is damaged"),
        (None, "resnet", "is not the name of a repository: give OWNER/NAME"),
        (None, REPO, "No token for the Hub: set HF_TOKEN to one with write access"),
    ],
)
def test_what_cannot_be_published_is_refused_before_the_hub_is_asked(hub, copy, monkeypatch, name, repo, words):
    if name:
        (copy / name).write_bytes(b"\xe9")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises((ArtifactError, HubError), match=words):
        publish(copy, repo)
    assert steps(hub) == []


def test_an_answer_that_the_client_cannot_read_is_told_in_a_sentence(hub, copy):
    hub.fail("create", 409)
    with pytest.raises(HubError, match=f"^The Hub gave an answer for {REPO} that its client does not understand: try"):
        publish(copy, REPO)


def test_a_public_repository_is_not_taken_for_a_private_one(hub, copy):
    publish(copy, REPO, private=True)
    assert hub.repo(REPO).private
    publish(copy, REPO, private=True)
    hub.repo(REPO).private = False
    with pytest.raises(HubError, match="exists and is public: make it private"):
        publish(copy, REPO, private=True)


def test_a_namespace_of_somebody_else_is_refused_before_anything_is_sent(hub, copy):
    hub.add_repo("bob/resnet", {"README.md": b"his"})
    with pytest.raises(HubError, match="The Hub answered HTTP 403 for bob/resnet"):
        publish(copy, "bob/resnet")
    assert hub.files("bob/resnet") == {"README.md": b"his"} and "preupload" not in steps(hub)


def test_somebody_elses_commit_in_between_is_not_overwritten(hub, copy, monkeypatch):
    publish(copy, REPO)
    (copy / artifact.CARD).write_text("---\nlicense: mit\n---\nnew\n")
    create_commit = HfApi.create_commit

    def after_another(api, *args, **kwargs):
        hub.commit(REPO, {"theirs.txt": b"theirs"})
        return create_commit(api, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(HfApi, "create_commit", after_another)
        with pytest.raises(HubError, match="HTTP 412"):
            publish(copy, REPO)
    assert pushed(hub)["theirs.txt"] == b"theirs" and b"new" not in pushed(hub)[artifact.CARD]
    publish(copy, REPO)
    assert pushed(hub) == as_published(copy) | {"theirs.txt": b"theirs"}


def test_a_silent_hub_is_left_after_the_deadline(hub, copy, monkeypatch):
    for step, deadline in (("create", "ASK_SECONDS"), ("commit", "COMMIT_SECONDS")):
        hub.fail(step, "hang")
        with monkeypatch.context() as patch:
            patch.setattr(publishing, deadline, 0.5)
            with pytest.raises(HubError, match=r"did not finish within 0\.5 seconds"):
                publish(copy, REPO)
        hub.heal()
    assert hub.files(REPO).keys() == {".gitattributes"}


# The card


def test_every_piece_of_code_in_the_published_card_runs(hub, copy, tmp_path, monkeypatch, capsys):
    publish(copy, REPO)
    Image.new("RGB", (50, 40), "teal").save(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    codes = re.findall(r"```python\n(.*?)```", pushed(hub)[artifact.CARD].decode(), re.DOTALL)
    assert len(codes) == 3
    for code in codes:
        exec(compile(code, "README.md", "exec"), {})
    plain, ours = capsys.readouterr().out.splitlines()[:3], Classifier.load(copy)
    image = Image.open(tmp_path / "image.png")
    assert plain == [f"{label:12}{p:.1%}" for label, p in ours.predict(image, top_k=3)]


def test_the_figures_that_the_card_shows_are_there(copy):
    shown = re.findall(r"!\[.*?\]\((.*?)\)", (copy / artifact.CARD).read_text())
    assert len(shown) == 4 and all((copy / name).is_file() for name in shown)


def test_the_most_frequent_mistakes_are_counted_from_the_matrix():
    sentence = card.confused_text([[5, 3, 0], [0, 9, 1], [2, 0, 8]], ["cat", "dog", "frog"])
    assert sentence.endswith(
        "cat predicted as dog (3 of 8), frog predicted as cat (2 of 10), dog predicted as frog (1 of 10)."
    )
    sentence = card.confused_text([[5, 3], [0, 9]], ["cat", "dog"])
    assert sentence == "Most frequent errors on the test images: cat predicted as dog (3 of 8)."
    assert card.confused_text([[5, 0], [0, 9]], ["cat", "dog"]) == "There is no error on the test images."


# The command line


def run(*words: str, hub, cache: Path) -> subprocess.CompletedProcess:
    """`python -m trainer ...` in a process of its own, which at its end prints the heavy packages that it imported."""
    code = (
        f"import sys, runpy\nsys.argv = ['trainer', *{list(words)!r}]\nrunpy.run_module('trainer', run_name='__main__')"
    )
    code += "\nprint({'torch', 'torchvision', 'lightning', 'matplotlib', 'gradio'} & sys.modules.keys())"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment(hub, cache), capture_output=True, text=True, timeout=120)


def test_publish_prints_the_commit_and_needs_neither_torch_nor_lightning(hub, copy, tmp_path):
    done = run("publish", str(copy), REPO, "--tag", "v1", hub=hub, cache=tmp_path / "home")
    sha = hub.history(REPO)[-1]
    assert done.stdout == f"Published: {hub.url}/{REPO}/commit/{sha} (commit {sha})\nset()\n", done.stderr
    assert done.returncode == 0 and hub.repo(REPO).tags == {"v1": sha}


@pytest.mark.slow
def test_the_command_ends_although_a_call_that_was_given_up_hangs(hub, copy, tmp_path):
    hub.fail("lfs-put", "hang")
    code = "import trainer.publish as p, trainer.__main__ as m, sys; p.COMMIT_SECONDS = 1; "
    code += f"sys.argv = ['trainer', 'publish', {str(copy)!r}, {REPO!r}]; m.main()"
    env = environment(hub, tmp_path / "home")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.startswith("Error: The Hub did not finish within 1 seconds.")


def test_a_push_that_hangs_can_be_interrupted(hub, copy, tmp_path):
    hub.fail("lfs-put", "hang")
    command = [sys.executable, "-m", "trainer", "publish", str(copy), REPO]
    env = environment(hub, tmp_path / "home")
    process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while "lfs-put" not in steps(hub) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and errors == "Stopped: interrupted by SIGINT.\n"


def test_a_failed_publish_says_how_to_repeat_it(hub, copy, capsys):
    hub.fail("commit", 500, times=1)
    command = ["publish", str(copy), REPO, "--tag", "v1", "--private"]
    before = contents(copy)
    assert trainer.run(command) == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith(f"Error: The Hub answered HTTP 500 for {REPO}")
    assert told.err.endswith(f"to try again: python -m trainer {' '.join(command)}\n") and told.err.count("\n") == 1
    assert contents(copy) == before and pushed(hub) == {}
    assert trainer.run(command) == 0 and pushed(hub) == as_published(copy)


def test_the_folder_and_then_the_right_to_push_are_checked_before_the_training(hub, tmp_path, monkeypatch):
    flags = ["--push-to-hub", REPO, "--output-dir", str(tmp_path / "run")]
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match="HTTP 401"):
        trainer.call(flags)
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    hub.log.clear()
    with pytest.raises(RunError, match="already holds a run: add --resume"):
        trainer.call(flags)
    assert steps(hub) == []


def test_training_ends_with_the_push(hub, tiny_cifar, tmp_path, capsys):
    flags = [*TINY_FLAGS, "--data-dir", str(tiny_cifar), "--output-dir", str(tmp_path / "run")]
    trainer.call([*flags, "--push-to-hub", REPO, "--private"])
    assert hub.repo(REPO).private and pushed(hub) == as_published(tmp_path / "run" / "artifact")
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"Published: {hub.url}/{REPO}/commit/")


@pytest.mark.slow
def test_a_push_that_fails_after_the_training_says_where_the_artifact_is(hub, tiny_cifar, tmp_path):
    hub.fail("preupload", 403)
    flags = [*TINY_FLAGS, "--data-dir", str(tiny_cifar), "--output-dir", str(tmp_path / "run")]
    with pytest.raises(HubError, match=f"HTTP 403.*python -m trainer publish {tmp_path}/run/artifact {REPO}"):
        trainer.call([*flags, "--push-to-hub", REPO])
    assert artifact.read(tmp_path / "run" / "artifact")
    assert os.listdir(tmp_path / "run" / "artifact" / "samples")
