"""Where an artifact comes from: a folder, a repository of the Hugging Face Hub at a commit, or the bundled default.

A repository is pulled at one commit into the Hub client's own cache. The client waits without end for a silent server
and obeys a `Retry-After` of minutes, so every call of it has a deadline (`call_with_timeout`).
"""

import hashlib
import os
import re
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi, constants, hf_hub_download, scan_cache_dir, snapshot_download
from huggingface_hub.errors import (
    CacheNotFound,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import logging as client_log
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils.sha import git_hash

from model import artifact
from model.artifact import Artifact, ArtifactError

BUNDLED_NAME = "assets/resnet32-cifar10"
"""The folder of the model that comes with the project, in it."""

BUNDLED = Path(__file__).resolve().parent.parent / BUNDLED_NAME

PULL_SECONDS = 60
"""For all of a pull: 4 MB at most, for the default network."""

MAX_SAMPLE_BYTES = 16_000_000
"""Of each file of samples/; 200 tiles of 128x128 pixels have 10 MB before compression."""

THREAD = "hub-call"
"""Name of the threads in which the client runs."""


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
        try:
            return pull(str(source), revision, files)
        except HubError as error:
            if (snapshot := cached(str(source), revision, files)) is None:
                raise
            warnings.warn(f"{error} Using {snapshot}, which was pulled before.", stacklevel=3)
        return read(snapshot, files), snapshot
    if revision is not None:
        raise ValueError(f"revision {revision!r} names a commit of a Hub repository; {source or 'bundled'} is none")
    if source is None:
        return artifact.read(BUNDLED), Source("bundled", BUNDLED)
    if not os.path.exists(source):
        raise ArtifactError(f"{source} is neither a folder nor the OWNER/NAME of a repository on the Hub")
    return artifact.read(source), Source("folder", Path(source))


def read(snapshot: Source, files: Sequence[str] = artifact.SERVING) -> Artifact:
    """The checked artifact of a commit in the cache. Raises ArtifactError."""
    try:
        return artifact.read(snapshot.folder, files)
    except ArtifactError as error:
        raise refusal(error, snapshot) from None


def refusal(error: ArtifactError, source: Source) -> ArtifactError:
    """The error of an artifact from the Hub without the path of the cache, which visitors may see; else the same."""
    if source.kind != "hub":
        return error
    words = str(error).replace(f"{source.folder}/", "").replace(str(source.folder), "it")
    return ArtifactError(f"{source} is refused: {words}")


def pull(
    repo: str, revision: str | None = None, files: Sequence[str] = artifact.SERVING, seconds: float | None = None
) -> tuple[Artifact, Source]:
    """The checked artifact at one commit: config.json, `files` and, for the page, the samples. A commit that is intact
    in the cache costs no request; what is damaged there is downloaded again.

    Raises HubError, and ArtifactError for a commit that is no intact artifact.
    """
    if revision and re.fullmatch("[0-9a-f]{40}", revision) and (found := _cached_intact(repo, revision, files)):
        return found
    with translate_hub_errors(repo, revision):
        return call_with_timeout(seconds or PULL_SECONDS, _pull, repo, revision, files)


def _pull(repo: str, revision: str | None, files: Sequence[str]) -> tuple[Artifact, Source]:
    info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    siblings = {file.rfilename: file for file in info.siblings or []}
    if missing := [name for name in (artifact.CONFIG, *files) if name not in siblings]:
        raise HubError(f"{repo} lacks {', '.join(missing)} at {info.sha}: `python -m trainer publish` writes all.")
    found = _cached_intact(repo, info.sha, files) or _download(repo, info.sha, files, siblings)
    if revision != info.sha and cached(repo, revision, files) != found[1]:
        # Only now may the cache learn which commit the branch or tag is: a refused one must not take the place of the
        # one before. That serves only who is offline later, so it may fail.
        with suppress(Exception):
            hf_hub_download(repo, artifact.CONFIG, revision=revision)
    return found


def _download(repo: str, sha: str, files: Sequence[str], siblings: dict[str, RepoSibling]) -> tuple[Artifact, Source]:
    """File by file: the threads of `snapshot_download` would keep the process alive while the Hub is silent.

    The samples come before `files`, so that a commit in the cache that has those has all.
    """

    def fetch(name: str, limit: int) -> Path:
        artifact.check_size(f"{name} of {repo}", siblings[name].size or 0, limit)
        path = Path(hf_hub_download(repo, name, revision=sha))
        if not is_published(path.read_bytes(), siblings[name]):
            path.unlink()  # a link to content that was damaged in the cache or on its way
            path = Path(hf_hub_download(repo, name, revision=sha, force_download=True))
        return path

    snapshot = Source("hub", fetch(artifact.CONFIG, artifact.MAX_CONFIG_BYTES).parent, repo, sha)
    config = read(snapshot, ()).config
    if set(artifact.SERVING) <= set(files):
        for name in filter(siblings.__contains__, artifact.SAMPLE_FILES):
            fetch(name, MAX_SAMPLE_BYTES)
    for name in files:
        fetch(name, artifact.max_bytes(config, name))
    return read(snapshot, files), snapshot


def is_published(content: bytes, file: RepoSibling) -> bool:
    """Whether it has the digest that the Hub gives for a file: the sha256 of a large one, the git object of others."""
    if file.lfs:
        return hashlib.sha256(content).hexdigest() == file.lfs.sha256
    return git_hash(content) == file.blob_id


def cached(repo: str, revision: str | None = None, files: Sequence[str] = artifact.SERVING) -> Source | None:
    """The commit that the revision was when it was last pulled, if the cache has all of it. Asks nobody."""
    needed = [artifact.CONFIG, *files]
    try:
        path = snapshot_download(repo, revision=revision, allow_patterns=needed, local_files_only=True)
    except OSError:  # not there, or not readable
        return None
    folder = Path(path)
    return Source("hub", folder, repo, folder.name) if all((folder / name).is_file() for name in needed) else None


def _cached_intact(repo: str, sha: str, files: Sequence[str]) -> tuple[Artifact, Source] | None:
    snapshot = cached(repo, sha, files)
    with suppress(ArtifactError):
        return (read(snapshot, files), snapshot) if snapshot else None
    return None


def all_cached(repo: str) -> list[Source]:
    """Every commit of the repository that the cache has all of, the last pulled first."""
    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, OSError, ValueError):
        return []
    revisions = [each for one in repos if (one.repo_type, one.repo_id) == ("model", repo) for each in one.revisions]
    revisions.sort(key=lambda each: each.snapshot_path.stat().st_mtime, reverse=True)
    return [snapshot for each in revisions if (snapshot := cached(repo, each.commit_hash))]


def call_with_timeout(seconds: float, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The call's result, or HubError after so many seconds. The call cannot be ended: it goes on in the background, and
    what it still brings into the cache serves the next attempt."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        level = client_log.get_verbosity()
        client_log.set_verbosity_error()  # else it prints a line for each of its retries
        try:
            outcome["result"] = call(*args, **kwargs)
        except BaseException as error:  # of any kind: it is raised again where it was asked for
            outcome["error"] = error
        finally:
            client_log.set_verbosity(level)

    thread = threading.Thread(target=run, daemon=True, name=THREAD)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise HubError(f"The Hub did not finish within {seconds:g} seconds.")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


@contextmanager
def translate_hub_errors(repo: str, revision: str | None = None) -> Iterator[None]:
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
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)  # the client hides the real one behind "please check your connection"
    for link in chain:
        match link:
            case GatedRepoError():
                return f"{repo} is gated: accept its conditions on the Hub and set HF_TOKEN."
            case RepositoryNotFoundError():
                return f"{repo} is not on the Hub, or is private and no token that may read it was given (HF_TOKEN)."
            case RevisionNotFoundError():
                return f"{repo} has no revision {revision or 'main'}: name a branch, a tag or a commit."
            case OfflineModeIsEnabled():
                return f"The Hub was not asked for {repo}, because HF_HUB_OFFLINE is set: unset it."
            case HfHubHTTPError(response=response):
                told = response.headers.get("X-Error-Message") or ADVICE.get(response.status_code, "try again later")
                return f"The Hub answered HTTP {response.status_code} for {repo}: {told.rstrip('.')}."
            case HFValidationError():
                return f"{repo} is no valid name on the Hub ({in_one_line(link)})."
    if isinstance(error, OSError) and error.errno:  # of the network, it would be wrapped; no path: visitors may see it
        return (
            f"A file of this machine cannot be read or written for {repo} ({error.strerror}): look at the free space, "
            "and at the cache of the Hub's client (HF_HOME)."
        )
    if isinstance(error, KeyError | JSONDecodeError):  # it lacks a part, or is no JSON
        return f"The Hub gave an answer for {repo} that its client does not understand: try again later."
    advice = "check it, or try again later"
    if isinstance(chain[-1], ssl.SSLCertVerificationError):
        advice = "behind a proxy that has a certificate of its own, name that file in SSL_CERT_FILE"
    return f"The connection to the Hub failed for {repo} ({in_one_line(chain[-1])}): {advice}."


ADVICE = {
    401: "the token is missing or wrong; set HF_TOKEN, or log in with `hf auth login`",
    402: "it takes a paid plan; a new Gradio Space on CPU basic does, for one",
    403: "the token may not do that; it needs write access to push, and the right to read this repository to pull",
    404: "there is no such thing",
    409: "it conflicts with what is there, or with another request; try again",
    412: "somebody else pushed in the meantime; run the same command again to put this version on top",
    429: "too many requests; try again in some minutes",
}


def in_one_line(error: BaseException) -> str:
    words = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {words[:200]}" if words else type(error).__name__
