"""The page as a part of another site's: `<gradio-app src=...>`."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import gradio as gr
import pytest

from tests.serving import running_app
from tests.visitor import open_tab, upload, visit, wait_for_answers
from ui.predict import EXAMPLES

HOST_PAGE = """<title>A blog</title><link rel="icon" href="data:,"><script type="module" src="/gradio.js"></script>
<gradio-app src="{}"></gradio-app>"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words) -> None:
        pass


@pytest.fixture
def blog(browser, tmp_path) -> Iterator[str]:
    """The address of a site that has gradio's files, as their CDN would; its page is to be written to blog.html."""
    for file in (Path(gr.__file__).parent / "templates" / "frontend").iterdir():
        (tmp_path / file.name).symlink_to(file)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/blog.html"
        server.shutdown()


@pytest.mark.slow
def test_in_another_page_it_names_its_own_address_and_leaves_that_of_the_page_alone(
    browser, blog, tiny_artifact, tmp_path
):
    (tmp_path / "app").mkdir()
    with running_app(tmp_path / "app", "--model", str(tiny_artifact), "--root-path", "/cifar") as address:
        (tmp_path / "blog.html").write_text(HOST_PAGE.format(f"{address}/cifar/"))
        with visit(browser, blog) as page:
            upload(page, EXAMPLES / "cat.png")
            page.locator("#answer h2").wait_for()
            open_tab(page, "About & API")
            assert f'"{address}/cifar/api/predict?top_k=3"' in page.locator("#code-curl").inner_text()
            open_tab(page, "Test images")
            page.get_by_role("button", name="Next").click()
            page.locator("#test-images .count", has_text="page 2 of").wait_for()
            page.locator("#test-images .tile").first.click()
            page.locator("#test-answer .verdict").wait_for()
            open_tab(page, "Evaluation")
            page.locator("#confusion button").first.click()
            with page.expect_popup() as opened:
                page.get_by_role("link", name="Browse them").click()
            opened.value.wait_for_url(f"{address}/cifar/?tab=test-images&**")
            wait_for_answers(page)
            assert page.evaluate("window.location.href") == blog
