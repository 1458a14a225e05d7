"""Runs `python app.py` for a test, as a person would: a process of its own on a free port of 127.0.0.1."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.server import free_port

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120
ATTEMPTS = 3
"""To listen on a free port: after it was chosen, another program may be faster."""


def on_free_port(start: Callable[[int], str]) -> str:
    """What `start(port)` returns; it raises OSError where it cannot listen there."""
    for _ in range(ATTEMPTS - 1):
        with suppress(OSError):
            return start(free_port())
    return start(free_port())


@contextmanager
def running_app(
    folder: Path, *flags: str, env: dict[str, str] | None = None, root: Path = ROOT, python: str = sys.executable
) -> Iterator[str]:
    """The address of an app with `flags`; its uploads, its output (app.log) and its process id (app.pid) lie in
    `folder`. `env` replaces this process's environment, `root` holds the app.py to run."""
    log = folder / "app.log"
    env = (env or dict(os.environ)) | {"GRADIO_TEMP_DIR": str(folder / "uploads")}
    command = [python, str(root / "app.py"), *flags, "--host", "127.0.0.1", "--port"]
    for attempt in range(1, ATTEMPTS + 1):
        address = f"http://127.0.0.1:{(port := free_port())}"
        with log.open("w") as output:
            process = subprocess.Popen([*command, str(port)], cwd=folder, env=env, stdout=output, stderr=output)
        (folder / "app.pid").write_text(str(process.pid))
        try:
            deadline = time.monotonic() + START_SECONDS
            while process.poll() is None and address not in log.read_text() and time.monotonic() < deadline:
                time.sleep(0.2)
            if process.poll() is not None and "cannot serve on" in log.read_text() and attempt < ATTEMPTS:
                continue
            assert process.poll() is None and address in log.read_text(), f"no app started:\n{log.read_text()}"
            yield address
            return
        finally:
            process.terminate()
            process.wait(timeout=60)
