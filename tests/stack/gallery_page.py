"""The gallery in a browser: logging in to Airflow, and waiting until what is in sight has really loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.stack.airflow_home import AirflowHome
from tests.stack.browser import running_browser
from tests.stack.waiting import HANG, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FrameLocator, Page

_ALL_LOADED = """(body, selector) => {
    const inSight = (box) => box.bottom > 0 && box.top < innerHeight;
    const all = Array.from(body.querySelectorAll(selector));
    const images = all.filter((image) => inSight(image.getBoundingClientRect()));
    return images.length > 0 && images.every((image) => image.complete && image.naturalWidth > 0);
}"""


def run_address(base_url: str, dag_id: str, run_id: str) -> str:
    """
    Tell where Airflow's UI shows the images of a run.

    :param base_url: the API server's address
    :param dag_id: the DAG
    :param run_id: the run
    """
    return f"{base_url}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}/plugin/imagegen-run"


def log_in(page: Page, username: str, password: str) -> None:
    """
    Fill in Airflow's login form, which is what the page shows.

    :param page: where
    :param username: of the simple auth manager
    :param password: of that user
    """
    page.locator("input[name=username]").fill(username)
    page.locator("input[name=password]").fill(password)
    page.locator("button[type=submit]").click()


def wait_for_images(where: Page | FrameLocator, selector: str = ".card img", timeout: float = HANG) -> None:
    """
    Wait until every image that is in sight has really loaded.

    :param where: the gallery, or the frame that it is in
    :param selector: which images
    :param timeout: seconds until giving up
    """
    where.locator(selector).first.wait_for(timeout=timeout * 1000)
    body = where.locator("body")
    wait_until(lambda: bool(body.evaluate(_ALL_LOADED, selector)), what="the images in sight", timeout=timeout)


@contextmanager
def visit(browser: Browser, home: AirflowHome, address: str, *, scale: float = 1.0) -> Iterator[Page]:
    """
    Open a page of Airflow's UI as the admin.

    :param browser: a running one
    :param home: the configuration of Airflow
    :param address: the page
    :param scale: pixels of the screen for one of the page
    """
    context = browser.new_context(viewport={"width": 1400, "height": 875}, device_scale_factor=scale)
    try:
        page = context.new_page()
        page.goto(address)
        log_in(page, home.login.username, home.login.password)
        yield page
    finally:
        context.close()


def photograph(executable: Path, home: AirflowHome, address: str, file: Path) -> None:
    """
    Take an image of a page with the gallery in it.

    :param executable: a Chromium
    :param home: the configuration of Airflow
    :param address: the page
    :param file: PNG file to write
    """
    with running_browser(executable) as browser, visit(browser, home, address) as page:
        wait_for_images(page.frame_locator("iframe"))
        page.screenshot(path=file)
