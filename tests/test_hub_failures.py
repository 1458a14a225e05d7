"""Faults at every request to the Hub, starts of the page without it, and the documents that list both."""

import json

import pytest

from benchmarks import hub_failures, hub_starts
from benchmarks.hub_failures import CASES, run_case, words
from tests.hub_client import environment

CHANGES_NOTHING = [("push", "create", 403), ("space", "create", 403)]
"""The client then asks whether the repository is there already, which it is."""

KEPT_IN_PLAIN = [("push", "lfs-put", "hang"), ("pull", "lfs-get", "garbage"), ("space", "variable", 500)]
"""One of each command; the others are slow only because there are so many."""


def marked(case: tuple) -> object:
    return pytest.param(
        *case, id=f"{case[0]}-{case[1]}-{words(case[2])}", marks=[pytest.mark.slow] * (case not in KEPT_IN_PLAIN)
    )


@pytest.mark.parametrize(("direction", "step", "fault"), map(marked, CASES))
def test_a_fault_is_one_sentence_leaves_all_or_nothing_and_can_be_repeated(
    tiny_artifact, tmp_path, direction, step, fault
):
    found = run_case(direction, step, fault, tiny_artifact, tmp_path / "cache")
    assert found.again
    if (direction, step, fault) in CHANGES_NOTHING:
        assert found.message is None and found.after == "new"
        return
    assert found.message and "\n" not in found.message and str(tmp_path) not in found.message
    if isinstance(fault, int | tuple) and (step, fault) not in (("create", 409), ("branch", 409)):
        assert f"HTTP {fault if isinstance(fault, int) else fault[0]}" in found.message
    done_before_the_fault = direction == "push" and (step == "tag" or (step, fault) == ("commit", "lost"))
    assert found.after == ("new" if done_before_the_fault else "old")


def test_the_document_of_faults_has_every_case():
    text = hub_failures.DOCUMENT.read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| push", "| pull", "| space"))]
    listed = {(row[0].removeprefix("| "), step, row[1]) for row in rows for step in row[2].split(", ")}
    assert listed == {(direction, f"`{step}`", words(fault)) for direction, step, fault in CASES}
    assert text.startswith(hub_failures.ABOUT) and all(row[-1] == "succeeds |" for row in rows)


def test_the_document_on_hosting_has_the_measured_starts_all_within_15_seconds():
    result, text = json.loads(hub_starts.RESULT.read_text()), hub_starts.PAGE.read_text()
    assert hub_starts.filled(text, hub_starts.starts_table(result), begin=hub_starts.BEGIN) == text
    seconds = [each["seconds"] for each in result["situations"].values()]
    assert len(seconds) == 8 and all(len(each) >= 5 and max(each) < 15 for each in seconds)


@pytest.mark.slow
def test_a_start_is_measured_to_the_served_page(tmp_path):
    took, memory, shown = hub_starts.start(environment(hub_starts.REFUSED, tmp_path))
    assert 0.5 < took < 60 and 50 < memory < 2000 and "bundled" in shown
