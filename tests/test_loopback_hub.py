"""The loopback Hub does to the real client what the real Hub does, and its faults are those that it names."""

from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from tests.hub_client import steps

FILES = {"model.safetensors": b"\0weights" * 1000, "config.json": b'{"depth": 8}'}


def push(files: dict[str, bytes], **options) -> str:
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    return HfApi().create_commit("ann/m", operations, commit_message="push", **options).oid


def pull(name: str) -> bytes:
    return Path(hf_hub_download("ann/m", name)).read_bytes()


def test_what_is_pushed_is_kept_and_pulled_and_large_files_go_through_the_storage(hub):
    hub.add_repo("ann/m", {"old.txt": b"old"})
    sha = push(FILES)
    assert hub.files("ann/m") == FILES | {"old.txt": b"old"} and hub.history("ann/m")[-1] == sha
    pushed = ["preupload", "lfs-batch", "lfs-put", "lfs-verify", "commit"]
    assert steps(hub) == pushed and {name: pull(name) for name in FILES} == FILES
    assert steps(hub)[len(pushed) :] == ["head", "lfs-get", "head", "get"]
    assert push(FILES) == sha


def test_a_stale_parent_is_refused(hub):
    first = hub.add_repo("ann/m")
    hub.commit("ann/m", {"theirs.txt": b"theirs"})
    with pytest.raises(HfHubHTTPError) as caught:
        push(FILES, parent_commit=first)
    assert caught.value.response.status_code == 412 and "model.safetensors" not in hub.files("ann/m")


def test_a_fault_skips_and_counts_until_it_is_healed(hub):
    hub.add_repo("ann/m")
    hub.fail("info", 403, times=1, after=1)
    HfApi().model_info("ann/m")
    with pytest.raises(HfHubHTTPError, match="injected"):
        HfApi().model_info("ann/m")
    HfApi().model_info("ann/m")
    hub.fail("info", 403)
    hub.heal()
    assert HfApi().model_info("ann/m").id == "ann/m"
