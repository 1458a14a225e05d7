"""server/headers.py: what a browser may do with an answer, and where the page is if a proxy says so."""

import json
import re

import pytest

from server.headers import Proxy
from tests.http_calls import ask, connect, upload
from tests.image_files import png
from tests.tiny_server import served

FILE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "a.example:8443", "X-Forwarded-Prefix": "/cifar"}
REFUSED = (400, "The headers of this request (Host, X-Forwarded-Host, -Proto, -Prefix) do not name a host.")


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.mp4"])
def test_what_is_no_image_by_its_name_is_saved_by_a_browser_and_never_run(address, name):
    _, path = upload(address, b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", name)
    status, headers, _ = ask(address, "GET", f"/gradio_api/file={path}")
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert headers["content-disposition"].startswith("attachment")
    assert headers["content-security-policy"] == FILE_POLICY


def test_every_answer_has_the_security_headers(address):
    policy = ask(address, "GET", "/")[1]["content-security-policy"]
    assert policy.endswith("frame-ancestors 'self' https://huggingface.co https://*.hf.space")
    assert "default-src 'self'" in policy and "object-src 'none'" in policy and "base-uri 'self'" in policy
    stream, file = "/gradio_api/call/predict/nothing", f"/gradio_api/file={upload(address, png())[1]}"
    for path, headers in (*((path, {}) for path in ("/", "/no", "/api/x", stream, file)), ("/", {"Host": "a b"})):
        found = ask(address, "GET", path, headers=headers)[1]
        assert found["x-content-type-options"] == "nosniff" and found["referrer-policy"] == "same-origin"
    assert ask(address, "GET", stream)[1]["x-accel-buffering"] == "no"  # nginx would hold events back


@pytest.mark.parametrize("host", ["127.0.0.1", "ann-page.hf.space"])
def test_another_page_may_call_the_api_without_credentials_and_read_nothing_else(address, host):
    foreign = {"Host": host, "Origin": "https://other.example"}
    for method, path in (("GET", "/config"), ("GET", "/api/model"), ("GET", "/api/nothing"), ("POST", "/api/predict")):
        _, headers, _ = ask(address, method, path, b"" if method == "POST" else None, foreign)
        assert headers["access-control-allow-origin"] == "*" and "access-control-allow-credentials" not in headers
        assert headers["access-control-expose-headers"] == "Retry-After"
    wanted = foreign | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-mine"}
    for path in ("/gradio_api/call/predict", "/api/predict"):
        status, headers, _ = ask(address, "OPTIONS", path, headers=wanted)
        assert (status, headers["access-control-allow-origin"]) == (200, "*")
        assert headers["access-control-allow-headers"] in ("*", "x-mine")
        assert "POST" in headers["access-control-allow-methods"]
        assert "access-control-allow-credentials" not in headers
    for path in ("/", f"/gradio_api/file={upload(address, png())[1]}"):
        for cookie in ({}, {"Cookie": "a=b"}):
            _, headers, _ = ask(address, "GET", path, headers=cookie | foreign)
            assert [name for name in headers if name.startswith("access-control-")] == []


def root_of(address: str, path: str = "/config", **headers: str) -> str:
    """Where the page says it is. `Prefix` stands for X-Forwarded-Prefix, and so on."""
    headers = {f"X-Forwarded-{name}": value for name, value in headers.items()}
    return json.loads(ask(address, "GET", path, headers=headers | {"Host": "b"})[2])["root"]


def test_what_a_trusted_proxy_forwards_is_where_the_page_is(tmp_path):
    with served(tmp_path, Proxy(trusted=["10.0.0.1", "127.0.0.0/8"])) as server:
        for path in ("/config", "/cifar/config"):  # a proxy may cut the prefix off, or not
            told = {"Proto": "https", "Host": "a.example:8443, 10.0.0.1", "Prefix": "/cifar"}
            assert root_of(server.address, path, **told) == "https://a.example:8443/cifar"
        assert root_of(server.address, Proto="https,http", Prefix="/cifar/") == "https://b/cifar"
        headers = {"X-Forwarded-Host": "a.example", "X-Forwarded-Prefix": "/cifar"}
        assert re.search(rb'"root": ?"http://a.example/cifar"', ask(server.address, "GET", "/", headers=headers)[2])


def test_what_anybody_else_forwards_counts_for_nothing(tmp_path):
    with served(tmp_path, Proxy(trusted=["10.0.0.0/8", "::1"])) as server:
        for more in (FORWARDED, {"X-Gradio-Server": "http://evil.example"}, {"X-Forwarded-Host": "a b"}):
            _, _, body = ask(server.address, "GET", "/config", headers={"Host": "b:7860"} | more)
            assert json.loads(body)["root"] == "http://b:7860"


HOSTS = ("a b", "a/b", "a@b", "a:b", "a:65536", "[::1", "<script>", "a?b", "a#b", "ä", "a\\b")
PREFIXES = ("cifar", "//evil.example", "/a b", "/a?b", '/"', "/a/../b", "/%2e%2e")


def test_a_host_that_is_none_is_refused_and_any_other_taken(address):
    wrong = [("Host", host) for host in HOSTS] + [("X-Forwarded-Host", host) for host in HOSTS]
    wrong += [("X-Forwarded-Proto", scheme) for scheme in ("javascript", "ftp", "https://a")]
    wrong += [("X-Forwarded-Prefix", prefix) for prefix in PREFIXES]
    for name, value in wrong:
        status, _, body = ask(address, "GET", "/config", headers={name: value.encode()})
        assert (name, value, status, json.loads(body)["detail"]) == (name, value, *REFUSED)
    for host in ("a.example", "a_b:80", "[::1]:7860", "10.0.0.1:65535"):
        headers = {"Host": host, "X-Gradio-Server": "http://evil.example"}
        _, _, body = ask(address, "GET", "/config", headers=headers)
        assert json.loads(body)["root"] == f"http://{host}".removesuffix(":80")


@pytest.mark.parametrize(
    ("root_path", "root", "prefix"),
    [
        ("cifar/", "http://b/cifar", "/cifar"),
        ("/", "http://b", ""),
        ("https://a.example:8443/a/b/", "https://a.example:8443/a/b", "/a/b"),
    ],
)
def test_a_root_path_is_a_path_or_a_whole_address_and_a_proxy_knows_better(tmp_path, root_path, root, prefix):
    with served(tmp_path, Proxy(["*"], root_path, ["https://c.test", "*.d.test:*"])) as server:
        assert root_of(server.address) == root
        _, _, body = ask(server.address, "GET", "/config", headers=FORWARDED)
        assert json.loads(body)["root"] == "https://a.example:8443/cifar"
        for path, status in (("/api/health", 200), (f"{prefix}/api/health", 200), (f"{prefix}/gradio_api/token", 404)):
            assert ask(server.address, "GET", path, headers={"Host": "b"})[0] == status
        # Further sites may show the page in a frame, but not an upload.
        policy = ask(server.address, "GET", "/")[1]["content-security-policy"]
        assert policy.endswith(" https://*.hf.space https://c.test *.d.test:*")
        path = upload(server.address, png())[1]
        assert ask(server.address, "GET", f"/gradio_api/file={path}")[1]["content-security-policy"] == FILE_POLICY


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        *(({"root_path": wrong}, "--root-path") for wrong in ("/a b", "https://a b/c", "https://a?b", "ftp://a")),
        *(({"trusted": [wrong]}, "FORWARDED_ALLOW_IPS") for wrong in ("proxy.example", "10.0.0.300")),
        *(({"frames": [wrong]}, f"FRAME_ANCESTORS.*{wrong}") for wrong in ("a;b", "javascript:x", "'self'x")),
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_is_told_by_its_name(settings, named):
    with pytest.raises(ValueError, match=named):
        Proxy(**settings)

    frames = ("https://example.org", "*.example.org", "http://a:8080", "*", "'none'")
    assert Proxy(frames=frames).frames == frames  # those that a browser knows


def test_the_first_of_several_forwarded_hosts_counts_and_a_longer_path_is_another(tmp_path):
    with served(tmp_path) as server:
        head = "GET /cifarx/config HTTP/1.1\nX-Forwarded-Host: a\nX-Forwarded-Host: b\nX-Forwarded-Proto: HTTPS"
        with connect(server.address, f"{head}\nConnection: close") as client:
            assert client.recv(4096).startswith(b"HTTP/1.1 404 ")
        head = head.replace("/cifarx", "")
        with connect(server.address, f"{head}\nX-Forwarded-Prefix: /cifar\nConnection: close") as client:
            assert b'"root":"https://a/cifar"' in b"".join(iter(lambda: client.recv(65536), b""))
