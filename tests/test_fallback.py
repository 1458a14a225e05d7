"""What the page serves where the model that it was asked for cannot be had."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from model import artifact, fallback
from model.artifact import ArtifactError
from model.fallback import load_or_fall_back
from tests.hub_client import REPO, contents, json_with

AT_ONCE = 15
"""Seconds: less than the client's own tries take where nobody listens (23 or more), and many times what ours does."""


@pytest.fixture(autouse=True)
def long_deadline(monkeypatch):
    monkeypatch.setattr(fallback, "START_SECONDS", 120)


@pytest.fixture
def short_deadline(monkeypatch) -> Callable[[], None]:
    """For what comes after its call: only a Hub that is silent should meet it."""
    return lambda: monkeypatch.setattr(fallback, "START_SECONDS", 1)


@pytest.fixture
def refused_hub(monkeypatch) -> Iterator[str]:
    """Nobody listens at the Hub's address any more."""
    with socket.socket() as deaf:  # open, lest somebody else's server gets the port
        deaf.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        yield url


def test_what_can_be_had_comes_without_a_word(hub, sha, tiny_artifact):
    assert load_or_fall_back(None)[1] is None
    assert load_or_fall_back(tiny_artifact)[1] is None
    classifier, notice = load_or_fall_back(REPO)
    assert str(classifier.source) == f"hub:{REPO}@{sha}" and notice is None


def test_a_folder_that_is_no_artifact_is_an_error(tmp_path):
    with pytest.raises(ArtifactError):
        load_or_fall_back(tmp_path)
    with pytest.raises(ArtifactError):
        load_or_fall_back("no/such/folder")
    for name in ("ann/--x", "../no-such-folder", "ann/x.git"):  # no repository can be called so
        with pytest.raises(ArtifactError, match="neither a folder nor the OWNER/NAME"):
            load_or_fall_back(name)
    with pytest.raises(ValueError, match="names a commit of a Hub repository"):
        load_or_fall_back(None, "v1")


FAULTS = {
    "reset": ("reset", "The connection to the Hub failed for ann/resnet"),
    "silent": ("hang", "The Hub did not finish within 1 seconds."),
    "rate-limited": ((429, {"Retry-After": "600"}), "HTTP 429 for ann/resnet: too many requests"),
}


@pytest.mark.parametrize(("fault", "reason"), FAULTS.values(), ids=FAULTS)
def test_without_the_hub_the_copy_pulled_before_is_served_with_the_reason(hub, sha, short_deadline, fault, reason):
    load_or_fall_back(REPO)
    hub.fail("info", fault)
    if fault == "hang":
        short_deadline()
    started = time.monotonic()
    classifier, notice = load_or_fall_back(REPO)
    assert str(classifier.source) == f"hub:{REPO}@{sha}"
    assert reason in notice and f"This page uses commit {sha[:12]} of {REPO}, which was downloaded before." in notice
    assert time.monotonic() - started < AT_ONCE


def test_with_nothing_pulled_before_the_bundled_model_is_served(hub, sha):
    fault, reason = FAULTS["rate-limited"]
    hub.fail("info", fault)
    classifier, notice = load_or_fall_back(REPO)
    assert str(classifier.source) == "bundled"
    assert reason in notice and f"This page uses the bundled model instead of {REPO}." in notice


def test_nobody_at_the_address_is_told_at_once(hub, sha, refused_hub):
    started = time.monotonic()
    classifier, notice = load_or_fall_back(REPO)
    assert str(classifier.source) == "bundled" and "connection to the Hub failed" in notice
    assert time.monotonic() - started < AT_ONCE


def test_another_commit_of_the_repository_comes_before_the_bundled_model(hub, sha):
    load_or_fall_back(REPO)
    newer = hub.commit(REPO, {"README.md": b"new"})
    hub.fail("info", 503)
    classifier, notice = load_or_fall_back(REPO, newer)
    assert str(classifier.source) == f"hub:{REPO}@{sha}" and f"uses commit {sha[:12]}" in notice


def test_a_new_commit_that_is_refused_leaves_the_old_one_serving(hub, sha):
    load_or_fall_back(REPO)
    bad = hub.commit(REPO, {"config.json": json_with(hub, "config.json", class_names=["<b>x"] * 10)})
    classifier, notice = load_or_fall_back(REPO)
    assert str(classifier.source) == f"hub:{REPO}@{sha}"
    assert f"hub:{REPO}@{bad} is refused: config.json has class_names" in notice
    assert f"uses commit {sha[:12]}" in notice


def test_a_refused_commit_does_not_cost_the_files_it_shares_with_the_old_one(hub, sha):
    name = artifact.WEIGHTS
    load_or_fall_back(REPO)
    digests = json.loads(hub.files(REPO)["config.json"])["sha256"] | {name: "0" * 64}
    bad = hub.commit(REPO, {"config.json": json_with(hub, "config.json", sha256=digests)})
    for _ in range(2):
        classifier, notice = load_or_fall_back(REPO)
        assert str(classifier.source) == f"hub:{REPO}@{sha}"
        assert f"hub:{REPO}@{bad} is refused: {name} is damaged or altered" in notice


def test_a_network_that_is_not_what_it_claims_is_passed_over(hub, sha):
    load_or_fall_back(REPO)
    logits = json.loads(hub.files(REPO)["config.json"])["expected_logits"]
    hub.commit(REPO, {"config.json": json_with(hub, "config.json", expected_logits=[x + 1 for x in logits])})
    for _ in range(2):  # the second time from the cache
        classifier, notice = load_or_fall_back(REPO)
        assert str(classifier.source) == f"hub:{REPO}@{sha}"
        assert "model.safetensors does not answer as config.json expects" in notice
        assert "/" not in notice.replace(REPO, "")


def test_the_last_pulled_of_several_is_taken(hub, tiny_artifact):
    first = hub.add_repo(REPO, contents(tiny_artifact))
    load_or_fall_back(REPO, first)
    time.sleep(0.02)
    second = hub.commit(REPO, {"README.md": b"second"})
    load_or_fall_back(REPO, second)
    hub.fail("info", 503)
    assert str(load_or_fall_back(REPO, "f" * 40)[0].source) == f"hub:{REPO}@{second}"
    weights = Path(constants.HF_HUB_CACHE) / "models--ann--resnet" / "snapshots" / second / artifact.WEIGHTS
    weights.unlink()
    assert str(load_or_fall_back(REPO, "f" * 40)[0].source) == f"hub:{REPO}@{first}"


def test_a_cache_that_cannot_be_written_is_told_without_its_path(hub, sha, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    classifier, notice = load_or_fall_back(REPO)
    assert str(classifier.source) == "bundled"
    assert "A file of this machine cannot be read or written for ann/resnet (Not a directory)" in notice
    assert str(tmp_path) not in notice
