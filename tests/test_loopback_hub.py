import hashlib
import importlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    file_download,
    get_session,
    hf_hub_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import _detect_agent, _http

from tests.loopback_hub import LoopbackHub

HTTPX = importlib.import_module(type(get_session()).__module__.partition(".")[0])  # httpx or httpx2, by version
WEIGHTS, CONFIG = b"\0weights" * 1000, b'{"depth": 8}'
FILES = {"model.safetensors": WEIGHTS, "config.json": CONFIG, "samples/a.json": b"[]"}
PUSH = ["validate", "preupload", "lfs-batch", "lfs-put", "lfs-verify", "commit"]
STEPS = "create, auth, whoami, branch, refs, validate, preupload, lfs-batch, lfs-put, lfs-verify, commit, info, tree, "
STEPS += "head, get, lfs-get, variable, tag, other"
SECONDS = 1  # of patience with a fault; less than this, and a busy machine's healthy answers are too late as well


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    impatient = SimpleNamespace(**vars(time) | {"sleep": lambda seconds: None})
    for module in (_http, file_download):
        monkeypatch.setattr(module, "time", impatient)
    monkeypatch.setattr(_detect_agent, "_registry", {})  # else the client asks the real Hub for it
    with LoopbackHub(orgs=["lab"]) as hub:
        yield hub


@pytest.fixture
def api(hub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)


@pytest.fixture
def nobody(hub) -> HfApi:
    return HfApi(endpoint=hub.url, token=False)


def adds(files: dict[str, bytes]) -> list[CommitOperationAdd]:
    return [CommitOperationAdd(path, data) for path, data in files.items()]


def push(api: HfApi, files: dict[str, bytes], repo_id="ann/m", deleted=(), **options) -> str:
    operations = [*adds(files), *(CommitOperationDelete(path) for path in deleted)]
    return api.create_commit(repo_id, operations, commit_message="push", **options).oid


def pull(hub: LoopbackHub, cache: Path, name: str, token: str | bool = False, **options) -> bytes:
    options = {"repo_id": "ann/m"} | options
    return Path(hf_hub_download(filename=name, endpoint=hub.url, cache_dir=cache, token=token, **options)).read_bytes()


def steps(hub: LoopbackHub) -> list[str]:
    return [step for step, _, _ in hub.log if step != "other"]


def status_of(call, error=HfHubHTTPError) -> int:
    with pytest.raises(error) as caught:
        call()
    assert caught.type is error
    return caught.value.response.status_code


def test_a_new_repository_has_one_commit_with_git_attributes(hub, api):
    url = api.create_repo("ann/m", private=True)
    assert (url.repo_id, url.repo_type, url) == ("ann/m", "model", f"{hub.url}/ann/m")
    repo = hub.repo("ann/m")
    assert repo.private and not repo.gated and list(repo.branches) == ["main"] and not repo.tags
    assert list(hub.files("ann/m")) == [".gitattributes"] and len(hub.history("ann/m")) == 1
    assert status_of(lambda: api.create_repo("ann/m")) == 409
    assert api.create_repo("ann/m", exist_ok=True) == url
    assert api.create_repo("lab/m").repo_id == "lab/m" and not hub.repo("lab/m").private
    with pytest.raises(KeyError):
        hub.repo("ann/m", "space")


def test_a_commit_uploads_large_files_first_and_then_shows_all_at_once(hub, api):
    first = hub.add_repo("ann/m", {"old.txt": b"old"})
    sha = push(api, FILES | {"README.md": b"# card"}, parent_commit=first)
    assert steps(hub) == PUSH
    assert hub.files("ann/m") == FILES | {"README.md": b"# card", "old.txt": b"old"}
    assert hub.files("ann/m", first) == {"old.txt": b"old"}
    assert hub.history("ann/m") == [first, sha]
    assert hub.repo("ann/m").commits[sha].title == "push"
    assert [path for path, blob in hub.repo("ann/m").at("main").files.items() if blob.is_lfs] == ["model.safetensors"]


def test_a_commit_from_files_on_disk_is_the_same(hub, api, tmp_path):
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    hub.add_repo("ann/m")
    api.upload_folder(repo_id="ann/m", folder_path=tmp_path)
    assert hub.files("ann/m") == FILES


def test_unchanged_files_make_no_commit_and_no_upload(hub, api):
    hub.add_repo("ann/m")
    sha = push(api, FILES)
    hub.log.clear()
    assert push(api, FILES) == sha and hub.history("ann/m")[-1] == sha
    assert steps(hub) == ["preupload", "lfs-batch", "info"]
    hub.log.clear()
    push(api, FILES | {"config.json": b"{}"})
    assert steps(hub) == ["preupload", "lfs-batch", "commit"] and len(hub.history("ann/m")) == 3


@pytest.mark.parametrize(
    ("name", "data", "is_lfs"),
    [
        ("a.onnx", b"onnx", True),
        ("deep/a.png", b"png", True),
        ("runs/events.out.tfevents.1.host.2.0", b"events", True),
        ("a.bin", b"a\0b", True),
        ("a.txt", b"a" * 10_000_001, True),
        ("a.txt", b"text", False),
        ("empty.safetensors", b"", False),
    ],
)
def test_the_hub_chooses_the_files_for_lfs(hub, api, name, data, is_lfs):
    hub.add_repo("ann/m")
    push(api, {name: data})
    assert hub.repo("ann/m").at("main").files[name].is_lfs is is_lfs
    hub.add_repo("ann/n", {name: data})
    assert hub.repo("ann/n").at("main").files[name].is_lfs is is_lfs


def test_files_and_folders_are_deleted(hub, api):
    first = hub.add_repo("ann/m", FILES | {"samples/b.json": b"b", "samples2.json": b"c"})
    push(api, {}, deleted=["config.json", "samples/"])
    assert hub.files("ann/m") == {"model.safetensors": WEIGHTS, "samples2.json": b"c"}
    assert status_of(lambda: push(api, {}, deleted=["gone.json"]), RemoteEntryNotFoundError) == 404
    sha = hub.commit("ann/m", {"model.safetensors": None, "samples2.json": b"d"})
    assert hub.files("ann/m") == {"samples2.json": b"d"} and hub.history("ann/m")[-1] == sha
    assert hub.files("ann/m", first)["config.json"] == CONFIG


def test_a_stale_parent_is_refused(hub, api):
    first = hub.add_repo("ann/m")
    second = hub.commit("ann/m", {"a.txt": b"by somebody else"})
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as caught:
        push(api, FILES, parent_commit=first)
    assert caught.value.response.status_code == 412 and hub.history("ann/m") == [first, second]


def test_a_commit_of_a_large_file_that_was_never_uploaded_is_refused(hub, api):
    first = hub.add_repo("ann/m")
    operations = adds({"a.txt": b"regular", "model.safetensors": WEIGHTS})
    api.preupload_lfs_files("ann/m", operations)
    hub.repo("ann/m").lfs.clear()
    with pytest.raises(BadRequestError, match="LFS pointer"):
        api.create_commit("ann/m", operations, commit_message="push")
    assert hub.history("ann/m") == [first] and hub.files("ann/m") == {}


def test_what_was_uploaded_before_a_commit_failed_is_not_uploaded_again(hub, api):
    hub.add_repo("ann/m")
    hub.fail("commit", 503, times=1)
    with pytest.raises(HfHubHTTPError):
        push(api, FILES)
    hub.log.clear()
    push(api, FILES)
    assert steps(hub) == ["preupload", "lfs-batch", "commit"] and hub.files("ann/m") == FILES


def test_the_storage_refuses_other_content_than_was_announced(hub):
    hub.add_repo("ann/m")
    headers = {"Authorization": f"Bearer {hub.token}"}
    wanted = {"oid": hashlib.sha256(WEIGHTS).hexdigest(), "size": len(WEIGHTS)}
    base = f"{hub.url}/ann/m.git/info/lfs"
    answer = get_session().post(f"{base}/objects/batch", json={"objects": [wanted]}, headers=headers).json()
    href = answer["objects"][0]["actions"]["upload"]["href"]
    for data, status in [(CONFIG, 400), (WEIGHTS, 200)]:
        assert get_session().put(href, content=data).status_code == status
        verified = get_session().post(f"{base}/verify", json=wanted, headers=headers)
        assert verified.status_code == (404 if status == 400 else 200)


def test_branches_and_tags(hub, api):
    first = hub.add_repo("ann/m", {"a.txt": b"1"})
    api.create_branch("ann/m", branch="try/this")
    second = push(api, {"a.txt": b"2"}, revision="try/this", parent_commit=first)
    third = hub.commit("ann/m", {"a.txt": b"3"})
    api.create_branch("ann/m", branch="old", revision=first)
    api.create_tag("ann/m", tag="v1", revision="try/this")
    assert status_of(lambda: api.create_branch("ann/m", branch="old")) == 409
    assert status_of(lambda: api.create_tag("ann/m", tag="v1")) == 409
    api.create_branch("ann/m", branch="old", exist_ok=True)
    found = api.list_repo_refs("ann/m")
    branches = {"main": third, "try/this": second, "old": first}
    assert {ref.name: ref.target_commit for ref in found.branches} == branches == hub.repo("ann/m").branches
    assert [(ref.name, ref.ref, ref.target_commit) for ref in found.tags] == [("v1", "refs/tags/v1", second)]
    assert hub.files("ann/m") == {"a.txt": b"3"} and hub.files("ann/m", "v1") == {"a.txt": b"2"}
    assert hub.history("ann/m") == [first, third] and hub.history("ann/m", "try/this") == [first, second]
    assert api.repo_info("ann/m", revision="v1").sha == api.repo_info("ann/m", revision="try/this").sha == second
    for missing in (lambda: push(api, FILES, revision="no"), lambda: api.create_tag("ann/m", tag="t", revision="no")):
        assert status_of(missing, RevisionNotFoundError) == 404


def test_info_and_tree_tell_sizes_and_digests(hub, nobody):
    sha = hub.add_repo("ann/m", FILES)
    config = hashlib.sha1(b"blob 12\0" + CONFIG).hexdigest()
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 8000\n".encode()
    pointer_oid = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer).hexdigest()

    about = nobody.model_info("ann/m", files_metadata=True)
    assert (about.id, about.sha, about.private, about.gated) == ("ann/m", sha, False, False)
    listed = {file.rfilename: file for file in about.siblings}
    tree = {entry.path: entry for entry in nobody.list_repo_tree("ann/m", recursive=True)}
    paths = {entry.path: entry for entry in nobody.get_paths_info("ann/m", ["config.json", "model.safetensors", "x"])}
    assert list(listed) == ["config.json", "model.safetensors", "samples/a.json"]
    assert list(tree) == ["config.json", "model.safetensors", "samples", "samples/a.json"]
    assert list(paths) == ["config.json", "model.safetensors"]
    for files in (listed, tree, paths):
        assert (files["config.json"].size, files["config.json"].blob_id) == (12, config)
        weights = files["model.safetensors"]
        assert (weights.size, weights.blob_id, weights.lfs.sha256) == (8000, pointer_oid, digest)
        assert (weights.lfs.size, weights.lfs.pointer_size) == (8000, len(pointer))
    assert [file.size for file in nobody.model_info("ann/m").siblings] == [None] * 3
    assert [entry.path for entry in nobody.list_repo_tree("ann/m")] == ["config.json", "model.safetensors", "samples"]
    assert [entry.path for entry in nobody.list_repo_tree("ann/m", "samples")] == ["samples/a.json"]
    with pytest.raises(RemoteEntryNotFoundError):
        list(nobody.list_repo_tree("ann/m", "nowhere"))


@pytest.mark.parametrize("repo_type", ["model", "dataset", "space"])
def test_downloads_are_byte_equal_and_cached_under_the_commit(hub, tmp_path, repo_type):
    sha = hub.add_repo("ann/m", FILES, repo_type)
    for name, data in FILES.items():
        assert pull(hub, tmp_path, name, hub.token, repo_type=repo_type) == data
    assert steps(hub) == ["head", "lfs-get", "head", "get", "head", "get"]
    assert sorted(path.name for path in tmp_path.glob("*/snapshots/*")) == [sha]
    hub.log.clear()
    assert pull(hub, tmp_path, "config.json", repo_type=repo_type, revision=sha) == CONFIG and hub.log == []


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [("2-4", 206, CONFIG[2:5]), ("7-", 206, CONFIG[7:]), ("-3", 206, CONFIG[-3:]), ("12-", 416, b"")],
)
def test_a_range_of_a_file(hub, wanted, status, part):
    hub.add_repo("ann/m", FILES)
    headers = {"Range": f"bytes={wanted}"}
    reply = get_session().get(f"{hub.url}/ann/m/resolve/main/config.json", headers=headers)
    assert (reply.status_code, reply.content) == (status, part)
    assert reply.headers["Content-Range"].endswith("/12")


def test_what_does_not_exist_raises_the_clients_own_errors(hub, api, nobody, tmp_path):
    sha = hub.add_repo("ann/m", FILES)
    hub.add_repo("ann/secret", FILES, private=True)
    hub.add_repo("bob/secret", FILES, private=True)
    for missing, status in [("ann/no", 404), ("bob/secret", 404)]:
        assert status_of(lambda repo=missing: api.repo_info(repo), RepositoryNotFoundError) == status
    for missing in ("ann/no", "ann/secret"):
        assert status_of(lambda repo=missing: nobody.repo_info(repo), RepositoryNotFoundError) == 401
        with pytest.raises(RepositoryNotFoundError):
            pull(hub, tmp_path, "config.json", repo_id=missing)
    assert pull(hub, tmp_path, "model.safetensors", hub.token, repo_id="ann/secret") == WEIGHTS
    with pytest.raises(RevisionNotFoundError):
        pull(hub, tmp_path, "config.json", revision="no")
    with pytest.raises(RemoteEntryNotFoundError) as caught:
        pull(hub, tmp_path, "no.json")
    assert caught.value.response.headers["X-Repo-Commit"] == sha
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        pull(hub, tmp_path, "config.json", "hf_wrong")


def test_a_gated_repository_shows_its_info_but_no_files_to_a_stranger(hub, nobody, tmp_path):
    hub.add_repo("bob/m", FILES, gated=True)
    assert nobody.model_info("bob/m").gated == "auto"
    assert status_of(lambda: nobody.auth_check("bob/m"), GatedRepoError) == 403
    with pytest.raises(GatedRepoError):
        pull(hub, tmp_path, "config.json", repo_id="bob/m")
    assert get_session().get(f"{hub.url}/bob/m/resolve/main/config.json").status_code == 403
    assert pull(hub, tmp_path, "config.json", hub.token, repo_id="bob/m") == CONFIG


def test_only_the_owner_writes(hub, api, nobody):
    hub.add_repo("ann/m")
    hub.add_repo("bob/m")
    assert status_of(lambda: nobody.create_repo("ann/new")) == 401
    assert status_of(lambda: api.create_repo("bob/new")) == 403
    assert status_of(lambda: HfApi(endpoint=hub.url, token="hf_wrong").create_repo("ann/new")) == 401
    writes = [
        lambda api, repo: push(api, FILES, repo),
        lambda api, repo: api.create_branch(repo, branch="b"),
        lambda api, repo: api.create_tag(repo, tag="t"),
        lambda api, repo: api.auth_check(repo, write=True),
    ]
    for write in writes:
        assert status_of(lambda write=write: write(nobody, "ann/m"), RepositoryNotFoundError) == 401
        assert status_of(lambda write=write: write(api, "ann/no"), RepositoryNotFoundError) == 404
        assert status_of(lambda write=write: write(api, "bob/m")) == 403
        write(api, "ann/m")
    assert hub.files("bob/m") == {} and ("model", "ann/new") not in hub.repos
    api.auth_check("bob/m")
    me = api.whoami()
    assert (me["name"], me["orgs"], me["auth"]["accessToken"]["role"]) == ("ann", [{"name": "lab"}], "write")
    assert (
        status_of(lambda: get_session().get(f"{hub.url}/api/whoami-v2").raise_for_status(), HTTPX.HTTPStatusError)
        == 401
    )


def test_a_token_never_reaches_the_storage(hub, api):
    hub.add_repo("ann/m", FILES)
    place = get_session().get(f"{hub.url}/ann/m/resolve/main/model.safetensors", follow_redirects=False)
    headers = {"Authorization": f"Bearer {hub.token}"}
    assert place.status_code == 302 and place.headers["Location"].startswith("http://localhost:")
    assert get_session().get(place.headers["Location"]).content == WEIGHTS
    assert get_session().get(place.headers["Location"], headers=headers).status_code == 400


def test_a_space_has_an_sdk_and_variables(hub, api):
    body = {"name": "s", "organization": "ann", "type": "space"}
    headers = {"Authorization": f"Bearer {hub.token}"}
    assert get_session().post(f"{hub.url}/api/repos/create", json=body, headers=headers).status_code == 400
    variables = [{"key": "A", "value": "1"}]
    url = api.create_repo("ann/s", repo_type="space", space_sdk="gradio", space_variables=variables)
    assert (url.repo_id, url.repo_type) == ("ann/s", "space")
    push(api, {"app.py": b"", "README.md": b"---\nsdk: gradio\n---\n"}, "ann/s", repo_type="space")
    assert {key: one.value for key, one in api.add_space_variable("ann/s", "B", "2").items()} == {"A": "1", "B": "2"}
    assert {key: one.value for key, one in api.get_space_variables("ann/s").items()} == {"A": "1", "B": "2"}
    assert hub.repo("ann/s", "space").variables == {"A": "1", "B": "2"}
    assert api.space_info("ann/s").sdk == hub.repo("ann/s", "space").sdk == "gradio"
    assert sorted(hub.files("ann/s", repo_type="space")) == [".gitattributes", "README.md", "app.py"]


def test_the_log_names_every_request_in_order(hub, api):
    hub.add_repo("ann/m", FILES)
    api.model_info("ann/m", files_metadata=True)
    get_session().get(f"{hub.url}/api/agent-harnesses")
    assert hub.log[-2:] == [
        ("info", "GET", "/api/models/ann/m?blobs=true"),
        ("other", "GET", "/api/agent-harnesses"),
    ]


def test_a_fault_skips_and_counts_until_it_is_healed(hub, api):
    hub.add_repo("ann/m")
    outcomes = []
    hub.fail("info", 500, times=2, after=1)
    for _ in range(4):
        outcomes.append(get_session().get(f"{hub.url}/api/models/ann/m").status_code)
    assert outcomes == [200, 500, 500, 200]
    hub.fail("info", (403, {"X-Error-Code": "GatedRepo"}))
    for _ in range(3):
        assert status_of(lambda: api.model_info("ann/m"), GatedRepoError) == 403
    hub.heal()
    assert api.model_info("ann/m").id == "ann/m"
    with pytest.raises(ValueError, match=f"no step 'comit'; there are {STEPS}$"):
        hub.fail("comit", 500)
    with pytest.raises(ValueError, match="no fault 'slow'.* stall"):
        hub.fail("commit", "slow")


@pytest.mark.parametrize("status", [401, 403, 404, 409, 412, 429, 500, 503])
def test_a_status_comes_with_a_message_and_headers(hub, api, status):
    hub.add_repo("ann/m")
    hub.fail("commit", (status, {"Retry-After": "7"}))
    with pytest.raises(HfHubHTTPError, match="injected") as caught:
        push(api, FILES)
    response = caught.value.response
    assert (response.status_code, response.json(), response.headers["Retry-After"]) == (
        status,
        {"error": "injected"},
        "7",
    )
    assert hub.files("ann/m") == {}


@pytest.mark.parametrize("step", ["preupload", "lfs-batch", "lfs-put", "lfs-verify"])
def test_the_client_repeats_these_steps_of_a_push(hub, api, step):
    hub.add_repo("ann/m")
    for fault in (503, "reset", "lost"):
        hub.fail(step, fault, times=2)
        push(api, {"model.safetensors": WEIGHTS + str(fault).encode()})
        assert steps(hub).count(step) == 3
        hub.log.clear()
    assert len(hub.history("ann/m")) == 4


def test_reset_breaks_the_connection_before_the_work_and_lost_after_it(hub, api):
    first = hub.add_repo("ann/m")
    hub.fail("commit", "reset")
    with pytest.raises(HTTPX.NetworkError):
        push(api, FILES)
    assert hub.history("ann/m") == [first]
    hub.fail("commit", "lost")
    with pytest.raises(HTTPX.NetworkError):
        push(api, FILES)
    assert hub.files("ann/m") == FILES and len(hub.history("ann/m")) == 2


@pytest.mark.parametrize("fault", ["hang", "stall"])
def test_hang_and_stall_keep_the_client_waiting_until_the_hub_stops(fault):
    def ask(timeout: float):
        return HTTPX.get(f"{hub.url}/api/models/ann/m", timeout=timeout)

    with ThreadPoolExecutor(1) as pool:
        with LoopbackHub() as hub:
            hub.add_repo("ann/m", FILES)
            hub.fail("info", fault)
            with pytest.raises(HTTPX.ReadTimeout):
                ask(SECONDS)
            patient = pool.submit(ask, 20)
            while len(hub.log) < 2:
                time.sleep(0.01)
            time.sleep(0.2)
            assert not patient.done()
        with pytest.raises((HTTPX.NetworkError, HTTPX.RemoteProtocolError)):
            patient.result()


def test_a_head_that_hangs_is_repeated(hub, tmp_path):
    hub.add_repo("ann/m", FILES)
    hub.fail("head", "hang", times=1)
    assert pull(hub, tmp_path, "config.json", etag_timeout=SECONDS) == CONFIG
    assert steps(hub) == ["head", "head", "get"]


@pytest.mark.parametrize(("step", "name"), [("get", "config.json"), ("lfs-get", "model.safetensors")])
@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_a_download_that_ends_half_way_is_resumed(hub, tmp_path, monkeypatch, step, name, fault):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", SECONDS)
    hub.add_repo("ann/m", FILES)
    hub.fail(step, fault, times=1)
    assert pull(hub, tmp_path, name) == FILES[name]
    assert steps(hub) == ["head", step, step]


def test_cut_reads_half_of_an_upload(hub, api):
    first = hub.add_repo("ann/m")
    for step in ("lfs-put", "commit"):
        hub.heal()
        hub.fail(step, "cut")
        with pytest.raises((HTTPX.TransportError, RuntimeError)):
            push(api, {"model.safetensors": WEIGHTS * 1000})
        assert hub.history("ann/m") == [first]
        assert bool(hub.repo("ann/m").lfs) is (step == "commit")


def test_cut_does_not_wait_for_the_other_half_of_an_upload(hub):
    hub.fail("create", "cut")
    with socket.create_connection(hub.url.removeprefix("http://").split(":"), timeout=10) as connection:
        connection.sendall(b"POST /api/repos/create HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_cut_head_has_no_complete_answer(hub, tmp_path):
    hub.add_repo("ann/m", FILES)
    hub.fail("head", "cut")
    with pytest.raises(HTTPX.RemoteProtocolError):
        pull(hub, tmp_path, "config.json")


@pytest.mark.parametrize(("step", "name"), [("get", "config.json"), ("lfs-get", "model.safetensors")])
def test_truncated_is_a_lie_that_the_client_believes_if_both_answers_tell_it(hub, tmp_path, step, name):
    hub.add_repo("ann/m", FILES)
    hub.fail(step, "truncated")
    with pytest.raises(OSError, match="Consistency check failed"):
        pull(hub, tmp_path, name)
    hub.fail("head", "truncated")
    assert pull(hub, tmp_path, name) == FILES[name][: len(FILES[name]) // 2]


@pytest.mark.parametrize(("step", "name"), [("get", "config.json"), ("lfs-get", "model.safetensors")])
def test_garbage_has_the_right_length_and_the_client_believes_it(hub, tmp_path, step, name):
    hub.add_repo("ann/m", FILES)
    hub.fail(step, "garbage")
    data = pull(hub, tmp_path, name)
    assert len(data) == len(FILES[name]) and not any(a == b for a, b in zip(data, FILES[name], strict=True))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_wrong_etag_names_the_file_in_the_cache(hub, tmp_path, name):
    hub.add_repo("ann/m", FILES)
    hub.fail("head", "wrong-etag")
    assert pull(hub, tmp_path, name) == FILES[name]
    assert {path.name.strip("0") for path in tmp_path.glob("models--*/blobs/*")} == {""}


def test_a_stopped_hub_answers_nothing_not_even_on_a_kept_connection():
    with HTTPX.Client() as client:
        with LoopbackHub() as hub:
            assert client.get(f"{hub.url}/api/agent-harnesses").status_code == 404
        with pytest.raises(HTTPX.TransportError):
            client.get(f"{hub.url}/api/agent-harnesses")
