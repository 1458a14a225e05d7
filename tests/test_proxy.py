"""The page below a sub-path, and behind the proxies as docs/deploy.md configures them."""

import http.server
import os
import re
import threading
from collections.abc import Iterator
from io import BytesIO

import httpx
import pytest
from PIL import Image

from tests.serving import ROOT, running_app, running_proxy
from tests.visitor import upload, visit
from ui.predict import EXAMPLES

SNIPPETS = re.findall(r"```(nginx|caddyfile)\n(.+?)```", (ROOT / "docs" / "deploy.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> Iterator[str]:
    """Sites on localhost may embed it."""
    folder = tmp_path_factory.mktemp("app")
    env = os.environ | {"FRAME_ANCESTORS": "http://localhost:*"}
    with running_app(folder, "--data-dir", str(folder / "none"), env=env) as address:
        yield address


def check(base: str, public: str, headers: dict[str, str] | None = None) -> None:
    """Page, REST, upload, file and event stream at `base`, which visitors reach as `public`."""
    with httpx.Client(headers=headers, trust_env=False, timeout=60) as client:
        assert f'"root":"{public}"' in client.get(f"{base}/").text
        servers = client.get(f"{base}/openapi.json").json().get("servers", [{"url": ""}])
        assert public.endswith(servers[0]["url"]) and servers[0]["url"] == httpx.URL(public).path.rstrip("/")
        answer = client.post(f"{base}/api/predict", files={"image": (EXAMPLES / "airplane.png").read_bytes()})
        assert answer.json()["label"] == "airplane", answer.text

        large = BytesIO()
        Image.frombytes("RGB", (1000, 1000), os.urandom(3_000_000)).save(large, "PNG", compress_level=0)
        (stored,) = client.post(f"{base}/gradio_api/upload", files={"files": ("a.png", large.getvalue())}).json()
        assert client.get(f"{base}/gradio_api/file={stored}").content == large.getvalue()
        call = {"data": [{"path": stored, "meta": {"_type": "gradio.FileData"}}, 5, "crop"]}
        event = client.post(f"{base}/gradio_api/call/predict", json=call).json()["event_id"]
        assert "event: complete" in client.get(f"{base}/gradio_api/call/predict/{event}").text


@pytest.mark.parametrize("kept", ["", "/cifar"])
def test_the_page_works_below_a_path_that_a_proxy_strips_or_keeps(app, kept):
    forwarded = {"X-Forwarded-Host": "example.org", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/cifar"}
    check(app + kept, "https://example.org/cifar", forwarded)
    escaped = "/user/a%40b" if kept else ""
    config = httpx.get(f"{app}{escaped}/config", headers={"X-Forwarded-Prefix": "/user/a%40b"}).json()
    assert config["root"] == f"{app}/user/a@b"


@pytest.mark.slow
def test_the_root_path_is_the_address_where_no_header_says_another(tmp_path):
    env = os.environ | {"GRADIO_ROOT_PATH": "https://example.org/cifar"}
    with running_app(tmp_path, "--data-dir", str(tmp_path), env=env) as app:
        check(app, "https://example.org/cifar")
        forwarded = {"X-Forwarded-Host": "a.test", "X-Forwarded-Proto": "http", "X-Forwarded-Prefix": "/b"}
        check(f"{app}/b", "http://a.test/b", forwarded)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SNIPPETS)), ids=[kind for kind, _ in SNIPPETS])
def test_the_documented_configurations_serve_the_page(app, tmp_path, number):
    kind, text = SNIPPETS[number]
    path = "/cifar" if "/cifar" in text else ""
    with running_proxy(kind.removesuffix("file"), text, app, tmp_path) as address:
        assert httpx.get(address + path, follow_redirects=True).url.path == f"{path}/"
        check(address + path, address + path)


@pytest.mark.slow
def test_a_visitor_below_a_path_meets_no_error_and_no_request_elsewhere(app, browser, tmp_path):
    with running_proxy(*SNIPPETS[0], app, tmp_path) as host:
        inside = (f"{host}/cifar/", "data:", "blob:")
        with visit(browser, inside[0], may_fail=True) as page:
            page.locator("#examples button").first.click()
            page.locator("#answer h2", has_text="airplane").wait_for()
            upload(page, EXAMPLES / "automobile.png")
            page.locator("#answer h2", has_text="automobile").wait_for()
            page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth)")
            loaded = page.evaluate(
                "performance.getEntriesByType('resource').map(one => [one.name, one.responseStatus])"
            )
    assert len(loaded) > 5
    elsewhere = [one for one in loaded if one[1] >= 400 or not one[0].startswith(inside)]
    assert [one for one in elsewhere if one[0] != f"{host}/favicon.ico"] == []  # of the host, above the path


@pytest.mark.slow
def test_only_named_sites_may_embed_the_page(app, browser):
    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"<!doctype html><iframe src='{app}/'></iframe>".encode())

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever).start()
        try:
            for host, shown in (("localhost", True), ("127.0.0.1", False)):
                (page := browser.new_page()).goto(f"http://{host}:{site.server_port}/")
                frame = page.frame_locator("iframe")
                if shown:
                    frame.get_by_role("tab", name="Predict").wait_for()
                else:
                    page.wait_for_timeout(3000)
                    assert frame.get_by_role("tab").count() == 0 and page.frames[1].url.startswith("chrome-error:")
                page.close()
        finally:
            site.shutdown()
