"""Runs `python app.py` for a test, as a person would: a process of its own on a free port of 127.0.0.1."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from benchmarks.server import free_port
from tests.conftest import cannot_run

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120
ATTEMPTS = 3
"""To listen on a free port: after it was chosen, another program may be faster."""


@contextmanager
def running_app(folder: Path, *flags: str, **how) -> Iterator[str]:
    """The address of the app alone; see `app_process`."""
    with app_process(folder, *flags, **how) as (_, address):
        yield address


@contextmanager
def app_process(
    folder: Path,
    *flags: str,
    env: dict[str, str] | None = None,
    root: Path = ROOT,
    python: str = sys.executable,
    port: int | None = None,
) -> Iterator[tuple[subprocess.Popen, str]]:
    """An app with `flags`, and its address; its uploads, its output (app.log) and its process id (app.pid) lie in
    `folder`. `env` replaces this process's environment, `root` holds the app.py to run; `port` is a certain one."""
    log = folder / "app.log"
    env = (env or dict(os.environ)) | {"GRADIO_TEMP_DIR": str(folder / "uploads")}
    command = [python, str(root / "app.py"), *flags, "--host", "127.0.0.1", "--port"]
    for attempt in range(1, ATTEMPTS + 1):
        chosen = port or free_port()
        address = f"http://127.0.0.1:{chosen}"
        with log.open("w") as output:
            process = subprocess.Popen([*command, str(chosen)], cwd=folder, env=env, stdout=output, stderr=output)
        (folder / "app.pid").write_text(str(process.pid))
        try:
            deadline = time.monotonic() + START_SECONDS
            while process.poll() is None and address not in log.read_text() and time.monotonic() < deadline:
                time.sleep(0.2)
            if process.poll() is not None and "cannot serve on" in log.read_text() and attempt < ATTEMPTS:
                continue
            assert process.poll() is None and address in log.read_text(), f"no app started:\n{log.read_text()}"
            yield process, address
            return
        finally:
            process.terminate()
            process.wait(timeout=60)


NGINX_FOLDERS = "".join(f"{name}_temp_path {name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))


@contextmanager
def running_proxy(kind: str, text: str, app: str, folder: Path) -> Iterator[str]:
    """The address of a proxy with the snippet `text`, before the app, on a free port."""
    program = shutil.which(kind) or shutil.which(kind, path="/usr/sbin")
    if program is None:
        cannot_run(f"{kind} is not installed")
    port = free_port()
    text = re.sub(r"127\.0\.0\.1:786\d", app.removeprefix("http://"), text)
    if kind == "nginx":
        text = text.replace("listen 80;", f"listen 127.0.0.1:{port};")
        # One process: as root, nginx would give its work to "nobody", who may not write into `folder`.
        main = "daemon off; master_process off; pid nginx.pid; events {}"
        text = f"{main} http {{ access_log off; {NGINX_FOLDERS} {text} }}"
        (folder / "nginx.conf").write_text(text)
        command = [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    else:
        text = "{\n admin off\n auto_https off\n}\n" + text.replace("example.org", f"http://127.0.0.1:{port}")
        (folder / "Caddyfile").write_text(text)
        command = [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    places = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(folder))
    process = subprocess.Popen(command, cwd=folder, env=os.environ | places, stderr=(folder / "log").open("w"))
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 30
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(httpx.TransportError):
                httpx.get(address, trust_env=False)
                break
            time.sleep(0.1)
        assert process.poll() is None, (folder / "log").read_text()
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)
