"""Predictions per second of one process and of two, both behind nginx, asked over REST.

    python -m benchmarks.processes --output docs/benchmarks/processes-NAME.json

`one` is an nginx in front of one `python app.py`, `two` in front of two, in turn. 32 clients, photos of 0.2 MB.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from benchmarks import machine, serving, tables
from benchmarks.server import Server, app_command, environment, free_port, running
from trainer.fit import device_name

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

CLIENTS, MEGABYTES = 32, 0.2

NGINX = """daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}
http {{ access_log off; client_max_body_size 65m; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
upstream rest {{ least_conn; {servers} }}
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://rest; }} }} }}
"""


@contextmanager
def balanced(count: int) -> Iterator[Server]:
    """The address of an nginx in front of `count` servers; what is measured of a process is the first one's."""
    with ExitStack() as stack:
        servers = []
        for _ in range(count):
            uploads, port = Path(stack.enter_context(tempfile.TemporaryDirectory())), free_port()
            servers.append(stack.enter_context(running(app_command(port), port, environment(uploads))))
        folder, port = Path(stack.enter_context(tempfile.TemporaryDirectory())), free_port()
        folder.chmod(0o755)  # started by root, nginx works as another user, who keeps bodies here
        names = "".join(f"server {server.address.removeprefix('http://')}; " for server in servers)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, servers=names, port=port))
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        command = [nginx, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        process = subprocess.Popen(command)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        time.sleep(1)
        yield Server(f"http://127.0.0.1:{port}", servers[0].process, servers[0].start_seconds)


@app.command()
def main(
    seconds: Annotated[float, typer.Option(help="Of each run.")] = 8,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds.")] = 3,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Compare one process and two behind nginx."""
    runs: dict[str, list[dict]] = {"one": [], "two": []}
    with tempfile.TemporaryDirectory() as folder:
        files = serving.draw_pictures(Path(folder), [(CLIENTS, MEGABYTES)])[MEGABYTES]
        with balanced(1) as one, balanced(2) as two:
            for number in range(repeats):
                for side, server in serving.rotated([("one", one), ("two", two)], number):
                    mark, limit = f"{number}-{side}", ("--seconds", str(seconds))
                    runs[side].append(serving.ask(server, "rest", files, CLIENTS, mark, *limit))
    pairs = zip(*([run["requests_per_second"] for run in runs[side]] for side in ("two", "one")), strict=True)
    result = {
        "benchmark": "processes",
        "machine": machine.describe("gradio", "onnxruntime", "uvloop", "httptools"),
        "device": device_name("cpu"),
        "settings": {"seconds": seconds, "clients": CLIENTS, "megabytes": MEGABYTES},
        "rounds": repeats,
        "runs": runs,
        "two_over_one": median(two / one for two, one in pairs),
    }
    machine.write(result, output)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    app()
