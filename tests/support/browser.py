"""A real Chromium for tests: `with open_browser() as page: page.goto(…)`."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.missing import is_missing
from tests.support.newcomer import PATIENCE_S

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",  # it refuses to run as root otherwise
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",  # what moves may be clicked beside, on a busy machine
]


def find_browser() -> str:
    """The path of a browser; the test is skipped without one, or fails where one is required."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or is_missing(f"no browser is installed (looked for {', '.join(BROWSERS)})")


@contextmanager
def launch() -> Iterator[Browser]:
    """A browser without pages."""
    path = find_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_browser(**options: Any) -> Iterator[Page]:
    """A page in a fresh browser; `options` are those of Playwright's `new_context`."""
    with launch() as browser:
        page = browser.new_context(**options).new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        yield page
