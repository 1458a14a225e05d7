"""A visitor of the page in a real browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

DESKTOP = {"width": 1280, "height": 900}

COUNT_CALLS = """{
  const send = window.fetch, parse = JSON.parse;
  window.asked = window.answered = window.streams = 0;
  window.fetch = (what, ...how) => {
    const url = String(what?.url ?? what);
    if (url.includes('/queue/join')) window.asked += 1;
    if (url.includes('/queue/data')) window.streams += 1;
    return send(what, ...how);
  };
  JSON.parse = (...text) => {
    const found = parse(...text);
    if (found?.msg === 'process_completed') window.answered += 1;
    if (found?.msg === 'close_stream') window.streams -= 1;
    return found;
  };
}"""


def wait_for_answers(page) -> None:
    """Until no call is under way: an answer that is late would undo what came of a later call."""
    page.wait_for_function("window.asked === window.answered")
    page.evaluate("new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))")


@contextmanager
def visit(browser, address: str, may_fail: bool = False, **settings) -> Iterator:
    """A visitor's page, which has read its address (what is clicked before is not written there) and shows what that
    says. Ends with no error on the console, no dialog and no request to another host; `may_fail`: requests may."""
    context = browser.new_context(**({"viewport": DESKTOP} | settings))
    context.set_default_timeout(60_000)  # the machine may be slow, and busy
    context.add_init_script(COUNT_CALLS)
    page = context.new_page()
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: message.type == "error" and errors.append(f"{message.text} {message.location}"))
    page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
    page.goto(address)
    page.get_by_role("tab", name="Predict").wait_for()
    page.wait_for_function("globalThis.pageAddress?.isRead()")
    wait_for_answers(page)
    yield page
    context.close()
    unexpected = [error for error in errors if not (may_fail and error.startswith("Failed to load"))]
    assert not unexpected, unexpected
    hosts = {urlsplit(url).hostname for url in requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(address).hostname}, hosts


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    page.get_by_role("tab", name=name, selected=True).wait_for()
    page.get_by_role("tabpanel").locator("visible=true").first.wait_for()


def address_of(page) -> str:
    """As it is now: page.url is told of a change a moment later."""
    return page.evaluate("window.location.href")


def upload(page, file) -> None:
    page.set_input_files("#upload input[type=file]", file)


def clear(page) -> None:
    page.locator("#upload").get_by_role("button", name="Remove Image").click()
    page.locator("#answer .hint").wait_for()
