"""The gallery in a browser: in Airflow's UI, under a path prefix, with mouse, keyboard and screen reader."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, FrameLocator, Page, expect

from airflow_provider_imagegen.gallery.addresses import image_path, newest_page, run_page
from tests.gallery.scene import CLOSED, DAG_IDS, FORGED, LONG, OPEN, Scene
from tests.stack.browser import install_browser, running_browser
from tests.stack.gallery_page import log_in, wait_for_images
from tests.stack.ports import free_port
from tests.stack.process import Process
from tests.stack.stack import Stack
from tests.stack.waiting import HANG, wait_until

# The first answers of a server that has just started take their time.
expect.set_options(timeout=HANG * 1000)

OpenPage = Callable[..., Page]
AS_AIRFLOW = "plugin/imagegen-run"
CARDS = 13
"""Of the run that all look at."""


@pytest.fixture(scope="module")
def scene(stack: Stack) -> Scene:
    run_ids = {}
    for dag_id in reversed(DAG_IDS):
        stack.client.wait_for_dag(dag_id)
        run_ids[dag_id] = stack.client.trigger(dag_id)
    for dag_id, run_id in run_ids.items():
        stack.client.wait_for_run(dag_id, run_id)
    home = stack.airflow.home
    return Scene(home.base_url, run_ids, stack.objectstore, home.directory / "passwords.json")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser(install_browser()) as running:
        yield running


@pytest.fixture
def open_page(scene: Scene, browser: Browser) -> Iterator[OpenPage]:
    """Open a page as a user who has logged in; nothing that it does may be complained of in the console."""
    complaints: list[str] = []
    with ExitStack() as contexts:

        def open_new(
            username: str, path: str, *, base_url: str | None = None, dark: bool = False, bears: str | None = None
        ) -> Page:
            def note(complaint: str) -> None:
                if bears is None or bears not in complaint:
                    complaints.append(complaint)

            base = base_url or scene.base_url
            context = browser.new_context(
                viewport={"width": 1280, "height": 800}, color_scheme="dark" if dark else "light", accept_downloads=True
            )
            contexts.callback(context.close)
            context.add_cookies([{"name": "_token", "value": scene.token(username), "url": base, "httpOnly": True}])
            page = context.new_page()
            page.on("console", lambda message: note(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: note(str(error)))
            page.goto(f"{base}/{path}")
            return page

        yield open_new
    assert complaints == []


def gallery_in(page: Page) -> FrameLocator:
    return page.frame_locator("iframe")


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{item['id']}: {node['html']} {node['failureSummary']}" for item in found for node in item["nodes"]]


class TestInAirflow:
    """Each loads Airflow's UI, which takes seconds of CPU, and then walks through it."""

    def test_is_a_tab_of_the_run_with_files_to_save_and_ways_back_to_the_tasks(
        self, scene: Scene, browser: Browser, tmp_path: Path
    ) -> None:
        """With a login by hand, as Airflow's own pages have it."""
        context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
        page = context.new_page()
        page.goto(f"{scene.base_url}/{scene.path(OPEN)}")
        log_in(page, "viewer", scene.password("viewer"))
        page.get_by_role("link", name="Images").click()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        gallery = gallery_in(page)
        expect(gallery.get_by_role("status").first).to_have_text("8 images, 5 failures")
        wait_for_images(gallery)
        gallery.get_by_role("button", name="Two <b>boats</b>").first.click()
        with page.expect_download(timeout=HANG * 1000) as download:
            gallery.get_by_role("link", name="Download").click()
        download.value.save_as(tmp_path / "saved.png")
        digest = hashlib.sha256((tmp_path / "saved.png").read_bytes()).hexdigest()
        assert digest == scene.xcom(OPEN, "pair")["images"][0]["sha256"]
        page.keyboard.press("Escape")
        gallery.get_by_role("button", name="A wooden bridge").click()
        gallery.get_by_role("link", name="mapped [1]").click()
        expect(page).to_have_url(f"{scene.base_url}/{scene.path(OPEN)}/tasks/mapped/mapped/1")
        assert complaints == []
        context.close()

    def test_is_in_the_navigation_and_follows_the_theme(self, open_page: OpenPage) -> None:
        page = open_page("viewer", "", dark=True)
        page.get_by_role("button", name="Browse").click()
        page.get_by_role("menuitem", name="Images").click()
        gallery = gallery_in(page)
        expect(gallery.get_by_role("heading", level=1)).to_have_text("Newest images")
        wait_for_images(gallery)
        html = gallery.locator("html")
        expect(html).to_have_attribute("data-theme", "dark")
        page.get_by_role("button", name="User").click()
        page.get_by_role("menuitem", name="Appearance").click()
        page.get_by_role("menuitemradio", name="Light Mode").click()
        expect(html).to_have_attribute("data-theme", "light")


class TestPermissionInTheBrowser:
    def test_is_reported_if_missing(self, scene: Scene, open_page: OpenPage, browser: Browser) -> None:
        page = open_page("guest", "imagegen/newest")
        expect(page.get_by_role("status").first).to_contain_text("images")
        expect(page.locator(".card")).not_to_have_count(0)
        expect(page.get_by_text(CLOSED)).to_have_count(0)

    def test_may_end(self, scene: Scene, open_page: OpenPage) -> None:
        page = open_page("viewer", f"imagegen/{scene.path(OPEN)}", bears="401")
        expect(page.locator(".card")).to_have_count(CARDS)
        page.context.clear_cookies()
        page.get_by_label("Search").fill("boats")
        expect(page.get_by_text("Your session has expired.")).to_be_visible()


class TestCards:
    @pytest.fixture
    def page(self, scene: Scene, open_page: OpenPage) -> Page:
        page = open_page("viewer", f"imagegen/{scene.path(OPEN)}")
        expect(page.locator(".card")).to_have_count(CARDS)
        return page

    def test_show_prompts_as_text(self, page: Page) -> None:
        image_path = page.get_by_role("img", name='Two <b>boats</b> & a "buoy"')
        expect(image_path).to_have_count(2)
        assert page.locator(".grid b").count() == 0

    def test_show_failures(self, page: Page) -> None:
        card = page.get_by_role("button", name="moderation_blocked").first
        expect(card).to_contain_text("Not billed")
        expect(card).to_contain_text("Reword the prompt")
        card.click()
        dialog = page.get_by_role("dialog", name="moderation_blocked")
        expect(dialog).to_contain_text("rejected by the safety system")
        expect(dialog).to_contain_text("Reword the prompt")
        expect(dialog.get_by_text("Created")).to_have_count(0)
        expect(page.get_by_role("link", name="Download")).to_be_hidden()

    def test_are_filtered_by_text_model_and_status(self, page: Page) -> None:
        count = page.get_by_role("status").first
        page.get_by_label("Search").fill("bridge")
        expect(count).to_have_text("2 images")
        page.get_by_label("Search").fill("")
        page.get_by_label("Status").select_option("failed-billed")
        expect(count).to_have_text("0 images, 2 failures")
        page.get_by_label("Model").fill("nothing of the kind")
        expect(page.get_by_text("Nothing matches these filters.")).to_be_visible()
        page.reload()
        expect(page.get_by_label("Model")).to_have_value("nothing of the kind")
        page.get_by_role("button", name="Clear filters").click()
        expect(count).to_have_text("8 images, 5 failures")
        assert "?" not in page.url

    def test_are_filtered_by_dag_among_the_newest(self, scene: Scene, open_page: OpenPage) -> None:
        page = open_page("viewer", "imagegen/newest")
        page.get_by_label("DAG").fill(OPEN)
        expect(page.get_by_role("img", name="A stone bridge")).to_have_count(1)
        page.get_by_label("DAG").fill(CLOSED)
        expect(page.get_by_role("img", name="A stone bridge")).to_have_count(0)
        expect(page.get_by_role("img", name="A closed door").first).to_be_visible()

    def test_are_walked_through_by_arrow_keys(self, page: Page) -> None:
        buttons = page.locator(".card__button")
        buttons.first.focus()
        page.keyboard.press("ArrowRight")
        expect(buttons.nth(1)).to_be_focused()
        page.keyboard.press("ArrowDown")
        below = page.evaluate("document.activeElement.getBoundingClientRect().top")
        assert below > buttons.first.bounding_box()["y"]
        page.keyboard.press("ArrowUp")
        expect(buttons.nth(1)).to_be_focused()
        page.keyboard.press("ArrowLeft")
        expect(buttons.first).to_be_focused()


class TestRunThatGoesOn:
    def test_shows_images_as_they_land(self, stack: Stack, scene: Scene, open_page: OpenPage) -> None:
        stack.hold("A closed door")
        run_id = stack.client.trigger(CLOSED)
        page = open_page("viewer", run_page(CLOSED, run_id).lstrip("/"))
        expect(page.get_by_text("Images appear here when they have landed.")).to_be_visible()
        wait_until(lambda: stack.rows("A closed door")[-1]["state"] == "running", what="the submit")
        stack.release("A closed door")
        wait_for_images(page)
        expect(page.get_by_role("status").first).to_have_text("1 image")


class TestDetail:
    @pytest.fixture
    def page(self, scene: Scene, open_page: OpenPage) -> Page:
        page = open_page("viewer", f"imagegen/{scene.path(OPEN)}")
        expect(page.locator(".card")).to_have_count(CARDS)
        return page

    def test_shows_the_whole_image_and_all_about_it(self, scene: Scene, page: Page) -> None:
        page.get_by_role("button", name="Two <b>boats</b>").first.click()
        dialog = page.get_by_role("dialog", name="pair, image 0")
        wait_for_images(page, ".stage__whole")
        assert dialog.locator(".stage__whole").evaluate("image => image.naturalWidth") == 1024
        image = scene.xcom(OPEN, "pair")["images"][0]
        for text in (image["uri"], image["task_id"], image["trace_id"], "1024 × 1024", "gpt-image-1 at acedatacloud"):
            expect(dialog).to_contain_text(text)

    def test_copies(self, scene: Scene, page: Page) -> None:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Two <b>boats</b>").first.click()
        page.get_by_role("button", name="Copy S3 URI").click()
        expect(page.get_by_text("S3 URI copied")).to_be_attached()
        uri = scene.xcom(OPEN, "pair")["images"][0]["uri"]
        assert page.evaluate("navigator.clipboard.readText()") == uri

    def test_copies_also_without_https(self, page: Page) -> None:
        page.add_init_script("Object.defineProperty(window, 'isSecureContext', {value: false})")
        page.reload()
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="A stone bridge").click()
        page.get_by_role("button", name="Copy Prompt").click()
        expect(page.get_by_text("Prompt copied")).to_be_attached()
        assert page.evaluate("navigator.clipboard.readText()") == "A stone bridge"

    def test_is_left_and_walked_through_by_keyboard(self, page: Page) -> None:
        buttons = page.locator(".card__button")
        buttons.first.focus()
        page.keyboard.press("Enter")
        position = page.locator("#detail-position")
        expect(position).to_have_text(f"1 of {CARDS}")
        expect(page.get_by_role("button", name="Previous")).to_be_disabled()
        for _ in range(CARDS):
            page.keyboard.press("ArrowRight")
        expect(position).to_have_text(f"{CARDS} of {CARDS}")
        expect(page.get_by_role("button", name="Next")).to_be_disabled()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(buttons.nth(CARDS - 2)).to_be_focused()

    def test_keeps_the_focus(self, page: Page) -> None:
        page.locator(".card__button").first.click()
        for _ in range(30):
            page.keyboard.press("Tab")
            is_outside = page.evaluate("!!document.activeElement.closest('main, header')")
            assert not is_outside

    def test_tells_when_the_image_is_gone(self, scene: Scene, open_page: OpenPage) -> None:
        page = open_page("viewer", f"imagegen/{scene.path(OPEN)}", bears="404")
        page.route(re.compile(r"/images/0\?"), lambda route: route.fulfill(status=404, body=""))
        page.get_by_role("button", name="A stone bridge").click()
        expect(page.get_by_role("alert")).to_contain_text("cannot be loaded")


class TestAccessibility:
    @pytest.mark.parametrize("dark", [False, pytest.param(True, marks=pytest.mark.full)])
    def test_has_nothing_that_axe_complains_of(self, scene: Scene, open_page: OpenPage, dark: bool) -> None:
        page = open_page("viewer", f"imagegen/{scene.path(OPEN)}", dark=dark)
        wait_for_images(page)
        assert violations(page) == []
        page.get_by_role("button", name="A stone bridge").click()
        wait_for_images(page, ".stage__whole")
        expect(page.locator(".is-loaded")).to_be_attached()
        assert violations(page) == []
        page.keyboard.press("Escape")
        page.get_by_role("button", name="task_failed").click()
        assert violations(page) == []


def has_cards(page: Page) -> bool:
    page.reload()
    expect(page.get_by_role("status").first).to_contain_text("image")
    return page.locator(".card").count() > 0


class TestManyImages:
    @pytest.mark.parametrize("many", [400, pytest.param(1000, marks=pytest.mark.full)])
    def test_are_loaded_and_rendered_on_scrolling(self, scene: Scene, open_page: OpenPage, many: int) -> None:
        scene.put_long_batch()
        page = open_page("viewer", f"imagegen/{scene.path(FORGED)}?text=poplar")
        cards = page.locator(".card")
        # In Airflow 3.1 a changed XCom is as old as before, so for a minute it is taken for what it was.
        wait_until(lambda: has_cards(page), what="the rows", interval=2)
        wait_for_images(page)
        assert cards.count() < 300 < LONG
        while (count := cards.count()) < many:
            page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
            expect(cards).not_to_have_count(count)
        wait_for_images(page)
        fetched = page.evaluate("performance.getEntriesByType('resource').filter(e => /thumbnail/.test(e.name)).length")
        assert fetched < cards.count() * 0.8
        near = "card.firstChild.checkVisibility({contentVisibilityAuto: true})"
        drawn = cards.evaluate_all(f"all => all.filter(card => {near}).length")
        assert 0 < drawn < 200


@pytest.fixture(scope="module")
def server_at_the_root(stack: Stack) -> Iterator[str]:
    airflow, port = stack.airflow, free_port()
    base_url = f"http://127.0.0.1:{port}"
    settings = {"API__BASE_URL": base_url, "API__PORT": str(port), "IMAGEGEN__GALLERY_REDIRECTS": "False"}
    process = Process(
        "airflow api-server at the root",
        [sys.executable, "-m", "airflow", "api-server", "--workers", "1"],
        env=airflow.environment() | {f"AIRFLOW__{name}": value for name, value in settings.items()},
        log=stack.logs / "api-server-at-the-root.log",
        cwd=airflow.home.directory,
    )
    process.start()
    try:
        process.wait_ready(lambda: answers(base_url))
        yield base_url
    finally:
        process.stop()


@pytest.mark.full
class TestAtTheRoot:
    """On a server that has no path before its own, and hands images out itself."""

    def test_shows_images_in_airflows_frame(self, server_at_the_root: str, scene: Scene, open_page: OpenPage) -> None:
        page = open_page("viewer", f"{scene.path(OPEN)}/{AS_AIRFLOW}", base_url=server_at_the_root)
        gallery = gallery_in(page)
        expect(gallery.locator(".card")).to_have_count(CARDS)
        wait_for_images(gallery)
        gallery.get_by_role("button", name="A stone bridge").click()
        wait_for_images(gallery, ".stage__whole")
        gallery.get_by_role("link", name="mapped [0]").click()
        expect(page).to_have_url(f"{server_at_the_root}/{scene.path(OPEN)}/tasks/mapped/mapped/0")

    def test_hands_images_out_itself(self, server_at_the_root: str, scene: Scene) -> None:
        image = scene.xcom(OPEN, "pair")["images"][0]
        path = image_path(OPEN, scene.run_ids[OPEN], "pair", -1, 0)
        with scene.client("viewer", server_at_the_root) as viewer:
            assert "img-src 'self';" in viewer.get(newest_page()).headers["content-security-policy"]
            shown, saved = viewer.get(path), viewer.get(f"{path}/download")
        assert hashlib.sha256(shown.content).hexdigest() == image["sha256"]
        assert shown.headers["content-type"] == "image/png"
        assert "sandbox" in shown.headers["content-security-policy"]
        assert saved.headers["content-disposition"].startswith("attachment")


def answers(base_url: str) -> bool:
    try:
        return httpx.get(f"{base_url}/api/v2/version", trust_env=False).is_success
    except httpx.TransportError:
        return False
