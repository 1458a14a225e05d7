"""How long `python app.py` takes to its first page, and what it needs, whatever the Hub does.

`python -m benchmarks.hub_starts` measures it, writes benchmarks/hub-starts.json and the table of docs/deploy.md.
"""

import json
import os
import platform
import shutil
import socket
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx

from benchmarks.server import APP, PROJECT, running
from benchmarks.tables import filled, middle, table
from model.hub import BUNDLED
from tests.hub_client import REPO, contents, environment
from tests.loopback_hub import LoopbackHub

ROUNDS = 5
RESULT, PAGE = Path(__file__).with_name("hub-starts.json"), PROJECT / "docs" / "deploy.md"
BEGIN = "<!-- written by benchmarks/hub_starts.py -->"
REFUSED = "http://127.0.0.1:9"


def start(env: dict[str, str], *flags: str) -> tuple[float, int, str]:
    """Seconds from the command to a page that is served whole; resident megabytes then; what it says of its model."""
    with running(APP[0], *flags, *APP[1:], env=env) as server:
        config = httpx.get(f"{server.address}/config", timeout=30).json()
        took, memory = server.start_seconds, server.resident_bytes() // 10**6
    parts = {part["props"].get("elem_id"): part["props"].get("value") for part in config["components"]}
    return took, memory, f"{parts['head']} {parts.get('notice', '')}"


def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """All situations in turn, `rounds` times; the cache "new" is emptied before each start."""
    with TemporaryDirectory() as folder, LoopbackHub() as hub, socket.create_server(("127.0.0.1", 0)) as server:
        silent = f"http://127.0.0.1:{server.getsockname()[1]}"  # accepts, and never answers
        warm, new, model = Path(folder) / "warm", Path(folder) / "new", ("--model", REPO)
        sha = hub.add_repo(REPO, contents(BUNDLED))
        pulled, bundled = f"uses commit {sha[:12]}", "uses the bundled model instead"
        situations = {  # where the Hub is, the cache, flags, and words that the page must then hold
            "no repository: the bundled model": (hub.url, warm, (), "bundled"),
            "the Hub answers, nothing in the cache": (hub.url, new, model, sha[:12]),
            "the Hub answers, in the cache": (hub.url, warm, model, sha[:12]),
            "pinned commit in the cache: nobody is asked": (silent, warm, (*model, "--revision", sha), sha[:12]),
            "connection refused, in the cache": (REFUSED, warm, model, pulled),
            "connection refused, nothing in the cache": (REFUSED, new, model, bundled),
            "never answers, in the cache": (silent, warm, model, pulled),
            "never answers, nothing in the cache": (silent, new, model, bundled),
        }
        start(environment(hub, warm), *model)  # fills the cache "warm"
        found: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "megabytes": []} for name in situations}
        for _ in range(rounds):
            for name, (url, cache, flags, words) in situations.items():
                shutil.rmtree(new, ignore_errors=True)
                took, memory, told = start(environment(url, cache), *flags)
                assert words in told, f"{name}: {told}"
                found[name]["seconds"].append(round(took, 2))
                found[name]["megabytes"].append(memory)
    return found


def starts_table(result: dict) -> str:
    rows = [
        [name, middle(each["seconds"], form=".1f"), f"{median(each['megabytes']):.0f} MB"]
        for name, each in result["situations"].items()
    ]
    return table(["model repository", "seconds to the first page", "resident memory"], rows)


def main() -> None:
    result = {"cores": os.cpu_count(), "python": platform.python_version(), "situations": measure(ROUNDS)}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    PAGE.write_text(filled(PAGE.read_text(), starts_table(result), begin=BEGIN))


if __name__ == "__main__":
    main()
