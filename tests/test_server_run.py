"""server/run.py: where it listens, and that it ends soon and leaves nothing behind. `python app.py`, a process each."""

import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.run import FIRST_PORT, listen
from server.uploads import PREFIX
from tests.http_calls import ask, connect, part, upload_under_way
from tests.serving import ROOT, app_process
from tests.tiny_server import served, until

HAS_IPV6 = socket.has_ipv6 and Path("/proc/net/if_inet6").exists()


def left(folder: Path, kind: str = "*") -> list[Path]:
    """What the uploads of all processes left; "*/**/*": files, and parts of them."""
    return [path for path in folder.glob(f"uploads/{PREFIX}{kind}") if path.is_dir() == (kind == "*")]


@contextmanager
def open_streams(url: str):
    """A visitor with an open page and an upload on its way."""
    until(lambda: ask(url, "GET", "/api/health")[0] == 200)
    with connect(url, "GET /gradio_api/heartbeat/abc HTTP/1.1") as heartbeat, upload_under_way(url) as upload:
        assert heartbeat.recv(4096).startswith(b"HTTP/1.1 200 ")
        upload.sendall(part(b"x" * 100_000))
        yield


SIGNALS = [(signal.SIGTERM, 0)]
SIGNALS += [pytest.param(*one, marks=pytest.mark.slow) for one in ((signal.SIGINT, 130), (signal.SIGHUP, 0))]


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_signal_ends_it_soon_whatever_is_open_and_nothing_is_left(tmp_path, number, status):
    with app_process(tmp_path) as (process, url), open_streams(url):
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(30) == status
        assert time.monotonic() - began < 10  # under 3 where nothing else runs: a busy machine takes 4
    log = (tmp_path / "app.log").read_text()  # nor a line of uvicorn's that it waited for what is open in vain
    assert log == f"Serving the model (bundled) at {url}\n"
    assert list((tmp_path / "uploads").glob(f"{PREFIX}*")) == []


@pytest.mark.slow
def test_of_a_client_and_a_server_that_are_killed_no_upload_is_left(tmp_path):
    code = (
        "import sys, time; from tests.http_calls import part, upload_under_way\n"
        "with upload_under_way(sys.argv[1]) as client:\n"
        "    client.sendall(part(b'x' * 100_000)); print('sent', flush=True); time.sleep(60)"
    )
    with app_process(tmp_path) as (process, url):
        client = subprocess.Popen([sys.executable, "-c", code, url], cwd=ROOT, stdout=subprocess.PIPE)
        try:
            assert client.stdout.readline() == b"sent\n"
        finally:
            client.kill()
            client.communicate(timeout=10)
        until(lambda: left(tmp_path, "*/**/*") == [])
        with open_streams(url):
            process.kill()
            process.wait(10)
    (orphan,) = left(tmp_path)
    with app_process(tmp_path):
        (own,) = left(tmp_path)
        assert own != orphan and left(tmp_path, "*/**/*") == []


def test_without_a_port_it_takes_the_first_free_one_from_7860():
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        ports = [one.getsockname()[1] for one in (first, second)]
        assert FIRST_PORT == 7860 <= min(ports) < max(ports) < 7960
        for host, port in (("127.0.0.1", ports[0]), ("no.such.host.invalid", 0), ("192.0.2.1", 0)):
            with pytest.raises(OSError):
                listen(host, port)


@pytest.mark.parametrize(
    ("host", "opened"),
    [("localhost", "http://"), ("0.0.0.0", "http://127.0.0.1:"), ("[::1]", "http://[::1]:"), ("::", "http://[::1]:")],
)
def test_the_address_that_is_printed_can_be_opened(tmp_path, host, opened):
    if ":" in host and not HAS_IPV6:
        pytest.skip("no IPv6 on this machine")
    with served(tmp_path, host=host) as server:
        assert server.address.startswith(opened)
        assert ask(server.address, "GET", "/api/health")[0] == 200
        if host == "::":
            port = server.address.rsplit(":", 1)[1]
            assert ask(f"http://127.0.0.1:{port}", "GET", "/api/health")[0] == 200
