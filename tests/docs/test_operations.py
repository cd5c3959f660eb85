"""The page about operations, and the files that it offers: policies, alerts, a board."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import airflow.jobs
import botocore.loaders
import pytest
import yaml
from airflow.configuration import conf
from botocore import xform_name

import airflow_provider_imagegen
from tests.docs import policies
from tests.docs.pages import DOCS, Page

PAGE = Page(DOCS / "operations.md")
FILES = DOCS / "operations"
PACKAGE = Path(airflow_provider_imagegen.__path__[0])
SECTIONS = PAGE.sections(2)
RULES = yaml.safe_load((FILES / "prometheus-rules.yaml").read_text())
ALL_RULES = [rule for group in RULES["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in ALL_RULES if "alert" in rule]
BOARD = json.loads((FILES / "grafana-dashboard.json").read_text())

NEEDS = {
    "put_object": {"s3:PutObject"},
    "get_object": {"s3:GetObject"},
    "head_object": {"s3:GetObject"},
    "copy_object": {"s3:GetObject", "s3:PutObject"},
    "list_objects_v2": {"s3:ListBucket"},
}
"""Actions that S3 asks for, by the methods of boto3's client that the package calls."""


def rows(section: str) -> Iterator[list[str]]:
    """Yield the cells of the rows of a section's tables, in which an empty first cell repeats the one above."""
    first = ""
    for line in re.findall(r"^\|.*\|$", SECTIONS[section], re.MULTILINE):
        first_cell, *cells = (cell.strip() for cell in line[1:-1].split("|"))
        first = first_cell or first
        yield [first, *cells]


def names(cell: str) -> frozenset[str]:
    return frozenset(re.findall(r"`(.+?)`", cell))


@cache
def nodes(*, gallery: bool) -> list[ast.AST]:
    """Return the syntax of what runs in the API server, or of everything else."""
    paths = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "emulator"]
    chosen = [path for path in paths if (path.relative_to(PACKAGE).parts[0] == "gallery") is gallery]
    return [node for path in chosen for node in ast.walk(ast.parse(path.read_text()))]


def s3_calls(*, gallery: bool) -> set[str]:
    """Return the methods of boto3's S3 client that are called, or named for a paginator or a presigned URL."""
    model = botocore.loaders.Loader().load_service_model("s3", "service-2")
    methods = {xform_name(operation) for operation in model["operations"]}
    called = {node.attr for node in nodes(gallery=gallery) if isinstance(node, ast.Attribute)}
    return methods & (called | {str(node.value) for node in nodes(gallery=gallery) if isinstance(node, ast.Constant)})


@cache
def counted() -> dict[str, str]:
    """Return the metrics that the package counts, with their types."""
    kinds = {"count": "counter", "took": "timer"}
    return {
        f"imagegen.{node.args[0].value}": kinds[node.func.attr]
        for node in nodes(gallery=False)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "metrics"
        and node.func.attr in kinds
        and isinstance(node.args[0], ast.Constant)
    }


def metrics_of_airflow() -> frozenset[str]:
    """Return the metrics that are not this package's, as the page names them."""
    (sentence,) = re.findall(r"two metrics of Airflow: (.+?)\.", SECTIONS["Alerts and dashboard"], re.DOTALL)
    return names(sentence)


def expressions() -> Iterator[str]:
    """Yield all queries of the rules and the board."""
    yield from (rule["expr"] for rule in ALL_RULES)
    yield from (target["expr"] for panel in BOARD["panels"] for target in panel["targets"])


class TestPermissions:
    def test_page_lists_what_the_policies_allow(self) -> None:
        listed = [row for row in rows("S3 permissions") if row[0] in policies.COMPONENTS]
        linked = {row[0]: re.search(r"\((operations/.+?)\)", row[1]) for row in listed if row[1]}
        assert all(found and (DOCS / found[1]).exists() for found in linked.values())
        assert tuple(linked) == policies.COMPONENTS
        for component in policies.COMPONENTS:
            table = {(names(row[2]), names(row[3])) for row in listed if row[0] == component}
            assert table == set(policies.statements(component))

    @pytest.mark.parametrize(("component", "gallery"), [("worker", False), ("API server", True)])
    def test_are_those_of_the_calls(self, component: str, gallery: bool) -> None:
        # Only `ledger prune` deletes, which is no component.
        calls = s3_calls(gallery=gallery) - {"delete_object"}
        assert calls <= NEEDS.keys()
        needed = {action for call in calls for action in NEEDS[call]}
        # To read a given version takes an action of its own; so does a 404 instead of a 403.
        extra = {"s3:GetObjectVersion", "s3:ListBucket"} if gallery else set()
        assert policies.actions(component) == needed | extra

    def test_of_a_triggerer_are_a_part_of_a_workers(self) -> None:
        assert policies.actions("triggerer") < policies.actions("worker")


class TestMetrics:
    def test_page_has_every_metric_with_its_type(self) -> None:
        table = {name: row[1] for row in rows("Metrics") for name in names(row[0])}
        assert table == counted()
        assert len(table) == 7

    def test_page_has_their_names_in_prometheus(self) -> None:
        for row in rows("Metrics"):
            for name in names(row[0]):
                assert names(row[4]) == {f"airflow_{name.replace('.', '_')}"}

    def test_queries_use_only_what_exists(self) -> None:
        ours = {f"airflow_{name.replace('.', '_')}": kind for name, kind in counted().items()}
        others = {f"airflow_{name}" for name in metrics_of_airflow()}
        used = {name for expression in expressions() for name in re.findall(r"\bairflow_\w+", expression)}
        bases = {re.sub(r"_(sum|count)$", "", name) for name in used}
        assert bases <= ours.keys() | others
        assert ours.keys() - bases == set()
        assert all(ours[base] == "timer" for base in (name[:-4] for name in used if name.endswith("_sum")))

    def test_of_airflow_exist(self) -> None:
        # Read, not imported, which takes seconds.
        (home,) = airflow.jobs.__path__
        code = "".join(Path(home, f"{name}_job_runner.py").read_text() for name in ("scheduler", "triggerer"))
        assert len(metrics_of_airflow()) == 2
        assert {name for name in metrics_of_airflow() if f'"{name}"' not in code} == set()


class TestAlerts:
    def test_are_those_of_the_page(self) -> None:
        table = {name: row[1] for row in rows("Alerts and dashboard") for name in names(row[0])}
        assert table == {alert["alert"]: alert["labels"]["severity"] for alert in ALERTS}

    def test_have_a_summary_and_a_description(self) -> None:
        assert all(alert["annotations"].keys() == {"summary", "description"} for alert in ALERTS)

    def test_use_only_records_that_exist(self) -> None:
        used = {name for expression in expressions() for name in re.findall(r"\bimagegen:[\w:]+", expression)}
        assert used == {rule["record"] for rule in ALL_RULES if "record" in rule}


class TestBoard:
    def test_has_what_grafana_asks_for(self) -> None:
        assert BOARD.keys() >= {"uid", "title", "schemaVersion", "panels", "templating", "time"}
        panels: list[dict[str, Any]] = BOARD["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        assert all(panel.keys() >= {"type", "title", "gridPos", "targets", "fieldConfig"} for panel in panels)

    def test_asks_the_data_source_that_its_reader_chooses(self) -> None:
        (variable,) = BOARD["templating"]["list"]
        assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
        asked = {target["datasource"]["uid"] for panel in BOARD["panels"] for target in panel["targets"]}
        assert asked == {f"${{{variable['name']}}}"}


class TestSettings:
    def test_have_airflows_defaults(self) -> None:
        known = conf.configuration_description
        compared = 0
        for row in rows("Celery"):
            for section, option in re.findall(r"^`\[(\w+)\] (\w+)`$", row[2]):
                # Celery's sections come with its provider, which need not be installed.
                if not section.startswith("celery"):
                    compared += 1
                    assert float(row[3]) == float(known[section]["options"][option]["default"]), option
        assert compared >= 9

    def test_of_a_pod_end_the_task_before_the_pod(self) -> None:
        (block,) = PAGE.blocks("yaml")
        spec = yaml.safe_load(block.code)["spec"]
        (container,) = spec["containers"]
        variables = {variable["name"]: variable["value"] for variable in container["env"]}
        assert float(variables["AIRFLOW__IMAGEGEN__STOP_GRACE"]) < spec["terminationGracePeriodSeconds"]
        (mount,) = container["volumeMounts"]
        assert mount["mountPath"] == variables["TMPDIR"]
        assert mount["name"] in {volume["name"] for volume in spec["volumes"]}

    def test_lifecycle_rule_is_for_the_ledger_only(self) -> None:
        (block,) = PAGE.blocks("json")
        (rule,) = json.loads(block.code)["Rules"]
        assert rule["Filter"] == {"Prefix": "_imagegen/ledger/"}
