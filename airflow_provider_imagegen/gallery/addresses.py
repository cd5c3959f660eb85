"""Where the gallery shows what: paths below the API server's base, made of Airflow's ids.

DAG authors put them into Markdown; operator links and the gallery itself use them. Standard library only.
"""

from __future__ import annotations

from urllib.parse import quote

PREFIX = "/imagegen"
"""Where the gallery is mounted below the API server's base."""
RUN_TAB = "imagegen-run"
"""Name of the tab in the URLs of Airflow's UI."""


def newest_page() -> str:
    """Return the path of the page with the newest images of all DAGs."""
    return f"{PREFIX}/newest"


def run_page(dag_id: str, run_id: str) -> str:
    """Return the path of the page with the images of one DAG run.

    :param dag_id: The DAG's id.
    :param run_id: The run's id, as Airflow has it (not encoded).
    """
    return f"{PREFIX}/dags/{_segment(dag_id)}/runs/{_segment(run_id)}"


def run_tab(dag_id: str, run_id: str) -> str:
    """Return the path of the same page as a tab of the run, inside Airflow's UI.

    :param dag_id: The DAG's id.
    :param run_id: The run's id, as Airflow has it (not encoded).
    """
    return f"/dags/{_segment(dag_id)}/runs/{_segment(run_id)}/plugin/{RUN_TAB}"


def image_path(dag_id: str, run_id: str, task_id: str, map_index: int, index: int, *, row: int | None = None) -> str:
    """Return the path that leads to one image for as long as the image and its XCom exist.

    It is no secret: it answers only those who may read the XComs of the DAG, with a short-lived address in S3.

    :param dag_id: The DAG's id.
    :param run_id: The run's id, as Airflow has it (not encoded).
    :param task_id: The task's id.
    :param map_index: Index of the mapped task instance; -1 if the task is not mapped.
    :param index: Position of the image among those asked for, from 0: its ``index`` in the manifest.
    :param row: Of a batch, the position of the row, from 0; ``index`` then counts the images of that row.
    """
    task = f"{run_page(dag_id, run_id)}/tasks/{_segment(task_id)}/{int(map_index)}"
    if row is not None:
        task = f"{task}/rows/{int(row)}"
    return f"{task}/images/{int(index)}"


def _segment(text: str) -> str:
    return quote(text, safe="")
