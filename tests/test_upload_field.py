"""The upload field and the batch zone in a real browser, with files and places that a browser knows little of."""

import base64
from contextlib import ExitStack

import pytest
from PIL import Image

from benchmarks.server import free_port
from tests.conftest import OTHER_HOST
from tests.serving import running_app
from tests.visitor import clear, upload, visit
from ui.predict import EXAMPLES, FIT_LABELS
from ui.uploads import GONE

pytestmark = pytest.mark.slow


def drop(page, where: str, file, name: str) -> None:
    """As a browser hands over a file whose type it cannot tell."""
    script = """(zone, [data, name]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, {type: ''}));
      zone.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true}));
    }"""
    page.locator(where).evaluate(script, [base64.b64encode(file.read_bytes()).decode(), name])


def show_batch(page) -> None:
    page.get_by_role("button", name="Batch prediction").click()
    page.locator("#uploads .zone").wait_for()


def test_the_server_decides_about_a_file_whose_type_the_browser_does_not_know(browser, bundled, tmp_path):
    for name in ("IMG_0001", "note"):
        (tmp_path / name).write_bytes(b"no image")
    with Image.open(EXAMPLES / "cat.png") as image:
        image.convert("RGB").save(tmp_path / "IMG_0001", "JPEG")
    with visit(browser, bundled) as page:
        upload(page, tmp_path / "IMG_0001")
        page.locator("#answer h2").wait_for()
        page.wait_for_function("document.querySelector('#upload img').naturalWidth > 1")
        drop(page, "#upload img", EXAMPLES / "cat.png", "x.heic")  # in place of the first
        page.wait_for_function("document.querySelector('#upload img')?.src.endsWith('/x.heic')")
        page.locator("#answer h2").wait_for()
        clear(page)
        upload(page, tmp_path / "note")
        page.locator("#answer .problem", has_text="This file is not an image").wait_for()
        clear(page)
        drop(page, "#upload button.upload-container", EXAMPLES / "cat.png", "x.heic")
        page.locator("#answer h2").wait_for()
        show_batch(page)
        page.set_input_files("#uploads input[type=file]", [tmp_path / "IMG_0001"])
        page.locator("#batch tbody tr:not(:has(.wrong))", has_text="IMG_0001").wait_for()
        drop(page, "#uploads .zone", EXAMPLES / "cat.png", "x.heic")
        page.locator("#batch tbody tr:not(:has(.wrong))", has_text="x.heic").wait_for()


def test_a_file_that_the_browser_cannot_draw_is_shown_as_the_answer_shows_it(browser, bundled, tmp_path):
    shown = "document.querySelector('#upload img').src"
    prepared = "document.querySelector('#answer .stack img')?.src"
    with Image.open(EXAMPLES / "ship.png") as image:
        image.resize((300, 200)).save(tmp_path / "ship.tiff")
    with visit(browser, bundled) as page:
        upload(page, tmp_path / "ship.tiff")
        page.wait_for_function(f"{prepared} && {shown} === {prepared}")
        before = page.evaluate(prepared)
        page.get_by_label(FIT_LABELS["pad"]).click()
        page.wait_for_function(f"(before) => ({prepared} ?? before) !== before && {shown} === {prepared}", arg=before)
        clear(page)
        upload(page, EXAMPLES / "cat.png")
        page.locator("#answer h2").wait_for()
        assert page.evaluate(shown).endswith("/cat.png")


def test_camera_and_clipboard_are_offered_only_where_the_browser_lends_them(browser, bundled):
    with visit(browser, bundled) as page:
        page.locator("#upload").get_by_label("Paste from clipboard").wait_for()
        page.locator("#upload").get_by_label("Capture from camera").wait_for()
    with visit(browser, bundled.replace("127.0.0.1", OTHER_HOST)) as page:
        for source in ("Paste from clipboard", "Capture from camera"):
            page.locator("#upload").get_by_label(source).wait_for(state="hidden")
        upload(page, EXAMPLES / "cat.png")
        page.locator("#answer h2").wait_for()


COPY = """async () => {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [60, 40];
  canvas.getContext('2d').fillRect(0, 0, 20, 40);
  const blob = await new Promise((found) => canvas.toBlob(found));
  await navigator.clipboard.write([new ClipboardItem({'image/png': blob})]);
}"""


def test_an_image_comes_from_the_camera_and_from_the_clipboard(browser, bundled):
    """Under the content security policy; Chromium has a made-up camera."""
    with visit(browser, bundled, permissions=["clipboard-read", "clipboard-write"]) as page:
        field = page.locator("#upload")
        field.get_by_label("Capture from camera").click()
        field.get_by_text("Click to Access Webcam").click()
        page.wait_for_function("document.querySelector('#upload video')?.currentTime > 0")
        field.get_by_label("capture photo").click()
        page.locator("#answer h2").wait_for()
        clear(page)
        page.evaluate(COPY)
        field.get_by_label("Paste from clipboard").click()
        page.locator("#answer h2").wait_for()
        page.wait_for_function("document.querySelector('#upload img').naturalWidth === 60")


def test_a_tab_that_outlives_the_server_asks_for_the_image_again(browser, tmp_path):
    port = free_port()
    with ExitStack() as stack:
        with running_app(tmp_path, port=port) as address:
            page = stack.enter_context(visit(browser, address, may_fail=True))
            upload(page, EXAMPLES / "cat.png")
            show_batch(page)
            page.set_input_files("#uploads input[type=file]", [EXAMPLES / "cat.png"])
            page.locator("#batch tbody tr").wait_for()
            page.locator("#answer h2").wait_for()
        with running_app(tmp_path, port=port):
            page.get_by_label(FIT_LABELS["stretch"]).click()
            page.locator("#answer .problem", has_text=GONE).wait_for()
            page.locator("#batch .wrong", has_text=GONE).wait_for()
            assert page.locator("#answer h2").count() == 0
            clear(page)
            upload(page, EXAMPLES / "dog.png")
            page.locator("#answer h2").wait_for()
    assert "Traceback" not in (tmp_path / "app.log").read_text()
