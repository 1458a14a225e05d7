"""A server that is measured: a process of its own on 127.0.0.1, and what it uses. Imports neither torch nor gradio."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket

import httpx

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 120


@dataclass
class Server:
    """`start_seconds` is from the command to the whole first page."""

    address: str
    process: subprocess.Popen
    start_seconds: float

    @property
    def state(self) -> Path:
        return Path("/proc") / str(self.process.pid)

    def resident_bytes(self) -> int:
        return int((self.state / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def processor_seconds(self) -> float:
        """User and system time of all its threads so far."""
        fields = (self.state / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        return len(list((self.state / "fd").iterdir()))


def free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def app_command(port: int, artifact: Path | None = None) -> list[str]:
    """`python app.py` with the bundled model or that of a folder."""
    model = ["--model", str(artifact)] if artifact else []
    return [sys.executable, str(PROJECT / "app.py"), "--host", "127.0.0.1", "--port", str(port), *model]


@contextmanager
def running(command: Sequence[str], port: int, env: dict[str, str] | None = None) -> Iterator[Server]:
    """Runs the command until its page is served, and ends it by its id afterwards."""
    address, started = f"http://127.0.0.1:{port}", time.monotonic()
    process = subprocess.Popen(command, cwd=PROJECT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not serves(address):
            if process.poll() is not None or time.monotonic() - started > START_SECONDS:
                raise SystemExit(f"no page came from {' '.join(map(str, command))}")
            time.sleep(0.02)
        yield Server(address, process, time.monotonic() - started)
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def serves(address: str) -> bool:
    try:
        return httpx.get(address, timeout=30, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def environment(uploads: Path | str) -> dict[str, str]:
    """This process's, with its own folder for uploads and without gradio's messages to its makers."""
    return os.environ | {"GRADIO_TEMP_DIR": str(uploads), "GRADIO_ANALYTICS_ENABLED": "False"}
