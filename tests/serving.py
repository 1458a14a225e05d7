"""Runs `python app.py` for a test, as a person would: a process of its own on a free port of 127.0.0.1."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.server import free_port

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120


@contextmanager
def running_app(
    folder: Path, *flags: str, env: dict[str, str] | None = None, root: Path = ROOT, python: str = sys.executable
) -> Iterator[str]:
    """The address of an app with `flags`; its uploads, its output (app.log) and its process id (app.pid) lie in
    `folder`. `env` replaces this process's environment, `root` holds the app.py to run."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    log = folder / "app.log"
    env = (env or dict(os.environ)) | {"GRADIO_TEMP_DIR": str(folder / "uploads")}
    command = [python, str(root / "app.py"), "--host", "127.0.0.1", "--port", str(port), *flags]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=subprocess.STDOUT)
    (folder / "app.pid").write_text(str(process.pid))
    try:
        deadline = time.monotonic() + START_SECONDS
        while address not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, f"the app did not start:\n{log.read_text()}"
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)
