"""
``python -m tests.gallery.screenshots``: take the images of ``docs/ui.md`` again, into ``docs/images``.

Starts a whole Airflow, runs the DAG of ``dags_to_show`` and an example, and looks at them with a Chromium.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.stack.browser import BrowserMissingError, install_browser, running_browser
from tests.stack.environment import ROOT
from tests.stack.gallery_page import run_address, visit, wait_for_images
from tests.stack.stack import EXAMPLES, Stack, StackOptions
from tests.stack.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FrameLocator, Page

DAG_ID = "spring_catalogue"
APPROVAL = "example_approve_images"
IMAGES = ROOT / "docs" / "images"
SCALE = 1.5
FAULTS = (
    {"kind": "moderation", "prompt": "A crowd", "message": "the prompt was rejected by the safety system"},
    {"kind": "fail", "prompt": "A feast", "message": "the model did not finish the image"},
)
OPTIONS = StackOptions(
    dag_folders=(Path(__file__).parent / "dags_to_show", EXAMPLES),
    latency="0.5-3",
    connection_extra={"prices": {"gpt-image-1": {"per_image": "0.042"}}},
)


def main() -> int:
    """
    Take them all.

    :return: exit status
    """
    try:
        executable = install_browser()
    except BrowserMissingError as error:
        print(error, file=sys.stderr)
        return 1
    with Stack(ROOT / "stack-logs" / "screenshots", OPTIONS) as stack, running_browser(executable) as browser:
        for fault in FAULTS:
            httpx.post(
                f"{stack.gateway.host}/_emulator/faults", json={"route": "submit", "times": None, **fault}
            ).raise_for_status()
        stack.client.wait_for_dag(DAG_ID)
        run_id = stack.client.trigger(DAG_ID, run_id="nightly__2026-03-20")
        stack.client.wait_for_run(DAG_ID, run_id)
        for name, address, look in _views(stack, run_id):
            _take(stack, browser, IMAGES / name, address, look)
            print(IMAGES / name)
        _take(stack, browser, IMAGES / "approval.png", _wait_for_approval(stack), _look_at_an_approval)
        print(IMAGES / "approval.png")
    return 0


def _wait_for_approval(stack: Stack) -> str:
    """Run the example until it waits for an approval, and return its URL."""
    stack.client.wait_for_dag(APPROVAL)
    run_id = stack.client.trigger(APPROVAL, run_id="nightly__2026-03-20")
    path = f"dags/{APPROVAL}/dagRuns/{run_id}/taskInstances/decide"
    wait_until(
        lambda: stack.client.request("GET", path)["state"] in {"deferred", "awaiting_input"},
        what="the approval to be asked for",
        timeout=120,
    )
    return f"{stack.airflow.home.base_url}/dags/{APPROVAL}/runs/{run_id}/tasks/decide/required_actions"


def _views(stack: Stack, run_id: str) -> list[tuple[str, str, Callable[[Page], None]]]:
    base_url = stack.airflow.home.base_url
    run = run_address(base_url, DAG_ID, run_id)
    return [
        ("gallery-run.png", run, _look_at_all),
        ("gallery-detail.png", run, _look_at_one),
        ("gallery-dark.png", run, _look_in_the_dark),
        ("gallery-nav.png", f"{base_url}/plugin/imagegen-newest", _look_at_all),
        ("connection-form.png", f"{base_url}/connections", _look_at_the_form),
    ]


def _take(stack: Stack, browser: Browser, file: Path, address: str, look: Callable[[Page], None]) -> None:
    with visit(browser, stack.airflow.home, address, scale=SCALE) as page:
        look(page)
        page.screenshot(path=file)


def _look_at_all(page: Page) -> None:
    wait_for_images(page.frame_locator("iframe"))


def _look_at_one(page: Page) -> None:
    _look_at_all(page)
    gallery = page.frame_locator("iframe")
    gallery.get_by_role("button", name="coast/evening").click()
    gallery.locator(".is-loaded").wait_for()
    _wait_until_still(gallery)


def _look_in_the_dark(page: Page) -> None:
    _look_at_all(page)
    page.evaluate("localStorage.setItem('theme', 'dark')")
    page.reload()
    _look_at_all(page)


def _look_at_an_approval(page: Page) -> None:
    wait_for_images(page, "img[alt=generate]")


def _look_at_the_form(page: Page) -> None:
    page.get_by_role("button", name="Add Connection").click()
    page.locator("input[name=connection_id]").fill("imagegen_default")
    page.get_by_role("combobox").first.click()
    page.get_by_role("option", name="Image generation").click()
    page.get_by_label("Base URL").fill("https://api.acedata.cloud")
    page.get_by_label("API token").fill("not a real one")
    _wait_until_still(page)


def _wait_until_still(where: Page | FrameLocator) -> None:
    """Wait until nothing fades or slides any more; what turns for ever does not count."""
    where.locator("body").evaluate(
        """body => Promise.all(
            body.getAnimations({subtree: true})
                .filter((animation) => Number.isFinite(animation.effect.getComputedTiming().endTime))
                .map((animation) => animation.finished.catch(() => null))
        ).then(() => null)"""
    )


if __name__ == "__main__":
    sys.exit(main())
