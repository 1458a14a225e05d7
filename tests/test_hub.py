"""Pulling a model: the real client against a Hub on the loopback interface."""

import logging
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from huggingface_hub import constants

from model import Classifier, artifact
from model import hub as model_hub
from model.artifact import ArtifactError
from model.hub import HubError, pull
from model.resnet import ResNet
from tests.hub_client import REPO, contents, environment, steps


def test_only_what_the_page_needs_is_downloaded_byte_for_byte(hub, sha, tiny_artifact):
    classifier = Classifier.load(REPO)
    assert str(classifier.source) == f"hub:{REPO}@{sha}"
    found = contents(classifier.folder)
    assert found.keys() == {artifact.CONFIG, *artifact.SERVING, *artifact.SAMPLE_FILES}
    assert found == {name: (tiny_artifact / name).read_bytes() for name in found}
    assert contents(pull(REPO, hub.commit(REPO, {"notes.md": b"new"}))[1].folder).keys() == found.keys()


def test_torch_users_get_the_weights_alone(hub, sha, tiny_artifact):
    network = ResNet.from_pretrained(REPO)
    assert not network.training
    expected = ResNet.from_pretrained(tiny_artifact).state_dict()
    assert all((tensor == expected[name]).all() for name, tensor in network.state_dict().items())
    (snapshot,) = Path(constants.HF_HUB_CACHE).glob("*/snapshots/*")
    assert contents(snapshot).keys() == {artifact.CONFIG, artifact.WEIGHTS}


@pytest.mark.parametrize("samples", [True, False])
def test_a_commit_that_is_in_the_cache_costs_no_request(hub, tiny_artifact, samples):
    files = {name: data for name, data in contents(tiny_artifact).items() if samples or "samples" not in name}
    sha = hub.add_repo(REPO, files)
    Classifier.load(REPO, sha)
    hub.log.clear()
    assert str(Classifier.load(REPO, sha).source) == f"hub:{REPO}@{sha}"
    assert steps(hub) == []
    Classifier.load(REPO)
    hub.log.clear()
    Classifier.load(REPO)
    assert steps(hub) == ["info"]  # whether the branch has moved


def test_branches_tags_and_commits_are_told_apart_a_moved_branch_is_followed(hub, sha, tiny_artifact):
    hub.repo(REPO).tags["v1"] = sha
    assert str(Classifier.load(REPO, "main").source).endswith(sha)
    newer = hub.commit(REPO, {"README.md": b"another card"})
    assert str(Classifier.load(REPO).source) == f"hub:{REPO}@{newer}"
    assert str(Classifier.load(REPO, "v1").source) == str(Classifier.load(REPO, sha).source) == f"hub:{REPO}@{sha}"


def test_a_folder_of_that_name_comes_first_and_has_no_revisions(hub, sha, tiny_artifact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_artifact, REPO)
    assert str(Classifier.load(REPO).source) == f"folder:{REPO}"
    for source in (None, REPO):
        with pytest.raises(ValueError, match="revision 'v1' names a commit of a Hub repository"):
            Classifier.load(source, revision="v1")
    for source in ("nowhere", "a/b/c", "x" * 300):
        with pytest.raises(ArtifactError, match="neither a folder nor the OWNER/NAME"):
            Classifier.load(source)
    assert steps(hub) == []


def refusal(revision=None, kind=HubError, load=Classifier.load) -> str:
    with pytest.raises(kind) as caught:
        load(REPO, revision)
    message = str(caught.value)
    assert "\n" not in message and "/snapshots/" not in message
    return message


def test_an_unknown_repository_and_one_that_must_not_be_read_are_told_alike(hub, sha, monkeypatch):
    words = "ann/resnet is not on the Hub, or is private and no token that may read it was given (HF_TOKEN)."
    hub.repo(REPO).private = True
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert refusal() in (
        words,
        "The Hub answered HTTP 401 for ann/resnet: Invalid credentials in Authorization header.",
    )
    monkeypatch.delenv("HF_TOKEN")
    assert refusal() == words
    hub.repos.clear()
    assert refusal() == words


def test_what_is_gated_and_a_revision_that_is_not_there_are_named(hub, sha, monkeypatch):
    assert refusal("v9") == "ann/resnet has no revision v9: name a branch, a tag or a commit."
    assert refusal("f" * 40) == f"ann/resnet has no revision {'f' * 40}: name a branch, a tag or a commit."
    hub.repo(REPO).gated = True
    monkeypatch.delenv("HF_TOKEN")
    assert refusal() == "ann/resnet is gated: accept its conditions on the Hub and set HF_TOKEN."


def test_a_repository_without_an_artifacts_files_is_refused_before_a_download(hub, tiny_artifact):
    hub.add_repo(REPO, {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    assert "ann/resnet lacks model.safetensors, metrics.json, history.csv, predictions.csv at " in refusal()
    assert steps(hub) == ["info"]


@pytest.mark.parametrize(("name", "size"), [("config.json", 70_000), ("model.safetensors", 5_000_000)])
def test_a_file_that_is_too_large_is_not_downloaded(hub, sha, name, size):
    hub.commit(REPO, {name: b" " * size})
    assert f"{name} of ann/resnet has {size:,} bytes" in refusal(kind=ArtifactError)
    assert not any(step.endswith("get") and name in path for step, _, path in hub.log)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", b"not json", "config.json is not valid JSON"),
        ("model.safetensors", b"<!doctype html>", "model.safetensors is damaged or altered"),
    ],
)
def test_a_commit_that_is_no_intact_artifact_is_refused_by_name(hub, sha, name, content, words):
    bad = hub.commit(REPO, {name: content})
    for load in (Classifier.load, ResNet.from_pretrained):
        assert f"hub:{REPO}@{bad} is refused: {words}" in refusal(kind=ArtifactError, load=load)
    assert str(Classifier.load(REPO, sha).source).endswith(sha)


@pytest.mark.parametrize("revision", [None, "sha"])
@pytest.mark.parametrize("name", [artifact.CONFIG, artifact.WEIGHTS])
def test_what_was_damaged_in_the_cache_is_downloaded_again(hub, sha, tiny_artifact, name, revision):
    path = Classifier.load(REPO, sha).folder / name
    path.resolve().write_bytes(path.read_bytes()[:-1] + b"?")
    hub.log.clear()
    assert str(Classifier.load(REPO, revision and sha).source).endswith(sha)
    assert path.read_bytes() == (tiny_artifact / name).read_bytes()
    assert [step for step in steps(hub) if step.endswith("get")] in (["get"], ["lfs-get"], ["get", "lfs-get"])


def test_samples_whose_download_failed_are_fetched_by_the_next_call(hub, sha):
    hub.fail("lfs-get", 403, times=1, after=1)
    refusal()
    assert contents(Classifier.load(REPO, sha).folder).keys() >= set(artifact.SAMPLE_FILES)


def test_without_the_hub_what_was_pulled_before_answers_with_a_warning(hub, sha):
    Classifier.load(REPO)
    hub.fail("info", "reset")
    with pytest.warns(
        UserWarning, match=f"connection to the Hub failed.* Using hub:{REPO}@{sha}, which was pulled before"
    ) as w:
        assert str(Classifier.load(REPO).source).endswith(sha)
    assert w[0].filename == __file__
    with pytest.raises(HubError, match="connection to the Hub failed"):
        Classifier.load(REPO, "another-branch")


def test_offline_mode_asks_nobody(hub, sha, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refusal() == "The Hub was not asked for ann/resnet, because HF_HUB_OFFLINE is set: unset it."
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    Classifier.load(REPO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.log.clear()
    with pytest.warns(UserWarning, match="HF_HUB_OFFLINE is set"):
        assert str(Classifier.load(REPO).source).endswith(sha)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert str(Classifier.load(REPO, sha).source).endswith(sha)
    assert hub.log == []


def test_a_program_ends_although_a_pull_that_was_given_up_hangs(hub, sha, tmp_path):
    hub.fail("lfs-get", "hang")
    code = f"from model import hub; hub.PULL_SECONDS = 1; hub.pull({REPO!r})"
    env = environment(hub, tmp_path / "home", PYTHONPATH=str(Path(__file__).resolve().parent.parent))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.stderr.endswith("HubError: The Hub did not finish within 1 seconds.\n")


def test_the_clients_retries_print_nothing_and_leave_its_log_as_it_was(hub, sha, caplog):
    logger = logging.getLogger("huggingface_hub.utils")
    logging.getLogger("huggingface_hub").propagate = True
    try:
        hub.fail("head", 503, times=2)
        Classifier.load(REPO)
        assert caplog.text == ""
        logger.warning("somebody else's")
        assert "somebody else's" in caplog.text
    finally:
        logging.getLogger("huggingface_hub").propagate = False


def test_a_half_pulled_commit_is_not_taken_for_a_whole_one(hub, sha):
    Classifier.load(REPO)
    newer = hub.commit(REPO, {"history.csv": b"other", "README.md": b"x"})
    hub.fail("get", "cut")
    with pytest.warns(UserWarning, match=f"Using hub:{REPO}@{sha}"):
        Classifier.load(REPO)
    assert model_hub.cached(REPO, newer) is None
    assert [snapshot.sha for snapshot in model_hub.all_cached(REPO)] == [sha]
