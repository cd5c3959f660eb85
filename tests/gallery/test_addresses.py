"""Gallery URLs, which DAG authors use in Markdown."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen.gallery.addresses import image_path, newest_page, run_page
from airflow_provider_imagegen.gallery.models import LINK
from airflow_provider_imagegen.links.imagegen import ImagesLink
from airflow_provider_imagegen.plugins.imagegen import ImageGenPlugin

RUN = "scheduled__2026-01-01T00:00:00+00:00"


class TestAddresses:
    def test_are_below_the_base(self) -> None:
        assert newest_page() == "/imagegen/newest"
        assert run_page("shop", "nightly") == "/imagegen/dags/shop/runs/nightly"
        assert image_path("shop", "nightly", "draw", -1, 0) == "/imagegen/dags/shop/runs/nightly/tasks/draw/-1/images/0"

    def test_name_rows_of_a_batch(self) -> None:
        assert image_path("shop", "nightly", "draw", 3, 1, row=17).endswith("/tasks/draw/3/rows/17/images/1")

    def test_encode_what_paths_cannot_hold(self) -> None:
        assert run_page("shop", RUN) == "/imagegen/dags/shop/runs/scheduled__2026-01-01T00%3A00%3A00%2B00%3A00"

    @given(st.text(min_size=1).filter(lambda text: text.isprintable()), st.text(min_size=1).filter(str.isprintable))
    def test_keep_every_id_in_its_segment(self, dag_id: str, task_id: str) -> None:
        segments = image_path(dag_id, RUN, task_id, -1, 0).split("/")
        assert [unquote(segments[place]) for place in (3, 5, 7)] == [dag_id, RUN, task_id]


class TestPlugin:
    def test_loads_no_web_framework_into_workers(self) -> None:
        code = """
import sys
from airflow.providers.common.compat.sdk import AirflowPlugin
before = set(sys.modules)
import airflow_provider_imagegen.plugins.imagegen
new = set(sys.modules) - before
assert not {name.partition(".")[0] for name in new} & {"fastapi", "starlette", "httpx", "boto3", "PIL", "pydantic"}, new
assert len(new) < 10, new
"""
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def test_offers_a_page_in_the_navigation_and_a_tab_of_runs(self) -> None:
        assert [view["destination"] for view in ImageGenPlugin.external_views] == ["nav", "dag_run"]

    def test_knows_the_link_that_the_operators_leave(self) -> None:
        assert ImagesLink().xcom_key == LINK
