"""How long `python app.py` takes to its first page, and what it needs, whatever the Hub does.

`python -m tests.hub_starts` measures it, writes docs/hub-starts.json and the table of docs/deploy.md.
"""

import json
import os
import platform
import shutil
import socket
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.server import app_command, free_port, running
from benchmarks.tables import filled, table
from model.hub import BUNDLED
from tests.hub_client import REPO, contents, environment
from tests.loopback_hub import LoopbackHub
from tests.serving import ROOT
from trainer.fit import cpu_name, git_commit

ROUNDS = 5
RESULT = ROOT / "docs" / "hub-starts.json"
PAGE = ROOT / "docs" / "deploy.md"
BEGIN = "<!-- written by tests/hub_starts.py -->"
REFUSED = "http://127.0.0.1:9"


@contextmanager
def silent_hub() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def start(env: dict[str, str], *flags: str) -> tuple[float, int, str]:
    """Seconds from the command to a page that is served whole; resident megabytes then; what it says of its model."""
    port = free_port()
    with running([*app_command(port), *flags], port, env) as server:
        config = httpx.get(f"{server.address}/config", timeout=30).json()
        took, memory = server.start_seconds, server.resident_bytes() // 10**6
    parts = {part["props"].get("elem_id"): part["props"].get("value") for part in config["components"]}
    return took, memory, f"{parts['head']} {parts.get('notice', '')}"


def situations(hub: LoopbackHub, silent: str, scratch: Path) -> dict[str, tuple[dict[str, str], tuple[str, ...], str]]:
    """Name -> environment, flags, words that the page must then hold. The cache "new" is emptied before each start."""
    sha = hub.add_repo(REPO, contents(BUNDLED))
    warm, cold, model = scratch / "warm", scratch / "new", ("--model", REPO)
    pulled, bundled = f"uses commit {sha[:12]}", "uses the bundled model instead"
    return {
        "no repository: the bundled model": (environment(hub, warm), (), "bundled"),
        "the Hub answers, nothing in the cache": (environment(hub, cold), model, sha[:12]),
        "the Hub answers, in the cache": (environment(hub, warm), model, sha[:12]),
        "pinned commit in the cache: nobody is asked": (
            environment(silent, warm),
            (*model, "--revision", sha),
            sha[:12],
        ),
        "connection refused, in the cache": (environment(REFUSED, warm), model, pulled),
        "connection refused, nothing in the cache": (environment(REFUSED, cold), model, bundled),
        "never answers, in the cache": (environment(silent, warm), model, pulled),
        "never answers, nothing in the cache": (environment(silent, cold), model, bundled),
    }


def measure(rounds: int) -> dict:
    """All situations in turn, `rounds` times."""
    with tempfile.TemporaryDirectory() as folder, LoopbackHub() as hub, silent_hub() as silent:
        found = situations(hub, silent, Path(folder))
        env, flags, _ = found["the Hub answers, in the cache"]
        start(env, *flags)  # fills the cache "warm"
        runs: dict[str, list[tuple[float, int]]] = {name: [] for name in found}
        for _ in range(rounds):
            for name, (env, flags, words) in found.items():
                shutil.rmtree(Path(folder) / "new", ignore_errors=True)
                took, memory, told = start(env, *flags)
                assert words in told, f"{name}: {told}"
                runs[name].append((took, memory))
                print(f"{name}: {took:.1f} s, {memory} MB", file=sys.stderr)
    return {
        "benchmark": "hub_starts",
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "git_commit": git_commit(),
        "situations": {
            name: {"seconds": [round(t, 2) for t, _ in each], "megabytes": [m for _, m in each]}
            for name, each in runs.items()
        },
    }


def starts_table(result: dict) -> str:
    return table(
        ["model repository", "seconds to the first page", "resident memory"],
        [
            [
                name,
                f"{statistics.median(each['seconds']):.1f} ({min(each['seconds']):.1f} to {max(each['seconds']):.1f})",
                f"{statistics.median(each['megabytes']):.0f} MB",
            ]
            for name, each in result["situations"].items()
        ],
    )


def main() -> None:
    result = measure(ROUNDS)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    write_page(PAGE, result)


def write_page(page: Path, result: dict) -> None:
    page.write_text(filled(page.read_text(), starts_table(result), begin=BEGIN))


if __name__ == "__main__":
    main()
