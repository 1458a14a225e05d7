"""A Hugging Face Hub on the loopback interface, for the real, unmodified huggingface_hub client.

    with LoopbackHub(user="ann") as hub:
        hub.fail("commit", 503, times=1)
        HfApi(endpoint=hub.url, token=hub.token).create_repo("ann/model")

It keeps repositories in memory and serves large files by plain LFS only, so the client needs HF_HUB_DISABLE_XET=1.
Not served: pull requests, .gitignore rules, multipart uploads, pages of results, deleting repositories and references.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote

Files = dict[str, bytes]
Headers = dict[str, str]
Fault = int | tuple[int, Headers] | str
FAULTS = ("reset", "hang", "cut", "stall", "lost", "truncated", "garbage", "wrong-etag")
LFS_NAMES = re.compile(r".*(\.safetensors|\.onnx|\.png|tfevents[^/]*)")
LFS_ABOVE_BYTES = 10_000_000
URL_PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}


def upload_mode(path: str, size: int, sample: bytes) -> str:
    large = LFS_NAMES.fullmatch(path) or size > LFS_ABOVE_BYTES or b"\0" in sample
    return "lfs" if size and large else "regular"


@dataclass(frozen=True)
class Blob:
    data: bytes
    is_lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def in_git(self) -> bytes:
        """What git itself keeps: of an LFS file only a pointer."""
        spec = "https://git-lfs.github.com/spec/v1"
        pointer = f"version {spec}\noid sha256:{self.sha256}\nsize {len(self.data)}\n" if self.is_lfs else ""
        return pointer.encode() or self.data

    @cached_property
    def git_oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.in_git) + self.in_git).hexdigest()

    @property
    def etag(self) -> str:
        """What the client compares with a local file: the digest of the content, also for an LFS file."""
        return self.sha256 if self.is_lfs else self.git_oid

    def about(self, oid_key: str, sha256_key: str) -> dict:
        """Size and digests under the names that they have in an answer."""
        lfs = {sha256_key: self.sha256, "size": len(self.data), "pointerSize": len(self.in_git)}
        return {oid_key: self.git_oid, "size": len(self.data)} | ({"lfs": lfs} if self.is_lfs else {})


@dataclass(frozen=True)
class Commit:
    sha: str
    parent: str | None
    files: dict[str, Blob]
    title: str


@dataclass
class Repo:
    repo_id: str
    repo_type: str
    private: bool = False
    gated: bool = False
    sdk: str | None = None
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    lfs: Files = field(default_factory=dict)  # by sha256: what was uploaded, committed or not

    @property
    def url_path(self) -> str:
        return f"{URL_PREFIX[self.repo_type]}{self.repo_id}"

    def at(self, revision: str) -> Commit:
        """KeyError if `revision` is no branch, tag or full sha."""
        return self.commits[self.branches.get(revision) or self.tags.get(revision) or revision]

    def add_commit(self, branch: str, files: dict[str, Blob], title: str) -> str:
        """Puts `branch` on a new commit of exactly `files`; its sha is new even if the files are not."""
        parent = self.branches.get(branch)
        tree = sorted((path, blob.git_oid) for path, blob in files.items())
        content = (self.url_path, len(self.commits), parent, title, tree)
        commit = Commit(hashlib.sha1(repr(content).encode()).hexdigest(), parent, files, title)
        self.commits[commit.sha] = commit
        self.branches[branch] = commit.sha
        return commit.sha

    def blob(self, path: str, data: bytes) -> Blob:
        blob = Blob(data, upload_mode(path, len(data), data[:512]) == "lfs")
        self.lfs |= {blob.sha256: data} if blob.is_lfs else {}
        return blob


class LoopbackHub:
    def __init__(self, user: str = "ann", token: str = "hf_loopback", orgs: Iterable[str] = ()):
        self.user, self.token, self.orgs = user, token, tuple(orgs)
        self.log: list[tuple[str, str, str]] = []  # (step, method, path with query) of every request, as it arrived
        self.lock, self.stopped = threading.RLock(), threading.Event()
        self.connections: set[socket.socket] = set()
        self.repos: dict[tuple[str, str], Repo] = {}  # by type and id
        self._faults: dict[str, Iterator[Fault | None]] = {}
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.hub = self
        port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        # Another origin, as the real Hub's storage: the client would follow a redirect to its own and lose the headers.
        self.storage_key = secrets.token_hex(8)
        self.storage = f"http://localhost:{port}/storage/{self.storage_key}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self.connections):  # else those that the client keeps open would still be answered
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def add_repo(self, repo_id: str, files: Files | None = None, repo_type="model", private=False, gated=False) -> str:
        """The sha of the first commit, on main; a space gets the sdk gradio."""
        repo = Repo(repo_id, repo_type, private, gated, "gradio" if repo_type == "space" else None)
        with self.lock:
            self.repos[repo_type, repo_id] = repo
            return repo.add_commit("main", {p: repo.blob(p, data) for p, data in (files or {}).items()}, "first")

    def commit(self, repo_id: str, files: dict[str, bytes | None], repo_type="model", branch="main") -> str:
        """The sha of a commit that somebody else made: `files` on top of the branch, where None deletes a file."""
        with self.lock:
            repo = self.repo(repo_id, repo_type)
            kept = {path: blob for path, blob in repo.at(branch).files.items() if path not in files}
            changed = {path: repo.blob(path, data) for path, data in files.items() if data is not None}
            return repo.add_commit(branch, kept | changed, "by the server")

    def repo(self, repo_id: str, repo_type: str = "model") -> Repo:
        return self.repos[repo_type, repo_id]

    def files(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> Files:
        return {path: blob.data for path, blob in self.repo(repo_id, repo_type).at(revision).files.items()}

    def history(self, repo_id: str, branch: str = "main", repo_type: str = "model") -> list[str]:
        """The shas that lead to `branch`, oldest first."""
        repo = self.repo(repo_id, repo_type)
        shas = [repo.branches[branch]]
        while parent := repo.commits[shas[-1]].parent:
            shas.append(parent)
        return shas[::-1]

    def fail(self, step: str, fault: Fault, times: int | None = None, after: int = 0) -> None:
        """From now on, spares the first `after` requests of `step`, then fails `times` of them (None: always).

        int: this status. (int, headers): likewise. "reset": the connection breaks before any answer. "hang": no answer
        until the hub stops. "cut": half of the upload is read, or half of the answer sent, then the connection closes.
        "stall": half of the answer, then silence. "lost": does the work, then resets instead of answering.
        "truncated": half of the body, and the lengths to match. "garbage": the right length, wrong bytes. "wrong-etag".
        The last three do nothing to an answer that lacks the thing.
        """
        if step not in STEPS:
            raise ValueError(f"no step {step!r}; there are {', '.join(STEPS)}")
        if isinstance(fault, str) and fault not in FAULTS:
            raise ValueError(f"no fault {fault!r}; there are {', '.join(FAULTS)}, a status and (status, headers)")
        with self.lock:
            self._faults[step] = chain(repeat(None, after), repeat(fault) if times is None else repeat(fault, times))

    def heal(self) -> None:
        with self.lock:
            self._faults.clear()

    def arrival(self, step: str, method: str, path: str) -> Fault | None:
        """Notes a request and tells how it is to fail."""
        with self.lock:
            self.log.append((step, method, path))
            return next(self._faults.get(step, iter(())), None)


@dataclass
class Reply:
    status: int
    body: bytes = b""
    headers: Headers = field(default_factory=dict)
    is_file: bool = False  # honours Range


def as_json(content: object, status: int = 200, headers: Headers | None = None) -> Reply:
    return Reply(status, json.dumps(content).encode(), {"Content-Type": "application/json"} | (headers or {}))


class Refused(Exception):
    """Carries the answer to a request that the Hub turns down; `code` selects the client's class of error."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: Headers | None = None):
        named = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply = as_json({"error": message}, status, named | (headers or {}))


@dataclass
class Request:
    """A request, and what its sender may do."""

    hub: LoopbackHub
    params: dict[str, str]  # the named groups of the route
    query: dict[str, list[str]]
    authorization: str | None
    body: bytes

    def json(self) -> dict:
        return json.loads(self.body)

    def signed_in(self) -> bool:
        if self.authorization not in (None, f"Bearer {self.hub.token}"):
            raise Refused(401, "Invalid credentials in Authorization header")
        return self.authorization is not None

    def owns(self, namespace: str) -> bool:
        return self.signed_in() and namespace in (self.hub.user, *self.hub.orgs)

    def named(self) -> Repo | None:
        return self.hub.repos.get((self.params.get("kind", "models")[:-1], self.params["repo"]))

    def readable(self) -> Repo:
        """Like the real Hub, does not tell a private repository from one that does not exist."""
        repo, signed_in = self.named(), self.signed_in()
        if repo is None or (repo.private and not self.owns(repo.repo_id.split("/")[0])):
            raise Refused(404 if signed_in else 401, "Repository not found", "RepoNotFound")
        return repo

    def downloadable(self) -> Repo:
        repo = self.readable()
        if repo.gated and not self.signed_in():
            raise Refused(403, f"Access to {repo.repo_id} is restricted. Please log in.", "GatedRepo")
        return repo

    def writable(self) -> Repo:
        if not self.signed_in():
            # Over https the client takes every 401 under /api/models for RepoNotFound; over http the code says so.
            raise Refused(401, "Invalid username or password.", "RepoNotFound")
        repo = self.readable()
        if not self.owns(repo.repo_id.split("/")[0]):
            raise Refused(403, f"You don't have the rights to write to {repo.repo_id}")
        return repo

    def stored(self) -> Repo:
        """The storage trusts the key in the address; like S3 it refuses a token, which is not to be sent there."""
        if self.authorization or self.params["key"] != self.hub.storage_key or not (repo := self.named()):
            raise Refused(400 if self.authorization else 403, "Access denied")
        return repo

    def commit_of(self, repo: Repo, revision: str | None = None) -> Commit:
        try:
            return repo.at(revision or self.params.get("revision", "main"))
        except KeyError as missing:
            raise Refused(404, f"Invalid rev id: {missing}", "RevisionNotFound") from None


class Api(Request):
    """The answers, a method per route."""

    def create(self) -> Reply:
        wanted = self.json()
        if not self.signed_in():
            raise Refused(401, "Invalid username or password.")
        namespace, repo_type = wanted.get("organization") or self.hub.user, wanted.get("type", "model")
        if not self.owns(namespace):
            raise Refused(403, f'You don\'t have the rights to create a {repo_type} under the namespace "{namespace}"')
        if repo_type == "space" and not wanted.get("sdk"):
            raise Refused(400, "sdk is required for a Space")
        repo = Repo(f"{namespace}/{wanted['name']}", repo_type, wanted.get("visibility") == "private")
        answer = {"url": f"{self.hub.url}/{repo.url_path}", "name": repo.repo_id, "id": repo.url_path}
        if (repo_type, repo.repo_id) in self.hub.repos:
            return as_json(answer | {"error": f"You already created this {repo_type} repo"}, 409)
        repo.sdk = wanted.get("sdk")
        repo.variables = {variable["key"]: variable["value"] for variable in wanted.get("variables", ())}
        attributes = repo.blob(".gitattributes", b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
        repo.add_commit("main", {".gitattributes": attributes}, "initial commit")
        self.hub.repos[repo_type, repo.repo_id] = repo
        return as_json(answer)

    def auth_check(self) -> Reply:
        self.writable() if "write" in self.params else self.downloadable()
        return as_json({})

    def whoami(self) -> Reply:
        if not self.signed_in():
            raise Refused(401, "Invalid username or password.")
        orgs, auth = [{"name": org} for org in self.hub.orgs], {"accessToken": {"role": "write"}}
        return as_json({"type": "user", "name": self.hub.user, "orgs": orgs, "auth": auth})

    def add_branch(self) -> Reply:
        repo = self.writable()
        if (branch := self.params["name"]) in repo.branches:
            raise Refused(409, f"Reference already exists: {branch}")
        repo.branches[branch] = self.commit_of(repo, self.json().get("startingPoint")).sha
        return as_json({})

    def add_tag(self) -> Reply:
        repo = self.writable()
        if (tag := self.json()["tag"]) in repo.tags:
            raise Refused(409, f"Tag reference exists already: {tag}")
        repo.tags[tag] = self.commit_of(repo).sha
        return as_json({})

    def refs(self) -> Reply:
        def rows(kind: str, named: dict[str, str]) -> list[dict]:
            return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha} for name, sha in named.items()]

        repo = self.readable()
        return as_json({"branches": rows("heads", repo.branches), "tags": rows("tags", repo.tags), "converts": []})

    def validate_yaml(self) -> Reply:
        return as_json({"errors": [], "warnings": []})

    def preupload(self) -> Reply:
        files = self.commit_of(self.writable()).files

        def answer(path: str, size: int, sample: str) -> dict:
            mode = upload_mode(path, size, base64.b64decode(sample))
            known = {"oid": files[path].etag} if path in files else {}
            return {"path": path, "uploadMode": mode, "shouldIgnore": False} | known

        return as_json({"files": [answer(file["path"], file["size"], file["sample"]) for file in self.json()["files"]]})

    def lfs_batch(self) -> Reply:
        repo = self.writable()
        verify = {"href": f"{self.hub.url}/{repo.url_path}.git/info/lfs/verify"}

        def answer(oid: str, size: int) -> dict:
            upload = {"href": f"{self.hub.storage}/{repo.repo_type}s/{repo.repo_id}/{oid}", "header": {}}
            actions = {} if oid in repo.lfs else {"actions": {"upload": upload, "verify": verify}}
            return {"oid": oid, "size": size} | actions

        objects = [answer(wanted["oid"], wanted["size"]) for wanted in self.json()["objects"]]
        return as_json({"transfer": "basic", "objects": objects})

    def lfs_put(self) -> Reply:
        repo, oid = self.stored(), self.params["oid"]
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refused(400, "The content does not have the announced digest")
        repo.lfs[oid] = self.body
        return Reply(200)

    def lfs_get(self) -> Reply:
        repo, oid = self.stored(), self.params["oid"]
        if oid not in repo.lfs:
            raise Refused(404, "No such object")
        return Reply(200, repo.lfs[oid], {"Accept-Ranges": "bytes"}, is_file=True)

    def lfs_verify(self) -> Reply:
        repo, wanted = self.writable(), self.json()
        if len(repo.lfs.get(wanted["oid"], b"")) != wanted["size"]:
            raise Refused(404, "The object was not uploaded")
        return as_json({})

    def commit(self) -> Reply:
        repo, branch = self.writable(), self.params["revision"]
        if branch not in repo.branches:
            raise Refused(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        header, *operations = (json.loads(line) for line in self.body.splitlines())
        if header["value"].get("parentCommit") not in (None, repo.branches[branch]):
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repo.at(branch).files)
        for operation in operations:
            apply(repo, files, operation["key"], operation["value"])
        sha = repo.add_commit(branch, files, header["value"]["summary"])
        page = f"{self.hub.url}/{repo.url_path}/commit/{sha}"
        return as_json({"success": True, "commitOid": sha, "commitUrl": page})

    def info(self) -> Reply:
        repo = self.readable()
        commit, blobs = self.commit_of(repo), self.query.get("blobs") == ["true"]
        details = {path: blob.about("blobId", "sha256") if blobs else {} for path, blob in commit.files.items()}
        siblings = [{"rfilename": path} | details[path] for path in sorted(details)]
        flags = {"private": repo.private, "gated": "auto" if repo.gated else False, "tags": []}
        sdk = {"sdk": repo.sdk} if repo.sdk else {}
        return as_json({"id": repo.repo_id, "sha": commit.sha, "siblings": siblings} | flags | sdk)

    def tree(self) -> Reply:
        entries = tree_entries(self.commit_of(self.readable()).files)
        top = f"{self.params['path']}/" if "path" in self.params else ""
        below = [path for path in entries if path.startswith(top)]
        if top and not below:
            raise Refused(404, f"{top} does not exist", "EntryNotFound")
        recursive = self.query.get("recursive") == ["true"]
        return as_json([entries[path] for path in below if recursive or "/" not in path.removeprefix(top)])

    def paths_info(self) -> Reply:
        entries = tree_entries(self.commit_of(self.readable()).files)
        wanted = parse_qs(self.body.decode()).get("paths", [])
        return as_json([entries[path] for path in wanted if path in entries])

    def resolve(self) -> Reply:
        repo = self.downloadable()
        commit = self.commit_of(repo)
        headers = {"X-Repo-Commit": commit.sha}
        if (blob := commit.files.get(self.params["path"])) is None:
            raise Refused(404, "Entry not found", "EntryNotFound", headers)
        if not blob.is_lfs:
            return Reply(200, blob.data, headers | {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}, is_file=True)
        linked = {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.data))}
        place = f"{self.hub.storage}/{repo.repo_type}s/{repo.repo_id}/{blob.sha256}"
        return Reply(302, b"", headers | linked | {"Location": place})

    def variables(self) -> Reply:
        repo = self.writable()
        if self.body:
            repo.variables[self.json()["key"]] = self.json()["value"]
        return as_json({key: {"key": key, "value": value} for key, value in repo.variables.items()})

    def unknown(self) -> Reply:
        raise Refused(404, "Sorry, we can't find the page you are looking for.")


def apply(repo: Repo, files: dict[str, Blob], key: str, value: dict) -> None:
    """Applies one line of a commit to `files`."""
    path = value["path"]
    if key == "file":
        files[path] = Blob(base64.b64decode(value["content"]), is_lfs=False)
    elif key == "lfsFile":
        if value["oid"] not in repo.lfs:
            raise Refused(400, f"Your push was rejected because an LFS pointer points to a missing file: {path}")
        files[path] = Blob(repo.lfs[value["oid"]], is_lfs=True)
    elif key in ("deletedFile", "deletedFolder"):
        gone = [p for p in files if (p == path if key == "deletedFile" else p.startswith(path.rstrip("/") + "/"))]
        if not gone:
            raise Refused(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        for name in gone:
            del files[name]
    else:
        raise Refused(400, f"Unknown operation {key}")


def tree_entries(files: dict[str, Blob]) -> dict[str, dict]:
    """An entry for each file and each folder, by path."""
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents} - {"."}
    entries = {path: {"oid": hashlib.sha1(path.encode()).hexdigest(), "type": "directory"} for path in folders}
    entries |= {path: blob.about("oid", "oid") | {"type": "file"} for path, blob in files.items()}
    return {path: {"path": path} | entry for path, entry in sorted(entries.items())}


REPO = r"(?P<repo>[^/]+/[^/]+)"
API = rf"/api/(?P<kind>models|datasets|spaces)/{REPO}"
PAGE = rf"/(?:(?P<kind>datasets|spaces)/)?{REPO}"
REVISION = r"(?P<revision>[^/]+)"
FILE = rf"{PAGE}/resolve/{REVISION}/(?P<path>.+)"
STORED = rf"/storage/(?P<key>\w+)/(?P<kind>models|datasets|spaces)/{REPO}/(?P<oid>[0-9a-f]{{64}})"
ROUTES: list[tuple[str, str, str, Callable[[Api], Reply]]] = [
    ("POST", r"/api/repos/create", "create", Api.create),
    ("GET", rf"{API}/auth-check(?P<write>/write)?", "auth", Api.auth_check),
    ("GET", r"/api/whoami-v2", "whoami", Api.whoami),
    ("POST", rf"{API}/branch/(?P<name>[^/]+)", "branch", Api.add_branch),
    ("GET", rf"{API}/refs", "refs", Api.refs),
    ("POST", r"/api/validate-yaml", "validate", Api.validate_yaml),
    ("POST", rf"{API}/preupload/{REVISION}", "preupload", Api.preupload),
    ("POST", rf"{PAGE}\.git/info/lfs/objects/batch", "lfs-batch", Api.lfs_batch),
    ("PUT", STORED, "lfs-put", Api.lfs_put),
    ("POST", rf"{PAGE}\.git/info/lfs/verify", "lfs-verify", Api.lfs_verify),
    ("POST", rf"{API}/commit/{REVISION}", "commit", Api.commit),
    ("GET", rf"{API}(?:/revision/{REVISION})?", "info", Api.info),
    ("GET", rf"{API}/tree/{REVISION}(?:/(?P<path>.+))?", "tree", Api.tree),
    ("POST", rf"{API}/paths-info/{REVISION}", "tree", Api.paths_info),
    ("HEAD", FILE, "head", Api.resolve),
    ("GET", FILE, "get", Api.resolve),
    ("GET", STORED, "lfs-get", Api.lfs_get),
    ("GET", rf"{API}/variables", "variable", Api.variables),
    ("POST", rf"{API}/variables", "variable", Api.variables),
    ("POST", rf"{API}/tag/{REVISION}", "tag", Api.add_tag),
]
STEPS = (*dict.fromkeys(step for _, _, step, _ in ROUTES), "other")


def route(method: str, path: str) -> tuple[str, Callable[[Api], Reply], dict[str, str]]:
    """The step, its method of `Api` and the unquoted named groups of a path without its query."""
    for allowed, pattern, step, answer in ROUTES:
        if method == allowed and (match := re.fullmatch(pattern, path)):
            return step, answer, {name: unquote(text) for name, text in match.groupdict().items() if text}
    return "other", Api.unknown, {}


def spoil(reply: Reply, fault: Fault | None) -> Reply:
    """The reply with the lie that `fault` stands for; other faults leave it as it is."""
    headers, body = dict(reply.headers), reply.body
    if fault == "truncated":
        body = body[: len(body) // 2]
        if "X-Linked-Size" in headers:
            headers["X-Linked-Size"] = str(int(headers["X-Linked-Size"]) // 2)
    elif fault == "garbage":
        body = body.translate(bytes(byte ^ 0xFF for byte in range(256)))
    elif fault == "wrong-etag":
        headers |= {key: re.sub(r"\w", "0", headers[key]) for key in ("ETag", "X-Linked-Etag") if key in headers}
    return Reply(reply.status, body, headers, reply.is_file)


def part_of(reply: Reply, wanted: str | None) -> Reply:
    """The part of a file that a Range header asks for: bytes=a-b, bytes=a- or bytes=-n."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    if not (reply.is_file and match and any(match.groups())):
        return reply
    size = len(reply.body)
    start = int(match[1]) if match[1] else max(size - int(match[2]), 0)
    stop = min(int(match[2]) + 1, size) if match[1] and match[2] else size
    if start >= stop:
        return Reply(416, b"", {"Content-Range": f"bytes */{size}"})
    return Reply(206, reply.body[start:stop], reply.headers | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"})


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    hub: LoopbackHub

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that went away is no news, a bug of the hub is
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.hub.connections.add(self.connection)

    def finish(self) -> None:
        self.server.hub.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_) -> None:
        pass

    def answer(self) -> None:
        hub, length = self.server.hub, int(self.headers.get("Content-Length", 0))
        path, _, query = self.path.partition("?")
        step, method, params = route(self.command, path)
        fault = hub.arrival(step, self.command, self.path)
        body = self.rfile.read(length // 2 if fault == "cut" else length)
        if fault == "hang":
            hub.stopped.wait()
        if fault in ("reset", "hang") or (fault == "cut" and length):
            return self.reset()
        request = Api(hub, params, parse_qs(query), self.headers.get("Authorization"), body)
        reply = perform(method, request, fault)
        return self.reset() if fault == "lost" else self.send(spoil(reply, fault), fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def send(self, reply: Reply, fault: Fault | None) -> None:
        reply = reply if self.command == "HEAD" else part_of(reply, self.headers.get("Range"))
        headers = reply.headers | {"Content-Length": str(len(reply.body))}
        lines = [f"HTTP/1.1 {reply.status} loopback", *(f"{key}: {value}" for key, value in headers.items()), "", ""]
        head, body = "\r\n".join(lines).encode("latin-1", "replace"), b"" if self.command == "HEAD" else reply.body
        if fault in ("cut", "stall"):
            self.wfile.write(head + body[: len(body) // 2] if body else head[: len(head) // 2])
            if fault == "stall":
                self.server.hub.stopped.wait()
            self.close_connection = True
        else:
            self.wfile.write(head + body)

    def reset(self) -> None:
        """Breaks the connection (RST, not an orderly FIN)."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True


def perform(method: Callable[[Api], Reply], request: Api, fault: Fault | None) -> Reply:
    """One request at a time, so that nobody sees half of a change."""
    if isinstance(fault, int):
        fault = (fault, {})
    if isinstance(fault, tuple):
        return as_json({"error": "injected"}, *fault)
    with request.hub.lock:
        try:
            return method(request)
        except Refused as refused:
            return refused.reply
