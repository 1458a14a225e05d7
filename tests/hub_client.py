"""The Hub's own client, in this process or in another, made to speak to a loopback Hub and to a cache of its own."""

import json
import os
import threading
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from model.hub import THREAD
from tests.loopback_hub import LoopbackHub

TOKEN = "hf_loopback"
REPO = "ann/resnet"


def point_client_at(url: str, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """In this process, in which nobody sleeps for long meanwhile: the client would, between its retries."""
    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    sleep = time.sleep
    patch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))
    patch.setenv("HF_TOKEN", TOKEN)


def environment(hub: LoopbackHub | str, cache: Path, **more: str) -> dict[str, str]:
    """For a process of its own; `hub` or its address."""
    url = hub if isinstance(hub, str) else hub.url
    own = {"HF_ENDPOINT": url, "HF_HOME": str(cache), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    return {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_HUB_CACHE")} | own | more


def contents(folder: Path) -> dict[str, bytes]:
    """All files below the folder, by their names in it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def steps(hub: LoopbackHub) -> list[str]:
    """The requests so far, without those that the client makes for itself."""
    return [step for step, _, _ in hub.log if step != "other"]


def json_with(hub: LoopbackHub, name: str, **changes) -> bytes:
    """A JSON file of the published artifact with some fields replaced."""
    return json.dumps(json.loads(hub.files(REPO)[name]) | changes).encode()


def end_calls(hub: LoopbackHub) -> None:
    """What the end of a process does to calls that were given up: their connections break."""
    deadline = time.monotonic() + 20
    while calls := [thread for thread in threading.enumerate() if thread.name == THREAD]:
        assert time.monotonic() < deadline, f"{len(calls)} calls go on although the Hub answers again"
        hub.hang_up()
        calls[0].join(0.1)
