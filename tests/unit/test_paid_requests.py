"""A paid request is sent in as few places as the promise is explained for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import airflow_provider_imagegen

PACKAGE = Path(airflow_provider_imagegen.__file__).parent


def calls(method: str) -> Iterator[tuple[str, str]]:
    """Yield module and receiver of every call of a method in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
                yield path.relative_to(PACKAGE).as_posix(), ast.unparse(node.func.value)


class TestPaidRequests:
    def test_are_sent_for_operators_in_one_place_and_for_the_hook_in_one(self) -> None:
        callers = [module for module, receiver in calls("submit") if receiver.endswith("client")]
        assert callers == ["engine/direct.py", "engine/submit.py"]

    def test_leave_the_process_in_one_place(self) -> None:
        senders = [module for module, receiver in calls("send") if receiver.endswith("http")]
        assert senders == ["gateways/client.py"]
