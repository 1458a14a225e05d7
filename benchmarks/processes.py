"""Predictions per second of one process and of two, both behind nginx, asked over REST.

    python -m benchmarks.processes --output benchmarks/results/processes-NAME.json

`one` is an nginx in front of one `python app.py`, `two` in front of two, in turn. 32 clients, photos of 0.2 MB.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import load, machine, tables
from benchmarks.photos import draw
from benchmarks.server import APP, Server, free_port, running, serving

CLIENTS, MEGABYTES = 32, 0.2

NGINX = """daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}
http {{ access_log off; client_max_body_size 65m; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
upstream rest {{ least_conn; {servers} }}
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://rest; }} }} }}
"""

PARSER = machine.parser(__doc__, repeats=3)
PARSER.add_argument("--seconds", type=float, default=8, help="of each measurement")


@contextmanager
def balanced(count: int) -> Iterator[Server]:
    """An nginx in front of `count` servers."""
    with ExitStack() as stack:
        servers = [stack.enter_context(running(*APP)) for _ in range(count)]
        upstreams = " ".join(f"server {server.address.removeprefix('http://')};" for server in servers)
        folder, port = Path(stack.enter_context(TemporaryDirectory())), free_port()
        folder.chmod(0o755)  # started by root, nginx works as another user, who keeps bodies here
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, servers=upstreams, port=port))
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        command = [nginx, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        yield stack.enter_context(serving(command, port))


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    settings = {"seconds": args.seconds, "clients": CLIENTS, "megabytes": MEGABYTES}
    result = machine.describe("processes", settings, *machine.SERVING) | {"runs": {"one": [], "two": []}}
    photos = [draw(int(MEGABYTES * 1e6), seed) for seed in range(2)]
    with balanced(1) as one, balanced(2) as two:
        for number, side in machine.in_turn(["one", "two"], args.repeats):
            server = one if side == "one" else two
            run = load.ask(server, "rest", photos, CLIENTS, f"{number}-{side}", seconds=args.seconds)
            result["runs"][side].append(run)
            result["rounds"] = number
            machine.write(result, args)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    main()
