"""Every request of a push, a pull and the hosting of a page, with faults at it: what a person reads, what is left.

`python -m benchmarks.hub_failures` writes docs/security/hub-failures.md; tests/test_hub_failures.py runs the cases.
"""

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from safetensors.numpy import load_file, save_file

from benchmarks import tables
from benchmarks.server import PROJECT
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

DOCUMENT = PROJECT / "docs" / "security" / "hub-failures.md"
PAGE = "ann/page"
RETRY = (429, {"Retry-After": "600"})
COMMIT = ["validate", "preupload", "lfs-batch", "lfs-put", "lfs-verify", "commit"]
PUSH = ["create", "auth", "refs", "branch", "info", "head", "get", *COMMIT, "tag"]
PULL = ["info", "head", "get", "lfs-get"]
SPACE = ["info", "create", "auth", *COMMIT, "variable"]
CASES: list[tuple[str, str, Fault]] = [
    *(("push", step, fault) for step in PUSH for fault in [403, 409, RETRY, 500, "reset", "cut", "lost", "hang"]),
    *(("pull", step, fault) for step in PULL for fault in [401, 404, RETRY, 500, "reset", "hang"]),
    *(("pull", step, fault) for step in ("info", "get", "lfs-get") for fault in ("cut", "stall")),
    *(("pull", step, fault) for step in ("get", "lfs-get") for fault in ("truncated", "garbage")),
    ("pull", "head", "wrong-etag"),
    *(("space", step, fault) for step in SPACE for fault in (403, RETRY, 500, "reset", "lost", "hang")),
]


class Outcome(NamedTuple):
    """What came of a case.

    message   the error as a person reads it, or None: the command succeeded in spite of the fault
    after     what the Hub (push, space) or the next call (pull) then has: "old" or "new"
    again     whether the same command, with the fault gone, succeeds and gives the new state
    """

    message: str | None
    after: str
    again: bool


def words(fault: Fault) -> str:
    return f"{fault[0]}, Retry-After {fault[1]['Retry-After']}" if isinstance(fault, tuple) else str(fault)


Case = tuple[Callable[[], object], Callable[[], str]]
"""A command of a person, and a function that tells which version is there: "old" or "new", and nothing between them."""


def push_case(folder: Path, hub: LoopbackHub) -> Case:
    """`publish --branch trial --tag v2` of a folder over an older version of it."""
    kept, before = {publishing.ATTRIBUTES: publishing.KEEP_LINE_ENDS}, contents(folder)
    old = kept | {"config.json": b"{}", "figures/old.png": b"old"}
    new = kept | before | {artifact.CARD: before[artifact.CARD].replace(b"USER/REPO", REPO.encode())}
    hub.add_repo(REPO, old)

    def state() -> str:
        repo = hub.repo(REPO)
        found = hub.files(REPO, "trial" if "trial" in repo.branches else "main")
        assert hub.files(REPO) == old and found in (old, new) and contents(folder) == before
        assert not repo.tags or repo.tags == {"v2": repo.branches["trial"]}
        return "old" if found == old else "new"

    return lambda: publishing.publish(folder, REPO, branch="trial", tag="v2"), state


def pull_case(folder: Path, hub: LoopbackHub) -> Case:
    """`Classifier.load(REPO)`, where an older version is in the cache. Offline, one of the two must load."""
    old = hub.add_repo(REPO, older(folder))
    Classifier.load(REPO)
    new = hub.commit(REPO, contents(folder))

    def state() -> str:
        snapshot = model_hub.cached(REPO)
        assert snapshot is not None and snapshot.sha in (old, new)
        Classifier.from_artifact(model_hub.read(snapshot), snapshot)
        return "old" if snapshot.sha == old else "new"

    return lambda: model_hub.pull(REPO), state


def space_case(folder: Path, hub: LoopbackHub) -> Case:
    """`space` again, after a newer model was published; the Space has lost its LFS files, so that they are sent."""
    old = hub.add_repo(REPO, older(folder))
    hosting.create_space(PAGE, REPO)
    new = hub.commit(REPO, contents(folder))
    repo = hub.repo(PAGE, "space")
    hub.commit(PAGE, {name: None for name, blob in repo.at("main").files.items() if blob.is_lfs}, repo_type="space")
    repo.lfs.clear()

    def state() -> str:
        """The new code may still show the old model."""
        title, sha = repo.at("main").title, repo.variables["MODEL_REVISION"]
        assert (title.endswith(new[:12]) or title == "by the server") and sha in (old, new)
        return "new" if title.endswith(new[:12]) and sha == new else "old"

    return lambda: hosting.create_space(PAGE, REPO), state


def older(folder: Path) -> dict[str, bytes]:
    """Another intact artifact, which shares neither the weights' file nor config.json with this one."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(folder, Path(scratch) / "artifact")
        save_file(load_file(copy / artifact.WEIGHTS), copy / artifact.WEIGHTS, metadata={"note": "older"})
        artifact.write_checksums(copy, artifact.read_config(copy / artifact.CONFIG))
        return contents(copy)


def attempt(command: Callable[[], object], hub: LoopbackHub) -> str | None:
    try:
        command()
    except (HubError, ArtifactError) as error:
        return str(error).replace(hub.url, "https://huggingface.co")
    return None


def run_case(direction: str, step: str, fault: Fault, folder: Path, cache: Path) -> Outcome:
    """On a Hub and a cache of its own."""
    with LoopbackHub() as hub, pytest.MonkeyPatch.context() as patch:
        point_client_at(hub.url, cache, patch)
        command, state = {"push": push_case, "pull": pull_case, "space": space_case}[direction](folder, hub)
        hub.fail(step, fault)
        with pytest.MonkeyPatch.context() as impatient:
            if fault in ("hang", "stall"):  # alone: a busy machine may take longer over what goes well
                impatient.setattr(model_hub, "PULL_SECONDS", DEADLINE)
                impatient.setattr(publishing, "ASK_SECONDS", 20 if step in COMMIT else DEADLINE)
                impatient.setattr(publishing, "COMMIT_SECONDS", 2 * DEADLINE)
            message, after = attempt(command, hub), state()
        hub.heal()
        end_calls(hub)
        return Outcome(message, after, attempt(command, hub) is None and state() == "new")


def table(outcomes: list[Outcome]) -> str:
    """A row for each fault and what is printed, with the requests that it was tried at. Digests of made-up contents are
    left out."""
    rows: dict[tuple, list[str]] = {}
    for (direction, step, fault), found in zip(CASES, outcomes, strict=True):
        message = re.sub("[0-9a-f]{28,}", "HASH", found.message or "(succeeds)").replace("|", "\\|")
        again = "succeeds" if found.again else "FAILS"
        rows.setdefault((direction, words(fault), message, found.after, again), []).append(f"`{step}`")
    columns = ["", "fault", "request", "message", "version left", "same command again"]
    ordered = sorted(rows.items(), key=lambda row: row[0][:2])
    return tables.table(columns, [[*key[:2], ", ".join(steps), *key[2:]] for key, steps in ordered])


ABOUT = f"""# Hub failure modes

What `publish`, a download and `space` print and leave behind when one request fails. Written by
`python -m benchmarks.hub_failures`: the real client runs against a local Hub, with one fault at every answer to one
kind of request. Timeouts are shortened to {DEADLINE} seconds in this test (twice that for a commit); in use they are
{publishing.ASK_SECONDS} seconds for a question, {publishing.COMMIT_SECONDS} for a commit, {model_hub.PULL_SECONDS} for
a download and {fallback.START_SECONDS} for a download at a start of the page. The client's pauses between retries are
left out; in use, a download that is told to wait ends at its deadline.

- `reset`: the connection ends before an answer; `cut`: in the middle of one; `lost`: the Hub did as asked, but its
  answer never came; `hang`, `stall`: no answer, or half of one, then silence; `truncated`, `garbage`: a wrong file that
  looks right to the client; `wrong-etag`: another digest than the file has.
- `old`, `new`: the version that the Hub (push), the local cache when offline (pull) or the hosted page (space) then
  has, never a mixture. The local folder was unchanged in every case. A Space may have its new code while it still shows
  the old model.

"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(model_hub.BUNDLED, Path(scratch) / "artifact")
        (folder / artifact.SAMPLES).mkdir()
        for name in artifact.SAMPLE_FILES:  # which the bundled model lacks, and nobody looks into here
            (folder / name).write_bytes(b"made up")
        outcomes = [run_case(*case, folder, Path(scratch) / f"cache-{k}") for k, case in enumerate(CASES)]
    DOCUMENT.write_text(ABOUT + table(outcomes))
    print(f"{len(outcomes)} cases, {sum(not found.again for found in outcomes)} that do not recover")


if __name__ == "__main__":
    main()
