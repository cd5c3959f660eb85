"""The DAGs in the pages about TaskFlow, landing later, assets and lineage are valid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from tests.integration.conftest import make_known

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "taskflow.md": {"headers": ["header", "headline", "publish"]},
    "wait-and-land.md": {"posters": ["land", "submit"], "from_elsewhere": ["land", "wait"]},
    "assets-and-lineage.md": {"generate_headers": ["generate"]},
}


@pytest.mark.usefixtures("airflow_database")
@pytest.mark.parametrize("page", PAGES)
def test_page_makes_its_dags(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[DAG] = []
    usual = DAG.__exit__

    def leave(dag: DAG, *error: Any) -> None:
        made.append(dag)
        usual(dag, *error)

    monkeypatch.setattr(DAG, "__exit__", leave)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        exec(compile(block, str(DOCS / page), "exec"), names)
    assert {dag.dag_id: sorted(dag.task_ids) for dag in made} == PAGES[page]
    for dag in made:
        make_known(dag)
