"""Redraws `assets/screenshot-predict.png`, the picture in the README: `python -m assets.screenshot`.

Needs `requirements-dev.txt` and Chromium. Shows the bundled model and a drawn example, no dataset pixels.
"""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from model import Classifier
from ui.page import build_page, launch

HERE = Path(__file__).resolve().parent
EXAMPLE = "horse"
OUTPUT = HERE / "screenshot-predict.png"


def main() -> None:
    page = build_page(Classifier.load(), data_dir=Path("data"))
    address = launch(page, "127.0.0.1")
    try:
        take(address)
    finally:
        page.close(verbose=False)
    print(f"{OUTPUT} ({OUTPUT.stat().st_size / 1000:.0f} kB)")


def take(address: str) -> None:
    with sync_playwright() as playwright:
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        view.goto(address)
        view.locator("#examples").get_by_role("button").filter(has_text=EXAMPLE).click()
        view.locator("#prediction h2").wait_for()
        view.locator("#seen img").wait_for()
        view.mouse.move(0, 0)
        view.wait_for_timeout(500)  # the end of the progress fade
        view.screenshot(path=OUTPUT, full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
