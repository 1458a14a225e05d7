"""Where an artifact comes from: a folder, a repository of the Hugging Face Hub at a commit, or the bundled default.

A repository is pulled file by file at one commit into the Hub client's own cache. The client waits without end for a
silent server and obeys a `Retry-After` of minutes; so every call of it runs under a deadline of ours (`within`).
"""

import hashlib
import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import validate_repo_id

from model import artifact
from model.artifact import Artifact, ArtifactError

BUNDLED_NAME = "assets/resnet32-cifar10"
"""The folder of the model that comes with the project, in it."""

BUNDLED = Path(__file__).resolve().parent.parent / BUNDLED_NAME

PULL_SECONDS = 60
"""For all of a pull: 4 MB at most, for the default network."""

MAX_SAMPLE_BYTES = 4_000_000
"""Of each file of samples/; 200 tiles of 32x32 pixels have 0.6 MB before compression."""

THREAD = "hub-call"
"""Name of the threads in which the client runs."""

_OF_A_RETRY = re.compile(r"thrown while requesting|^Retrying in |^Rate limited")

_SHA = re.compile(r"[0-9a-f]{40}")


class HubError(RuntimeError):
    """The Hub cannot give or take what was asked; the message says why and what to do."""


@dataclass(frozen=True)
class Source:
    """Where a model comes from. As a string: "bundled", "folder:PATH" or "hub:USER/REPO@SHA".

    folder      that holds its artifact; for a repository the commit in the Hub client's cache
    repo, sha   of a repository alone: its name and the commit
    """

    kind: Literal["bundled", "folder", "hub"]
    folder: Path
    repo: str = ""
    sha: str = ""

    def __str__(self) -> str:
        detail = {"bundled": "", "folder": f":{self.folder}", "hub": f":{self.repo}@{self.sha}"}
        return self.kind + detail[self.kind]

    @property
    def public(self) -> str:
        """The same without where a folder lies, which visitors need not know."""
        return f"folder:{self.folder.resolve().name}" if self.kind == "folder" else str(self)


def is_repo_id(source: str | Path) -> bool:
    """Whether it is an OWNER/NAME that a repository may have."""
    try:
        validate_repo_id(str(source))
    except HFValidationError:
        return False
    return "/" in str(source)


def find(
    source: str | Path | None = None, revision: str | None = None, files: Sequence[str] = artifact.SERVING
) -> tuple[Artifact, Source]:
    """The checked artifact and where it comes from.

    source      an existing folder, else OWNER/NAME on the Hub, or None: the bundled artifact
    revision    of a repository: branch, tag or commit; None: main
    files       that are needed of a repository; a folder must be complete

    Where the Hub cannot be asked, the newest commit of that revision that was pulled before answers, with a warning.
    Raises HubError, ArtifactError, and ValueError for a revision of something else than a repository.
    """
    if source is not None and not os.path.isdir(source) and is_repo_id(source):
        return _find_on_hub(str(source), revision, files)
    if revision is not None:
        raise ValueError(f"revision {revision!r} names a commit of a Hub repository; {source or 'bundled'} is none")
    if source is None:
        return artifact.read(BUNDLED), Source("bundled", BUNDLED)
    if not os.path.exists(source):
        raise ArtifactError(f"{source} is neither a folder nor the OWNER/NAME of a repository on the Hub")
    return artifact.read(source), Source("folder", Path(source))


def _find_on_hub(repo: str, revision: str | None, files: Sequence[str]) -> tuple[Artifact, Source]:
    try:
        snapshot = pull(repo, revision, files)
    except HubError as error:
        snapshot = cached(repo, revision, files)
        if snapshot is None:
            raise
        warnings.warn(f"{error} Using {snapshot}, which was pulled before.", stacklevel=4)
    return read(snapshot, files), snapshot


def read(snapshot: Source, files: Sequence[str] = artifact.SERVING) -> Artifact:
    """The checked artifact. Raises ArtifactError; what was damaged on its way is downloaded again the next time."""
    try:
        return artifact.read(snapshot.folder, files)
    except ArtifactError as error:
        _forget_damaged(snapshot)
        raise refusal(error, snapshot) from None


def refusal(error: ArtifactError, source: Source) -> ArtifactError:
    """The error of an artifact from the Hub without the path of the cache, which visitors may see; else the same."""
    if source.kind != "hub":
        return error
    words = str(error).replace(f"{source.folder}/", "").replace(str(source.folder), "it")
    return ArtifactError(f"{source} is refused: {words}")


def pull(
    repo: str,
    revision: str | None = None,
    files: Sequence[str] = artifact.SERVING,
    seconds: float = PULL_SECONDS,
) -> Source:
    """config.json, `files` and, for the page, the samples of one commit; a commit that is pulled already costs no
    request. Raises HubError, and ArtifactError for what is downloaded and is no intact artifact."""
    sha = revision if revision and _SHA.fullmatch(revision) else None
    if sha and (known := cached(repo, sha, files, samples=True)):
        return known
    if constants.is_offline_mode():
        raise HubError(f"The Hub was not asked for {repo}, because HF_HUB_OFFLINE is set: unset it.")
    with explained(repo, revision):
        return within(seconds, _pull, repo, revision, files)


def _pull(repo: str, revision: str | None, files: Sequence[str]) -> Source:
    info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    if missing := [name for name in (artifact.CONFIG, *files) if name not in sizes]:
        raise HubError(f"{repo} lacks {', '.join(missing)} at {info.sha}: `python -m trainer publish` writes all.")
    known = cached(repo, info.sha, files, samples=True)
    if known and cached(repo, revision, files) == known:
        return known
    folder = _fetch(repo, info.sha, artifact.CONFIG, sizes, artifact.MAX_CONFIG_BYTES).parent
    snapshot = Source("hub", folder, repo, info.sha)
    try:
        config = artifact.read_config(folder / artifact.CONFIG)
    except ArtifactError as error:
        _forget_damaged(snapshot)
        raise refusal(error, snapshot) from None
    for name in files:
        _fetch(repo, info.sha, name, sizes, artifact.max_bytes(config, name))
    for name in _optional(files):
        with suppress(RemoteEntryNotFoundError):
            _fetch(repo, info.sha, name, sizes, MAX_SAMPLE_BYTES)
    read(snapshot, files)  # a commit that is refused must not take the place of the one before it
    if revision != info.sha:
        # Not before the rest: now the client's cache remembers which commit the branch or tag is. That serves only who
        # is offline later, so it may fail.
        with suppress(Exception):
            hf_hub_download(repo, artifact.CONFIG, revision=revision)
    return snapshot


def _fetch(repo: str, sha: str, name: str, sizes: dict[str, int], limit: int) -> Path:
    artifact.check_size(f"{name} of {repo}", sizes.get(name, 0), limit)
    return Path(hf_hub_download(repo, name, revision=sha))


def _optional(files: Sequence[str]) -> Sequence[str]:
    """Who serves the page wants the sample images too, where the repository has them."""
    return artifact.SAMPLE_FILES if set(artifact.SERVING) <= set(files) else ()


def cached(
    repo: str, revision: str | None, files: Sequence[str] = artifact.SERVING, samples: bool = False
) -> Source | None:
    """The commit that the revision was when it was last pulled, if the cache has all of it. Asks nobody.

    `samples`: all includes the sample images, or the knowledge that the repository has none.
    """

    def lookup(name: str) -> Any:
        """A path, None for unknown, or an object that stands for "the repository has no such file"."""
        with suppress(OSError):  # a cache that cannot be read is as good as none
            return try_to_load_from_cache(repo, name, revision=revision)

    path = lookup(artifact.CONFIG)
    if not all(isinstance(lookup(name), str) for name in (artifact.CONFIG, *files)):
        return None
    if samples and any(lookup(name) is None for name in _optional(files)):
        return None
    return Source("hub", Path(path).parent, repo, Path(path).parent.name)


def all_cached(repo: str, files: Sequence[str] = artifact.SERVING) -> Iterator[Source]:
    """Every commit of the repository that the cache has all of, the last pulled first."""
    storage = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "snapshots"
    times: dict[str, float] = {}
    with suppress(OSError):
        times = {path.name: path.stat().st_mtime for path in storage.iterdir() if _SHA.fullmatch(path.name)}
    for sha in sorted(times, key=times.__getitem__, reverse=True):
        if snapshot := cached(repo, sha, files):
            yield snapshot


def _forget_damaged(snapshot: Source) -> None:
    """Removes from the cache what is not the file that the Hub named. The others stay: older commits may share them."""
    for path in [snapshot.folder / name for name in (artifact.CONFIG, *artifact.SERVING, *artifact.SAMPLE_FILES)]:
        with suppress(OSError):
            blob = path.resolve(strict=True)
            if blob.name != etag(blob.read_bytes(), len(blob.name)):
                blob.unlink()  # not the link alone, which would be made anew without a download
                path.unlink(missing_ok=True)


def etag(content: bytes, digits: int) -> str:
    """What the Hub calls a file, and the client's cache its blob: a large one by its sha256 (64 digits), a small one by
    its git object (40)."""
    if digits == 64:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def within(seconds: float, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The call's result, or HubError after so many seconds. The call cannot be ended: it goes on in the background, and
    what it still brings into the cache serves the next attempt."""
    outcome: dict[str, Any] = {}
    said: list[str] = []  # by the client, of its retries

    def run() -> None:
        try:
            with _collected_warnings(said):
                outcome["result"] = call(*args, **kwargs)
        except BaseException as error:  # of any kind: it is raised again where it was asked for
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True, name=THREAD)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        last = f"; it last answered {said[-1]}" if said else ""
        raise HubError(f"The Hub did not finish within {seconds:g} seconds{last}.")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


def call_is_running() -> bool:
    """Whether a call that `within` gave up goes on in the background."""
    return any(thread.name == THREAD for thread in threading.enumerate())


@contextmanager
def _collected_warnings(said: list[str]) -> Iterator[None]:
    """Collects the HTTP errors that the client's retries in this thread warn of, instead of printing them.

    Of a library's logger tree the root alone is public, and a logger's filter does not see what comes from below it;
    those of the handlers do (https://docs.python.org/3/library/logging.html#logging.Handler.addFilter).
    """
    own = threading.get_ident()

    def collect(record: logging.LogRecord) -> bool:
        message = record.getMessage() if record.thread == own and record.name.startswith("huggingface_hub") else ""
        if found := re.search(r"HTTP Error (\d+)", message):
            said.append(f"HTTP {found[1]}")
        return not _OF_A_RETRY.search(message)

    handlers = [*logging.getLogger("huggingface_hub").handlers, *logging.getLogger().handlers]
    for handler in handlers:
        handler.addFilter(collect)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(collect)


@contextmanager
def explained(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turns what the client raises into a HubError of one sentence."""
    try:
        yield
    except (HubError, ArtifactError):
        raise
    except Exception as error:  # OSError, ValueError, RuntimeError, httpx's or httpx2's, hf_xet's: by version
        raise HubError(explain(error, repo, revision)) from error


def explain(error: BaseException, repo: str, revision: str | None = None) -> str:
    """Why, and what to do, in one sentence."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and len(chain) < 8:
        chain.append(cause)  # the client hides the real one behind "please check your connection"
    for kind, words in _REASONS:
        if found := next((link for link in chain if isinstance(link, kind)), None):
            return words(found, repo, revision)
    if found := next((link for link in chain if type(link).__module__.startswith("httpx")), None):  # or httpx2
        return _connection_failed(found, repo)
    if found := next((link for link in chain if isinstance(link, OSError)), None):
        if found.errno is None or isinstance(found, ConnectionError | TimeoutError):
            return _connection_failed(found, repo)
        return (  # without the path, which visitors may see
            f"A file of this machine cannot be read or written for {repo} ({found.strerror}): look at the free space, "
            "and at the cache of the Hub's client (HF_HOME)."
        )
    return f"The Hub's answer for {repo} was not understood ({_in_one_line(error)}): try again later."


def _connection_failed(error: BaseException, repo: str) -> str:
    return f"The connection to the Hub failed for {repo} ({_in_one_line(error)}): check it, or try again later."


def _http_reason(error: HfHubHTTPError, repo: str, revision: str | None) -> str:
    status = error.response.status_code
    told = error.response.headers.get("X-Error-Message") or _STATUS.get(status, "try again later")
    return f"The Hub answered HTTP {status} for {repo}: {told.rstrip('.')}."


_STATUS = {
    401: "the token is missing or wrong; set HF_TOKEN, or log in with `hf auth login`",
    402: "it takes a paid plan; a new Gradio Space on CPU basic does, for one",
    403: "the token may not do that; it needs write access to push, and the right to read this repository to pull",
    404: "there is no such thing",
    409: "it conflicts with what is there, or with another request; try again",
    412: "somebody else pushed in the meantime; run the same command again to put this version on top",
    429: "too many requests; try again in some minutes",
}
_REASONS: list[tuple[type[BaseException], Callable[[Any, str, str | None], str]]] = [
    (GatedRepoError, lambda e, r, v: f"{r} is gated: accept its conditions on the Hub and set HF_TOKEN."),
    (
        RepositoryNotFoundError,
        lambda e, r, v: f"{r} is not on the Hub, or is private and no token that may read it was given (HF_TOKEN).",
    ),
    (RevisionNotFoundError, lambda e, r, v: f"{r} has no revision {v or 'main'}: name a branch, a tag or a commit."),
    (OfflineModeIsEnabled, lambda e, r, v: f"The Hub was not asked for {r}, because HF_HUB_OFFLINE is set: unset it."),
    (HfHubHTTPError, _http_reason),
    (HFValidationError, lambda e, r, v: f"{r} is no valid name on the Hub ({_in_one_line(e)})."),
]


def _in_one_line(error: BaseException) -> str:
    words = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {words[:200]}" if words else type(error).__name__
