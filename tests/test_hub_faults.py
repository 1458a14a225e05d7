from pathlib import Path

import pytest

from tests import hub_faults
from tests.hub_faults import CASES, run_case, words

PAGE = Path(__file__).resolve().parent.parent / "docs" / "security" / "hub-failures.md"

CHANGES_NOTHING = [("push", "create", 401), ("push", "create", 403), ("space", "create", 403)]
"""The client then asks whether the repository is there already, which it is."""


@pytest.mark.slow
@pytest.mark.parametrize(("direction", "step", "fault"), CASES, ids=lambda value: words(value))
def test_a_fault_is_told_in_a_sentence_leaves_all_or_nothing_and_the_same_command_then_succeeds(
    tiny_artifact, tmp_path, direction, step, fault
):
    found = run_case(direction, step, fault, tiny_artifact, tmp_path / "cache")
    assert found.again and not found.touched
    if (direction, step, fault) in CHANGES_NOTHING:
        assert found.message is None and found.after == "new"
        return
    assert found.message and "\n" not in found.message and str(tmp_path) not in found.message
    if isinstance(fault, int | tuple) and (step, fault) not in (("create", 409), ("branch", 409)):
        assert f"HTTP {fault if isinstance(fault, int) else fault[0]}" in found.message
    done_before_the_fault = direction == "push" and (step == "tag" or (step, fault) == ("commit", "lost"))
    assert found.after == ("new" if done_before_the_fault else "old")


def test_the_page_of_faults_has_every_case():
    rows = [
        line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith(("| push", "| pull", "| space"))
    ]
    told = {(row[0].removeprefix("| "), step, row[1]) for row in rows for step in row[2].split(", ")}
    assert told == {(direction, f"`{step}`", words(fault)) for direction, step, fault in CASES}
    assert all(row[-1] == "succeeds |" for row in rows)


def test_a_row_joins_the_requests_at_which_the_same_was_printed(monkeypatch):
    monkeypatch.setattr(hub_faults, "CASES", [("push", "info", 500), ("push", "auth", 500), ("pull", "get", "cut")])
    same = hub_faults.Outcome("no | no", "old", True)
    rows = hub_faults.table([same, same, hub_faults.Outcome(None, "new", False)]).splitlines()[2:]
    assert rows == [
        "| pull | cut | `get` | (succeeds) | new | FAILS |",
        "| push | 500 | `info`, `auth` | no \\| no | old | succeeds |",
    ]
