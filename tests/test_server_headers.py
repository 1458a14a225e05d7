"""server/headers.py: what a browser may do with an answer, and where the page is if a proxy says so."""

import json
import re

import pytest

from server.headers import BAD_HOST, FILE_POLICY, Proxy
from tests.http_calls import ask, upload
from tests.tiny_server import png, served


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with served(tmp_path_factory.mktemp("uploads")) as server:
        yield server.address


@pytest.fixture
def behind(tmp_path):
    """The server with a Proxy of these settings before it."""
    return lambda **settings: served(tmp_path, Proxy(**settings))


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.xml", "a.js", "a.pdf", "a"])
def test_what_is_no_picture_by_its_name_is_saved_by_a_browser_and_never_run(address, name):
    _, path = upload(address, b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", name)
    status, headers, _ = ask(address, "GET", f"/gradio_api/file={path}")
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert headers["content-disposition"].startswith("attachment") and headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == FILE_POLICY and "sandbox" in FILE_POLICY


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/nothing"), ("POST", "/gradio_api/call/predict")])
def test_every_answer_has_the_security_headers(address, method, path):
    _, headers, _ = ask(address, method, path, b"" if method == "POST" else None)
    policy = headers["content-security-policy"]
    assert policy.endswith("frame-ancestors 'self' https://huggingface.co https://*.hf.space")
    assert "default-src 'self'" in policy and "object-src 'none'" in policy and "base-uri 'self'" in policy
    others = ask(address, method, path, headers={"Host": "a b"}), ask(address, "GET", "/api/x")
    for found in (headers, *(other[1] for other in others)):
        assert found["x-content-type-options"] == "nosniff" and found["referrer-policy"] == "same-origin"


def test_a_proxy_is_told_not_to_hold_events_back(address):
    _, headers, _ = ask(address, "GET", "/gradio_api/call/predict/nothing")
    assert headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize("host", ["127.0.0.1", "ann-page.hf.space"])
def test_another_page_may_call_the_api_but_never_with_credentials(address, host):
    foreign = {"Host": host, "Origin": "https://other.example"}
    for path in ("/config", "/gradio_api/info", "/api/model", "/api/nothing"):
        _, headers, _ = ask(address, "GET", path, headers=foreign)
        assert headers["access-control-allow-origin"] == "*" and "access-control-allow-credentials" not in headers
        assert headers["access-control-expose-headers"] == "Retry-After"
    wanted = foreign | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    for path in ("/gradio_api/call/predict", "/api/predict"):
        status, headers, _ = ask(address, "OPTIONS", path, headers=wanted)
        assert (status, headers["access-control-allow-origin"]) == (200, "*")
        assert headers["access-control-allow-headers"] in ("*", "content-type")
        assert "access-control-allow-credentials" not in headers


def test_another_page_may_not_read_the_page_or_what_was_uploaded(address):
    _, path = upload(address, png())
    for url in ("/", f"/gradio_api/file={path}"):
        for headers in ({}, {"Cookie": "a=b"}):
            _, headers, _ = ask(address, "GET", url, headers=headers | {"Origin": "https://other.example"})
            assert [name for name in headers if name.startswith("access-control-")] == []


def root_of(address: str, path: str = "/config", **headers: str) -> str | tuple[int, dict]:
    """Where the page says it is, or the refusal."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    status, _, body = ask(address, "GET", path, headers=headers)
    return json.loads(body)["root"] if status == 200 else (status, json.loads(body))


FORWARDED = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "a.example:8443", "X_Forwarded_Prefix": "/cifar"}
REFUSED = (400, {"detail": BAD_HOST})


@pytest.mark.parametrize("trusted", ["127.0.0.1", "127.0.0.0/8", "::1, 127.0.0.1", "*"])
def test_what_a_trusted_proxy_forwards_is_where_the_page_is(behind, trusted):
    with behind(trusted=trusted.split(",")) as server:
        assert root_of(server.address, **FORWARDED) == "https://a.example:8443/cifar"
        assert root_of(server.address, "/cifar/config", **FORWARDED) == "https://a.example:8443/cifar"
        assert root_of(server.address, X_Forwarded_Proto="https,http", Host="b") == "https://b"
        assert root_of(server.address, X_Forwarded_Host="a.example, 10.0.0.1") == "http://a.example"
        assert root_of(server.address, X_Forwarded_Prefix="/cifar/", Host="b") == "http://b/cifar"
        _, _, page = ask(server.address, "GET", "/", headers={"X-Forwarded-Prefix": "/cifar", "Host": "b"})
        assert re.search(rb'"root": ?"http://b/cifar"', page)


@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8", "::1"]])
def test_what_anybody_else_forwards_counts_for_nothing(behind, trusted):
    with behind(trusted=trusted) as server:
        assert root_of(server.address, **FORWARDED, Host="b:7860") == "http://b:7860"
        assert root_of(server.address, X_Gradio_Server="http://evil.example", Host="b") == "http://b"
        assert root_of(server.address, X_Forwarded_Host="a b", Host="b") == "http://b"


@pytest.mark.parametrize(
    "headers",
    [
        *({"Host": host} for host in ("a b", "a/b", "a@b", "a:b", "a:123456", "[::1", "<script>", "a?b", "a#b", "ä")),
        *({"X_Forwarded_Host": host} for host in ("a:b", "a/b", "a b", "a\\b")),
        *({"X_Forwarded_Proto": scheme} for scheme in ("javascript", "ftp", "https://a")),
        *({"X_Forwarded_Prefix": prefix} for prefix in ("cifar", "//evil.example", "/a b", "/a?b", '/"')),
    ],
    ids=str,
)
def test_a_host_that_is_none_is_refused(address, headers):
    assert root_of(address, **{name: value.encode() for name, value in headers.items()}) == REFUSED


@pytest.mark.parametrize("host", ["a.example", "a_b:80", "[::1]:7860", "10.0.0.1:7860"])
def test_any_other_host_is_taken_and_x_gradio_server_never(address, host):
    assert root_of(address, Host=host, X_Gradio_Server="http://evil.example") == f"http://{host}".removesuffix(":80")


@pytest.mark.parametrize(
    ("root_path", "root"),
    [
        ("", "http://b"),
        ("/", "http://b"),
        ("/cifar", "http://b/cifar"),
        ("cifar/", "http://b/cifar"),
        ("/a/b", "http://b/a/b"),
        ("https://a.example", "https://a.example"),
        ("https://a.example:8443/cifar/", "https://a.example:8443/cifar"),
    ],
)
def test_a_root_path_is_a_path_or_a_whole_address(behind, root_path, root):
    with behind(root_path=root_path) as server:
        assert root_of(server.address, Host="b") == root
        assert root_of(server.address, **FORWARDED) == "https://a.example:8443/cifar"  # the proxy knows better
        assert ask(server.address, "GET", "/api/health", headers={"Host": "b"})[0] == 200
        prefix = "/" + root.split("/", 3)[3] if root.count("/") > 2 else ""
        assert ask(server.address, "GET", f"{prefix}/api/health", headers={"Host": "b"})[0] == 200
        assert ask(server.address, "GET", f"{prefix}/gradio_api/token")[0] == 404


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"root_path": "/a b"}, "--root-path '/a b'"),
        *(
            ({"root_path": f"{wrong}"}, "--root-path")
            for wrong in ("https://a b/c", "https://a?b", "ftp://a", "http:///c")
        ),
        ({"trusted": ["proxy.example"]}, "FORWARDED_ALLOW_IPS"),
        ({"trusted": ["10.0.0.300"]}, "FORWARDED_ALLOW_IPS"),
        *(({"frames": [frame]}, f"FRAME_ANCESTORS.*{frame}") for frame in ("a;b", "javascript:x", "'self'x")),
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_is_told_by_its_name(settings, named):
    with pytest.raises(ValueError, match=named):
        Proxy(**settings)


@pytest.mark.parametrize("frame", ["https://example.org", "*.example.org", "http://a:8080", "*", "'none'"])
def test_further_sites_may_show_the_page_in_a_frame_but_not_an_upload(behind, frame):
    with behind(frames=[frame]) as server:
        _, headers, _ = ask(server.address, "GET", "/")
        assert headers["content-security-policy"].endswith(f" https://*.hf.space {frame}")
        _, path = upload(server.address, png())
        _, headers, _ = ask(server.address, "GET", f"/gradio_api/file={path}")
        assert headers["content-security-policy"] == FILE_POLICY
