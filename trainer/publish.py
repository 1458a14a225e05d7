"""An artifact folder becomes one commit on the Hugging Face Hub. Needs neither torch nor Lightning.

Readers of the repository see the old artifact or the new one, never a mixture: all files go into one commit, which is
refused where somebody else pushed in the meantime. (`upload_folder` may make several commits.)
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

OWNED = tuple(f"{name}/" for name in (artifact.FIGURES, artifact.SAMPLES, artifact.TENSORBOARD))
"""Folders that hold nothing but what an export wrote."""

Files = Mapping[str, Path | bytes]
"""Path in a repository -> file, or content."""


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
    files: dict[str, Path | bytes] = {**visible_files(folder)}
    if artifact.CARD in files:
        try:
            files[artifact.CARD] = (folder / artifact.CARD).read_text("utf-8").replace(REPO, repo).encode()
        except ValueError:
            raise ArtifactError(f"{folder / artifact.CARD} is not UTF-8 text: save it as such") from None
    open_repo(repo, private=private)
    tagged = tag is not None and _is_tagged(repo, branch, tag, files)
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
    lines: list[bytes] = []
    if any(file.rfilename == ATTRIBUTES for file in info.siblings or []):
        path = call_hub(hf_hub_download, repo, filename=ATTRIBUTES, repo_type=repo_type, revision=info.sha)
        lines = Path(path).read_bytes().splitlines()
    if KEEP_LINE_ENDS not in lines:
        changed = b"".join(line + b"\n" for line in (*lines, KEEP_LINE_ENDS))
        commit(repo, {ATTRIBUTES: changed}, (), "Keep line ends as they are", repo_type, branch)


def commit(
    repo: str, files: Files, owned: Sequence[str], message: str, repo_type: str = "model", branch: str | None = None
) -> Published:
    """One commit after which the repository holds `files`, and nothing else below the folders `owned`. Raises HubError.

    Files that the Hub has already are not sent; where it has all, there is no new commit.
    """
    before = call_hub(HfApi().repo_info, repo, repo_type=repo_type, revision=branch)
    names = [file.rfilename for file in before.siblings or []]
    changes = [
        *(CommitOperationAdd(name, content) for name, content in files.items()),
        *(CommitOperationDelete(name) for name in names if name.startswith(tuple(owned)) and name not in files),
    ]
    options = {"commit_message": message, "repo_type": repo_type, "revision": branch, "parent_commit": before.sha}
    done = call_hub(HfApi().create_commit, repo, COMMIT_SECONDS, operations=changes, **options)
    return Published(done.commit_url, done.oid)


def _is_tagged(repo: str, branch: str | None, tag: str, files: Files) -> bool:
    """Whether an earlier attempt has put these files and the tag there. Raises HubError, before anything is pushed,
    where the tag is on something else than the branch's last commit with exactly these files."""
    refs = call_hub(HfApi().list_repo_refs, repo)
    taken = next((ref.target_commit for ref in refs.tags if ref.name == tag), None)
    if taken is None:
        return False
    heads = {ref.target_commit for ref in refs.branches if ref.name == (branch or "main")}
    if taken not in heads or not _holds(repo, taken, files):
        raise HubError(f"The tag {tag} of {repo} exists, on {taken[:12]}: choose another.")
    return True


def _holds(repo: str, sha: str, files: Files) -> bool:
    info = call_hub(HfApi().repo_info, repo, revision=sha, files_metadata=True)
    siblings = {file.rfilename: file for file in info.siblings or []}
    contents = {name: file if isinstance(file, bytes) else file.read_bytes() for name, file in files.items()}
    stale = [name for name in siblings if name.startswith(OWNED) and name not in files]
    return not stale and all(
        name in siblings and is_published(content, siblings[name]) for name, content in contents.items()
    )


def call_hub(call: Callable[..., Any], repo: str, seconds: float | None = None, **arguments: Any) -> Any:
    """A call of the Hub's client under a deadline; without `seconds`, for one that moves no files. Raises HubError."""
    with translate_hub_errors(repo, arguments.get("revision")):
        return call_with_timeout(seconds or ASK_SECONDS, call, repo, **arguments)
