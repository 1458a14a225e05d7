"""A server that is measured: a process of its own on 127.0.0.1, and what it uses. Imports neither torch nor gradio."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory

import httpx

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 120

APP = ("app.py", "--host", "127.0.0.1", "--port")
"""For `running`."""


@dataclass
class Server:
    """`start_seconds` is from the command to the whole first page."""

    address: str
    process: subprocess.Popen
    start_seconds: float
    uploads: Path | None = None

    @property
    def state(self) -> Path:
        return Path("/proc") / str(self.process.pid)

    def resident_bytes(self) -> int:
        return int((self.state / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def processor_seconds(self) -> float:
        """User and system time of all its threads so far."""
        fields = (self.state / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(*program: str, env: Mapping[str, str] = os.environ) -> Iterator[Server]:
    """`python PROGRAM PORT` with a folder of its own for uploads, and without gradio's messages to its makers."""
    with TemporaryDirectory() as uploads:
        port, own = free_port(), {"GRADIO_TEMP_DIR": uploads, "GRADIO_ANALYTICS_ENABLED": "False"}
        with serving([sys.executable, *program, str(port)], port, env | own) as server:
            server.uploads = Path(uploads)
            yield server


@contextmanager
def serving(command: Sequence[str], port: int, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Runs the command until its page is served, and ends it by its id afterwards."""
    address, started = f"http://127.0.0.1:{port}", time.monotonic()
    process = subprocess.Popen(command, cwd=PROJECT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not serves(address):
            if process.poll() is not None or time.monotonic() - started > START_SECONDS:
                raise SystemExit(f"no page came from {' '.join(command)}")
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
