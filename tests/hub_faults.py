"""Every request of a push, a pull and the hosting of a page, with faults at it: what a person reads, what is left.

`tests/test_hub_faults.py` runs all cases; `python -m tests.hub_faults` writes them into
docs/security/hub-failures.md.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from model import Classifier, artifact, fallback
from model import hub as model_hub
from model.artifact import ArtifactError
from model.hub import HubError
from tests.hub_client import REPO, contents, end_calls, point_client_at
from tests.loopback_hub import Fault, LoopbackHub
from trainer import publish as publishing
from trainer import space as hosting

DEADLINE = 0.7
"""Seconds, instead of those of a person's run, where the Hub falls silent."""

PAGE = "ann/page"
RETRY = {"Retry-After": "600"}
HTTP_FAULTS: list[Fault] = [401, 403, 404, 409, (429, RETRY), 500]
COMMIT = ["validate", "preupload", "lfs-batch", "lfs-put", "lfs-verify", "commit"]
PUSH = ["create", "auth", "refs", "branch", "info", "head", "get", *COMMIT, "tag"]
PULL = ["info", "head", "get", "lfs-get"]
SPACE = ["info", "create", "auth", *COMMIT, "variable"]
CASES: list[tuple[str, str, Fault]] = [
    *(("push", step, fault) for step in PUSH for fault in [*HTTP_FAULTS, "reset", "cut", "lost", "hang"]),
    *(("pull", step, fault) for step in PULL for fault in [*HTTP_FAULTS, "reset", "hang"]),
    *(("pull", step, fault) for step in ("info", "get", "lfs-get") for fault in ("cut", "stall")),
    *(("pull", step, fault) for step in ("get", "lfs-get") for fault in ("truncated", "garbage")),
    ("pull", "head", "wrong-etag"),
    *(("space", step, fault) for step in SPACE for fault in (403, (429, RETRY), 500, "reset", "lost", "hang")),
]


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    message   the error as a person reads it, or None: the command succeeded in spite of the fault
    after     what the Hub (push, space) or the next call (pull) then has: "old" or "new"
    again     whether the same command, with the fault gone, succeeds and gives the new state
    touched   whether the local folder (push) was changed
    """

    message: str | None
    after: str
    again: bool
    touched: bool = False


def words(fault: Fault) -> str:
    return f"{fault[0]}, Retry-After {fault[1]['Retry-After']}" if isinstance(fault, tuple) else str(fault)


@contextmanager
def impatient(direction: str, step: str, fault: Fault) -> Iterator[None]:
    """A short deadline where only silence meets it: a busy machine may take longer than that over what goes well."""
    with pytest.MonkeyPatch.context() as patch:
        if fault in ("hang", "stall"):
            if direction == "pull":
                patch.setattr(model_hub.pull, "__defaults__", (*model_hub.pull.__defaults__[:-1], DEADLINE))
            elif step in COMMIT:
                patch.setattr(publishing, "COMMIT_SECONDS", 2 * DEADLINE)
            else:
                patch.setattr(publishing, "ASK_SECONDS", DEADLINE)
        yield


def attempt(command: Callable[[], object]) -> str | None:
    try:
        command()
    except (HubError, ArtifactError) as error:
        return str(error)
    return None


def _told(message: str | None, hub: LoopbackHub) -> str | None:
    return message and message.replace(hub.url, "https://huggingface.co")


def push_case(step: str, fault: Fault, folder: Path, hub: LoopbackHub) -> Outcome:
    """`publish --branch trial --tag v2` of a folder over an older version of it."""
    kept = {publishing.ATTRIBUTES: publishing.KEEP_LINE_ENDS}
    old = kept | {"config.json": b"{}", "figures/old.png": b"old"}
    hub.add_repo(REPO, old)
    hub.fail(step, fault)
    before = contents(folder)

    def push() -> object:
        return publishing.publish(folder, REPO, branch="trial", tag="v2")

    def state() -> str:
        """ "old" or "new", and nothing between them."""
        branches = hub.repo(REPO).branches
        found = hub.files(REPO, "trial" if "trial" in branches else "main")
        card = before[artifact.CARD].replace(b"USER/REPO", REPO.encode())
        assert hub.files(REPO) == old and found in (old, kept | before | {artifact.CARD: card})
        return "old" if found == old else "new"

    with impatient("push", step, fault):
        message, after = _told(attempt(push), hub), state()
    hub.heal()
    end_calls(hub)
    again = attempt(push) is None and state() == "new"
    assert not again or hub.repo(REPO).tags == {"v2": hub.history(REPO, "trial")[-1]}
    return Outcome(message, after, again, contents(folder) != before)


def pull_case(step: str, fault: Fault, folder: Path, hub: LoopbackHub) -> Outcome:
    """`Classifier.load(REPO)`, where an older version lies in the cache. Offline, one of the two must load."""
    old = hub.add_repo(REPO, older(folder))
    Classifier.load(REPO)
    new = hub.commit(REPO, contents(folder))
    hub.fail(step, fault)

    def pull() -> object:
        """As a person's program that has no use for the older version."""
        return Classifier.from_artifact(*model_hub.pull(REPO))

    def state() -> str:
        snapshot = model_hub.cached(REPO, None)
        assert snapshot is not None and snapshot.sha in (old, new)
        Classifier.from_snapshot(snapshot)
        return "old" if snapshot.sha == old else "new"

    with impatient("pull", step, fault):
        message, after = _told(attempt(pull), hub), state()
    hub.heal()
    end_calls(hub)
    again = attempt(pull) is None and state() == "new"
    return Outcome(message, after, again)


def space_case(step: str, fault: Fault, folder: Path, hub: LoopbackHub) -> Outcome:
    """`space` again, after a newer model was published. Its code and its variables may be of different times."""
    hub.add_repo(REPO, older(folder))
    hosting.create_space(PAGE, REPO)
    old = state_of_space(hub)
    new = (f"Serve {REPO} at {(sha := hub.commit(REPO, contents(folder)))[:12]}", sha)
    lose_uploads(hub)
    hub.fail(step, fault)

    def host() -> object:
        return hosting.create_space(PAGE, REPO)

    def state() -> str:
        found = state_of_space(hub)
        assert found in (old, new, (new[0], old[1]))  # the new page may still show the old model
        return "new" if found == new else "old"

    with impatient("space", step, fault):
        message, after = _told(attempt(host), hub), state()
    hub.heal()
    end_calls(hub)
    return Outcome(message, after, attempt(host) is None and state() == "new")


def state_of_space(hub: LoopbackHub) -> tuple[str, str]:
    """Title of the last commit, and the commit of the model that it serves."""
    repo = hub.repo(PAGE, "space")
    assert repo.variables["MODEL_REPO"] == REPO
    return repo.at("main").title, repo.variables["MODEL_REVISION"]


def lose_uploads(hub: LoopbackHub) -> None:
    """Makes the Space lack its LFS files, so that they are sent again."""
    names = [name for name in hub.files(PAGE, repo_type="space") if name.endswith((".onnx", ".safetensors", ".png"))]
    title = hub.repo(PAGE, "space").at("main").title
    hub.commit(PAGE, dict.fromkeys(names), repo_type="space")
    repo = hub.repo(PAGE, "space")
    repo.lfs.clear()
    repo.commits[repo.branches["main"]] = replace(repo.at("main"), title=title)


def older(folder: Path) -> dict[str, bytes]:
    """Another intact artifact, which shares neither the weights' file nor config.json with this one."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(folder, Path(scratch) / "artifact")
        save_file(load_file(copy / artifact.WEIGHTS), copy / artifact.WEIGHTS, metadata={"note": "older"})
        artifact.write_checksums(copy, artifact.read_config(copy / artifact.CONFIG))
        return contents(copy)


def run_case(direction: str, step: str, fault: Fault, folder: Path, cache: Path) -> Outcome:
    """On a Hub and a cache of its own."""
    with LoopbackHub() as hub, pytest.MonkeyPatch.context() as patch:
        point_client_at(hub.url, cache, patch)
        return {"push": push_case, "pull": pull_case, "space": space_case}[direction](step, fault, folder, hub)


def table(outcomes: list[Outcome]) -> str:
    """In Markdown: a row for each fault and what is printed, with the requests that it was tried at."""
    rows: dict[tuple, list[str]] = {}
    for (direction, step, fault), found in zip(CASES, outcomes, strict=True):
        message = (found.message or "(succeeds)").replace("|", "\\|")
        again = "succeeds" if found.again else "FAILS"
        rows.setdefault((direction, words(fault), message, found.after, again), []).append(f"`{step}`")
    lines = ["| | fault | request | message | version left | same command again |", "|---|---|---|---|---|---|"]
    for (direction, fault, message, after, again), steps in sorted(rows.items(), key=lambda row: row[0][:2]):
        lines.append(f"| {direction} | {fault} | {', '.join(steps)} | {message} | {after} | {again} |")
    return "\n".join(lines) + "\n"


ABOUT = """# Hub failure modes

What `publish`, a download and `space` print and leave behind when one request fails. Written by
`python -m tests.hub_faults`: the real client runs against a local Hub, with one fault at every answer to one kind of
request. Timeouts are shortened to {deadline} seconds in this test (twice that for a commit); in use they are {ask}
seconds for a question, {commit} for a commit, {pull} for a download and {start} for a download at a start of the page.

- `reset`: the connection ends before an answer; `cut`: in the middle of one; `lost`: the Hub did as asked, but its
  answer never came; `hang`, `stall`: no answer, or half of one, then silence; `truncated`, `garbage`: a wrong file that
  looks right to the client; `wrong-etag`: another digest than the file has.
- `old`, `new`: the version that the Hub (push), the local cache when offline (pull) or the hosted page (space) then
  has, never a mixture. The local folder was unchanged in every case. A Space may have its new code while it still shows
  the old model.

"""


def main() -> None:
    page = Path(__file__).resolve().parent.parent / "docs" / "security" / "hub-failures.md"
    outcomes = []
    about = ABOUT.format(
        deadline=DEADLINE,
        ask=publishing.ASK_SECONDS,
        commit=publishing.COMMIT_SECONDS,
        pull=model_hub.PULL_SECONDS,
        start=fallback.START_SECONDS,
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(model_hub.BUNDLED, Path(scratch) / "artifact")
        (folder / artifact.SAMPLES).mkdir()
        for name in artifact.SAMPLE_FILES:  # which the bundled model lacks, and nobody looks into here
            (folder / name).write_bytes(b"made up")
        for number, case in enumerate(CASES):
            outcomes.append(run_case(*case, folder, Path(scratch) / f"cache-{number}"))
            print(case, outcomes[-1], file=sys.stderr)
    assert not any(found.touched for found in outcomes)
    page.write_text(about + table(outcomes))
    print(f"{page}: {len(outcomes)} cases, {sum(not found.again for found in outcomes)} that do not recover")


if __name__ == "__main__":
    main()
