"""An artifact folder becomes one commit on the Hugging Face Hub. Needs neither torch nor Lightning.

Readers of the repository see the old artifact or the new one, never a mixture: all files go into one commit, which is
refused where somebody else pushed in the meantime.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token, hf_hub_download

from model import Classifier, artifact
from model.artifact import ArtifactError
from model.hub import HubError, Source, call_with_timeout, is_published, is_repo_id, translate_hub_errors
from trainer.card import REPO

ASK_SECONDS = 30
"""For a request that moves no files."""

COMMIT_SECONDS = 600
"""For upload and commit: 5 MB at 10 kB/s."""

ATTRIBUTES = ".gitattributes"
KEEP_LINE_ENDS = b"* -text"
"""Without it, a clone with core.autocrlf=true, the default on Windows, has other line ends than its sha256 sums."""


@dataclass(frozen=True)
class Published:
    """What `publish` left on the Hub; `sha` is the commit."""

    url: str
    sha: str


def publish(
    folder: Path, repo: str, branch: str | None = None, tag: str | None = None, private: bool = False
) -> Published:
    """Puts the whole folder on a branch of a repository, which is created where it is missing.

    What an earlier artifact left there of figures, samples and event files is removed by the same commit; other files
    stay. A folder that is there already makes no new commit. Raises ArtifactError for a folder that `Classifier` would
    refuse or whose model.onnx is missing or damaged, HubError where the Hub does; the folder is only read.
    """
    found = artifact.read(folder, artifact.CHECKSUMMED)
    Classifier.from_artifact(found, Source("folder", folder))
    files = _contents(folder, repo)
    open_repo(repo, private=private)
    tagged = _commit_of_tag(repo, branch, tag, files) if tag else None
    if branch is not None:
        call_hub(HfApi().create_branch, repo, branch=branch, exist_ok=True)
    if not tagged:
        keep_line_ends(repo, branch=branch)
    test = found.metrics.test
    message = f"ResNet-{found.config.depth}: {test.accuracy:.2%} on {test.n:,} test images"
    published = commit(repo, files, OWNED, message, branch=branch)
    if tag and not tagged:
        try:
            call_hub(HfApi().create_tag, repo, tag=tag, revision=published.sha)
        except HubError as error:
            raise HubError(f"{published.url} is there, but without the tag {tag}: {error}") from error
    return published


OWNED = tuple(f"{name}/" for name in (artifact.FIGURES, artifact.SAMPLES, artifact.TENSORBOARD))
"""Folders that hold nothing but what an export wrote."""


def _contents(folder: Path, repo: str) -> dict[str, Path | bytes]:
    """Path in the repository -> file, or content: the card gets the repository's name."""
    files: dict[str, Path | bytes] = {**visible_files(folder)}
    if artifact.CARD in files:
        try:
            files[artifact.CARD] = (folder / artifact.CARD).read_text("utf-8").replace(REPO, repo).encode()
        except ValueError:
            raise ArtifactError(f"{folder / artifact.CARD} is not UTF-8 text: save it as such") from None
    return files


def visible_files(folder: Path) -> dict[str, Path]:
    """Every file below the folder by its path in it; not hidden ones, those in hidden folders, and Python's caches."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): path
        for name, path in found.items()
        if not any(part.startswith(".") or part == "__pycache__" for part in name.parts)
    }


def open_repo(repo: str, repo_type: str = "model", private: bool = False, **creation: Any) -> None:
    """Creates the repository if it is missing, and makes sure that it can be written. Raises HubError."""
    if not is_repo_id(repo):
        raise HubError(f"{repo!r} is not the name of a repository: give OWNER/NAME.")
    if get_token() is None:
        raise HubError("No token for the Hub: set HF_TOKEN to one with write access, or log in with `hf auth login`.")
    api = HfApi()
    call_hub(api.create_repo, repo, repo_type=repo_type, private=private or None, exist_ok=True, **creation)
    call_hub(api.auth_check, repo, repo_type=repo_type, write=True)
    if private and not call_hub(api.repo_info, repo, repo_type=repo_type).private:
        raise HubError(f"{repo} exists and is public: make it private in its settings, or leave out --private.")


def keep_line_ends(repo: str, repo_type: str = "model", branch: str | None = None) -> None:
    """Makes sure that git converts no line ends of the repository, in a commit that changes nothing else: in one with
    files, the Hub may write LFS rules for them into .gitattributes itself. Raises HubError.

    The line stands last, where it beats every other rule on `text`; it leaves the attributes of LFS as they are
    (https://git-scm.com/docs/gitattributes).
    """
    info = call_hub(HfApi().repo_info, repo, repo_type=repo_type, revision=branch)
    rules = b""
    if any(file.rfilename == ATTRIBUTES for file in info.siblings or []):
        path = call_hub(hf_hub_download, repo, filename=ATTRIBUTES, repo_type=repo_type, revision=info.sha)
        rules = Path(path).read_bytes()
    lines = rules.splitlines()
    if KEEP_LINE_ENDS not in lines:
        changed = b"".join(line + b"\n" for line in (*lines, KEEP_LINE_ENDS))
        commit(repo, {ATTRIBUTES: changed}, (), "Keep line ends as they are", repo_type, branch)


def commit(
    repo: str,
    files: Mapping[str, Path | bytes],
    owned: Sequence[str],
    message: str,
    repo_type: str = "model",
    branch: str | None = None,
) -> Published:
    """One commit after which the repository holds `files`, and nothing else below the folders `owned`. Raises HubError.

    Files that the Hub has already are not sent; where it has all, there is no new commit.
    """
    api = HfApi()
    before = call_hub(api.repo_info, repo, repo_type=repo_type, revision=branch)
    stale = [
        file.rfilename
        for file in before.siblings or []
        if file.rfilename.startswith(tuple(owned)) and file.rfilename not in files
    ]
    with translate_hub_errors(repo, branch):
        done = call_with_timeout(
            COMMIT_SECONDS,
            api.create_commit,
            repo,
            [
                *(CommitOperationAdd(name, content) for name, content in files.items()),
                *(CommitOperationDelete(name) for name in stale),
            ],
            commit_message=message,
            repo_type=repo_type,
            revision=branch,
            parent_commit=before.sha,
        )
    return Published(done.commit_url, done.oid)


def _commit_of_tag(repo: str, branch: str | None, tag: str, files: Mapping[str, Path | bytes]) -> str | None:
    """Refuses a tag that is taken, before anything is pushed; but it may be that of an earlier attempt: on the branch's
    last commit, which holds these files."""
    refs = call_hub(HfApi().list_repo_refs, repo)
    taken = next((ref.target_commit for ref in refs.tags if ref.name == tag), None)
    heads = {ref.target_commit for ref in refs.branches if ref.name == (branch or "main")}
    if taken is not None and not (taken in heads and _holds(repo, taken, files)):
        raise HubError(f"The tag {tag} of {repo} exists, on {taken[:12]}: choose another.")
    return taken


def _holds(repo: str, sha: str, files: Mapping[str, Path | bytes]) -> bool:
    info = call_hub(HfApi().repo_info, repo, revision=sha, files_metadata=True)
    siblings = {file.rfilename: file for file in info.siblings or []}
    contents = {name: file if isinstance(file, bytes) else file.read_bytes() for name, file in files.items()}
    stale = any(name.startswith(OWNED) and name not in files for name in siblings)
    return not stale and all(is_published(content, siblings.get(name)) for name, content in contents.items())


def call_hub(call: Callable[..., Any], repo: str, **arguments: Any) -> Any:
    """A call of the Hub's client that moves no files, under a deadline. Raises HubError."""
    with translate_hub_errors(repo, arguments.get("revision")):
        return call_with_timeout(ASK_SECONDS, call, repo, **arguments)
