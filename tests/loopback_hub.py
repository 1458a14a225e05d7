"""A Hugging Face Hub on the loopback interface, for the real, unmodified huggingface_hub client.

    with LoopbackHub() as hub:
        hub.fail("commit", 503, times=1)
        HfApi(endpoint=hub.url, token=hub.token).create_repo("ann/model")

It keeps repositories in memory and serves large files by plain LFS only, so the client needs HF_HUB_DISABLE_XET=1.
"""

import base64
import hashlib
import json
import os
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from urllib.parse import unquote

Files = dict[str, bytes]
Fault = int | tuple[int, dict[str, str]] | str
FAULTS = ("reset", "hang", "cut", "stall", "lost", "truncated", "garbage", "wrong-etag")
LFS_NAMES = re.compile(r".*(\.safetensors|\.onnx|\.png|tfevents[^/]*)")
URL_PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}


@dataclass(frozen=True)
class Blob:
    data: bytes
    is_lfs: bool

    @property
    def digest(self) -> str:
        """The sha256 of an LFS file, the git object of another: etag, name in the client's cache, and oid."""
        if self.is_lfs:
            return hashlib.sha256(self.data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def metadata(self) -> dict:
        lfs = {"lfs": {"sha256": self.digest, "size": len(self.data), "pointerSize": 132}} if self.is_lfs else {}
        return {"blobId": self.digest[:40], "size": len(self.data)} | lfs


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
    sdk: str | None = None
    gated: bool = False
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
        tree = sorted((path, blob.digest) for path, blob in files.items())
        sha = hashlib.sha1(repr((self.url_path, len(self.commits), parent, title, tree)).encode()).hexdigest()
        self.commits[sha] = Commit(sha, parent, files, title)
        self.branches[branch] = sha
        return sha

    def blob(self, path: str, data: bytes) -> Blob:
        blob = Blob(data, bool(data and LFS_NAMES.fullmatch(path)))
        self.lfs |= {blob.digest: data} if blob.is_lfs else {}
        return blob


class LoopbackHub:
    def __init__(self, user: str = "ann", token: str = "hf_loopback"):
        self.user, self.token = user, token
        self.log: list[tuple[str, str, str]] = []  # (step, method, path with query) of every request, as it arrived
        self.lock, self.stopped = threading.RLock(), threading.Event()
        self.connections: set[socket.socket] = set()
        self.repos: dict[tuple[str, str], Repo] = {}  # by type and id
        self.faults: dict[str, Iterator[Fault | None]] = {}
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.hub = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        # Another origin, as the real Hub's storage: the client would follow a redirect to its own and lose the headers.
        self.storage = f"http://localhost:{self._server.server_port}/storage"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self.hang_up()  # else connections that the client keeps open would still be answered

    def hang_up(self) -> None:
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def add_repo(self, repo_id: str, files: Files | None = None, repo_type: str = "model") -> str:
        """The sha of the first commit, on main."""
        repo = Repo(repo_id, repo_type, sdk="gradio" if repo_type == "space" else None)
        with self.lock:
            self.repos[repo_type, repo_id] = repo
            return repo.add_commit("main", {p: repo.blob(p, data) for p, data in (files or {}).items()}, "first")

    def commit(self, repo_id: str, files: dict[str, bytes | None], repo_type: str = "model") -> str:
        """The sha of a commit that somebody else made: `files` on top of main, where None deletes a file."""
        with self.lock:
            repo = self.repo(repo_id, repo_type)
            kept = {path: blob for path, blob in repo.at("main").files.items() if path not in files}
            changed = {path: repo.blob(path, data) for path, data in files.items() if data is not None}
            return repo.add_commit("main", kept | changed, "by the server")

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
        """
        assert step in [route[2] for route in ROUTES] and (fault in FAULTS or not isinstance(fault, str))
        with self.lock:
            self.faults[step] = chain(repeat(None, after), repeat(fault) if times is None else repeat(fault, times))

    def place(self, repo: Repo, oid: str) -> str:
        """Where the storage has an LFS object."""
        return f"{self.storage}/{repo.repo_type}s/{repo.repo_id}/{oid}"

    def heal(self) -> None:
        with self.lock:
            self.faults.clear()


@dataclass
class Reply:
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


def as_json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    return Reply(json.dumps(content).encode(), {"Content-Type": "application/json"} | (headers or {}), status)


class Refused(Exception):
    """Carries the answer to a request that the Hub turns down; `code` selects the client's class of error."""

    def __init__(self, status: int, message: str, code: str = ""):
        headers = {"X-Error-Message": message, "X-Error-Code": code}
        self.reply = as_json({"error": message}, status, headers)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    hub: LoopbackHub

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that went away is no news, a bug of the hub is
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """What the sender of a request may do, a method per route, and the faults."""

    protocol_version = "HTTP/1.1"
    server: Server
    params: dict[str, str]  # the named groups of the route
    body: bytes

    def setup(self) -> None:
        super().setup()
        self.hub = self.server.hub
        self.hub.connections.add(self.connection)

    def finish(self) -> None:
        self.hub.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_) -> None:
        pass

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        step, method, self.params = route(self.command, self.path.partition("?")[0])
        with self.hub.lock:
            self.hub.log.append((step, self.command, self.path))
            fault = next(self.hub.faults.get(step, iter(())), None)
        self.body = self.rfile.read(length // 2 if fault == "cut" else length)
        if fault == "hang":
            self.hub.stopped.wait()
        if fault in ("reset", "hang") or (fault == "cut" and length):
            return self.reset()
        reply = self.perform(method, fault)
        return self.reset() if fault == "lost" else self.send(spoil(reply, fault), fault)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def perform(self, method: Callable[["Handler"], Reply], fault: Fault | None) -> Reply:
        """One request at a time, so that nobody sees half of a change."""
        if isinstance(fault, int | tuple):
            return as_json({"error": "injected"}, *(fault if isinstance(fault, tuple) else (fault,)))
        with self.hub.lock:
            try:
                return method(self)
            except Refused as refused:
                return refused.reply

    def send(self, reply: Reply, fault: Fault | None) -> None:
        headers = reply.headers | {"Content-Length": str(len(reply.body))}
        lines = [f"HTTP/1.1 {reply.status} loopback", *(f"{key}: {value}" for key, value in headers.items()), "", ""]
        head, body = "\r\n".join(lines).encode("latin-1", "replace"), b"" if self.command == "HEAD" else reply.body
        if fault in ("cut", "stall"):
            head, body = (head, body[: len(body) // 2]) if body else (head[: len(head) // 2], b"")
            self.close_connection = True
        self.wfile.write(head + body)
        if fault == "stall":
            self.hub.stopped.wait()

    def reset(self) -> None:
        """Breaks the connection (RST, not an orderly FIN)."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def signed_in(self) -> bool:
        token = self.headers.get("Authorization")
        if token not in (None, f"Bearer {self.hub.token}"):
            raise Refused(401, "Invalid credentials in Authorization header")
        return token is not None

    def readable(self) -> Repo:
        """Like the real Hub, does not tell a private repository from one that does not exist."""
        signed_in = self.signed_in()
        repo = self.hub.repos.get((self.params.get("kind", "models")[:-1], self.params["repo"]))
        if repo is None or (repo.private and not signed_in):
            raise Refused(404 if signed_in else 401, "Repository not found", "RepoNotFound")
        return repo

    def writable(self) -> Repo:
        repo = self.readable()
        if not self.signed_in():
            raise Refused(401, "Invalid username or password.", "RepoNotFound")
        if repo.repo_id.split("/")[0] != self.hub.user:
            raise Refused(403, f"You don't have the rights to write to {repo.repo_id}")
        return repo

    def commit_of(self, repo: Repo, revision: str | None = None) -> Commit:
        try:
            return repo.at(revision or self.params.get("revision", "main"))
        except KeyError as missing:
            raise Refused(404, f"Invalid rev id: {missing}", "RevisionNotFound") from None

    def create(self) -> Reply:
        wanted = json.loads(self.body)
        namespace, repo_type = wanted.get("organization") or self.hub.user, wanted.get("type", "model")
        if not self.signed_in() or namespace != self.hub.user:
            raise Refused(403, f'You don\'t have the rights to create a {repo_type} under the namespace "{namespace}"')
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
        return as_json({"name": self.writable().repo_id})

    def add_branch(self) -> Reply:
        repo, branch = self.writable(), self.params["name"]
        if branch in repo.branches:
            raise Refused(409, f"Reference already exists: {branch}")
        repo.branches[branch] = self.commit_of(repo, json.loads(self.body).get("startingPoint")).sha
        return as_json({})

    def add_tag(self) -> Reply:
        repo, tag = self.writable(), json.loads(self.body)["tag"]
        if tag in repo.tags:
            raise Refused(409, f"Tag reference exists already: {tag}")
        repo.tags[tag] = self.commit_of(repo).sha
        return as_json({})

    def refs(self) -> Reply:
        def rows(kind: str, named: dict[str, str]) -> list[dict]:
            return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha} for name, sha in named.items()]

        repo = self.readable()
        return as_json({"branches": rows("heads", repo.branches), "tags": rows("tags", repo.tags), "converts": []})

    def validate(self) -> Reply:
        return as_json({"errors": [], "warnings": []})

    def preupload(self) -> Reply:
        files, answers = self.commit_of(self.writable()).files, []
        for path in (file["path"] for file in json.loads(self.body)["files"]):
            known = {"oid": files[path].digest} if path in files else {}
            mode = "lfs" if LFS_NAMES.fullmatch(path) else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False} | known)
        return as_json({"files": answers})

    def lfs_batch(self) -> Reply:
        repo, objects = self.writable(), json.loads(self.body)["objects"]
        verify = {"href": f"{self.hub.url}/{repo.url_path}.git/info/lfs/verify"}
        for each in objects:
            upload = {"href": self.hub.place(repo, each["oid"]), "header": {}}
            each |= {} if each["oid"] in repo.lfs else {"actions": {"upload": upload, "verify": verify}}
        return as_json({"transfer": "basic", "objects": objects})

    def stored(self) -> Files:
        """The storage trusts the address; like S3 it refuses a token, which is not to be sent there."""
        if "Authorization" in self.headers:
            raise Refused(400, "Access denied")
        return self.hub.repo(self.params["repo"], self.params["kind"][:-1]).lfs

    def lfs_put(self) -> Reply:
        self.stored()[self.params["oid"]] = self.body
        return Reply()

    def lfs_get(self) -> Reply:
        return Reply(self.stored()[self.params["oid"]])

    def lfs_verify(self) -> Reply:
        wanted = json.loads(self.body)
        assert len(self.writable().lfs[wanted["oid"]]) == wanted["size"]
        return as_json({})

    def commit(self) -> Reply:
        repo, branch = self.writable(), self.params["revision"]
        before = self.commit_of(repo)
        header, *operations = (json.loads(line) for line in self.body.splitlines())
        if header["value"].get("parentCommit") not in (None, before.sha):
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(before.files)
        for key, value in ((operation["key"], operation["value"]) for operation in operations):
            if key == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), is_lfs=False)
            elif key == "lfsFile":
                files[value["path"]] = Blob(repo.lfs[value["oid"]], is_lfs=True)
            else:
                del files[value["path"]]
        sha = repo.add_commit(branch, files, header["value"]["summary"])
        page = f"{self.hub.url}/{repo.url_path}/commit/{sha}"
        return as_json({"success": True, "commitOid": sha, "commitUrl": page})

    def info(self) -> Reply:
        repo = self.readable()
        commit = self.commit_of(repo)
        siblings = [{"rfilename": path} | blob.metadata for path, blob in sorted(commit.files.items())]
        flags = {"private": repo.private, "gated": "auto" if repo.gated else False, "tags": [], "sdk": repo.sdk}
        return as_json({"id": repo.repo_id, "sha": commit.sha, "siblings": siblings} | flags)

    def resolve(self) -> Reply:
        repo = self.readable()
        if repo.gated and not self.signed_in():
            raise Refused(403, f"Access to {repo.repo_id} is restricted. Please log in.", "GatedRepo")
        commit = self.commit_of(repo)
        if (blob := commit.files.get(self.params["path"])) is None:
            raise Refused(404, "Entry not found", "EntryNotFound")
        if not blob.is_lfs:
            return Reply(blob.data, {"X-Repo-Commit": commit.sha, "ETag": f'"{blob.digest}"'})
        linked = {"X-Linked-Etag": f'"{blob.digest}"', "X-Linked-Size": str(len(blob.data))}
        headers = {"X-Repo-Commit": commit.sha, "Location": self.hub.place(repo, blob.digest)} | linked
        return Reply(headers=headers, status=302)

    def variables(self) -> Reply:
        repo = self.writable()
        if self.body:
            repo.variables[json.loads(self.body)["key"]] = json.loads(self.body)["value"]
        return as_json({key: {"key": key, "value": value} for key, value in repo.variables.items()})

    def unknown(self) -> Reply:
        raise Refused(404, "Sorry, we can't find the page you are looking for.")


def spoil(reply: Reply, fault: Fault | None) -> Reply:
    """The reply with the lie that `fault` stands for; other faults leave it as it is."""
    if fault == "truncated":
        return replace(reply, body=reply.body[: len(reply.body) // 2])
    if fault == "garbage":
        return replace(reply, body=reply.body.translate(bytes(byte ^ 0xFF for byte in range(256))))
    if fault == "wrong-etag":
        wrong = {key: re.sub(r"\w", "0", text) for key, text in reply.headers.items() if key.lower().endswith("etag")}
        return replace(reply, headers=reply.headers | wrong)
    return reply


REPO = r"(?P<repo>[^/]+/[^/]+)"
API = rf"/api/(?P<kind>models|datasets|spaces)/{REPO}"
PAGE = rf"/(?:(?P<kind>datasets|spaces)/)?{REPO}"
REVISION = r"(?P<revision>[^/]+)"
STORED = rf"/storage/(?P<kind>models|datasets|spaces)/{REPO}/(?P<oid>[0-9a-f]{{64}})"
ROUTES: list[tuple[str, str, str, Callable[[Handler], Reply]]] = [
    ("POST", r"/api/repos/create", "create", Handler.create),
    ("GET", rf"{API}/auth-check/write", "auth", Handler.auth_check),
    ("POST", rf"{API}/branch/(?P<name>[^/]+)", "branch", Handler.add_branch),
    ("GET", rf"{API}/refs", "refs", Handler.refs),
    ("POST", r"/api/validate-yaml", "validate", Handler.validate),
    ("POST", rf"{API}/preupload/{REVISION}", "preupload", Handler.preupload),
    ("POST", rf"{PAGE}\.git/info/lfs/objects/batch", "lfs-batch", Handler.lfs_batch),
    ("PUT", STORED, "lfs-put", Handler.lfs_put),
    ("POST", rf"{PAGE}\.git/info/lfs/verify", "lfs-verify", Handler.lfs_verify),
    ("POST", rf"{API}/commit/{REVISION}", "commit", Handler.commit),
    ("GET", rf"{API}(?:/revision/{REVISION})?", "info", Handler.info),
    ("HEAD", rf"{PAGE}/resolve/{REVISION}/(?P<path>.+)", "head", Handler.resolve),
    ("GET", rf"{PAGE}/resolve/{REVISION}/(?P<path>.+)", "get", Handler.resolve),
    ("GET", STORED, "lfs-get", Handler.lfs_get),
    ("GET", rf"{API}/variables", "variable", Handler.variables),
    ("POST", rf"{API}/variables", "variable", Handler.variables),
    ("POST", rf"{API}/tag/{REVISION}", "tag", Handler.add_tag),
]


def route(method: str, path: str) -> tuple[str, Callable[[Handler], Reply], dict[str, str]]:
    """The step, its method of `Handler` and the unquoted named groups of a path without its query."""
    for allowed, pattern, step, answer in ROUTES:
        if method == allowed and (match := re.fullmatch(pattern, path)):
            return step, answer, {name: unquote(text) for name, text in match.groupdict().items() if text}
    return "other", Handler.unknown, {}
