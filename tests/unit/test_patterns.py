"""Every regular expression of the package takes time linear in the text, whatever the text.

A quadratic one would take hours, and the test be ended as one that hangs.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from itertools import combinations
from types import ModuleType
from typing import Any, AnyStr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import airflow_provider_imagegen as package
from tests.examples import is_full

LENGTH = 1_000_000 if is_full() else 250_000
LONGEST_SAMPLE = 10
REPETITION = re.compile(r"[*+{]")
METHODS = {"search", "match", "fullmatch", "sub"}


def uses_in(module: ModuleType) -> Iterator[tuple[re.Pattern[Any], str]]:
    """Yield the patterns with a repetition that a module uses, and how; those put together from data are left out."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS):
            continue
        owner = node.func.value
        is_re = isinstance(owner, ast.Name) and owner.id == "re"
        source = node.args[0] if is_re else owner
        found = source.value if isinstance(source, ast.Constant) else getattr(module, getattr(source, "id", ""), None)
        if isinstance(found, re.Pattern) or (is_re and isinstance(found, str | bytes)):
            pattern = re.compile(found)
            if REPETITION.search(str(pattern.pattern)):
                yield pattern, node.func.attr


def uses() -> dict[str, tuple[re.Pattern[Any], str]]:
    """Return every use of a pattern outside the emulator, by a name of its own."""
    found = {}
    for entry in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if ".emulator" not in entry.name and "__main__" not in entry.name:
            for pattern, method in uses_in(importlib.import_module(entry.name)):
                found[f"{entry.name.partition('.')[2]} {method} {pattern.pattern!r:.40}"] = (pattern, method)
    return found


USES = uses()


def worst_texts(sample: AnyStr) -> Iterator[AnyStr]:
    """Yield long texts that begin like a match and go on like any part of it for ever."""
    for start, end in combinations(range(min(len(sample), LONGEST_SAMPLE) + 1), 2):
        yield sample[:start] + sample[start:end] * (LENGTH // (end - start))


def test_all_uses_are_found() -> None:
    assert len(USES) > 20
    assert sum(name.startswith("redaction ") for name in USES) >= 5


@pytest.mark.parametrize("use", USES)
@settings(max_examples=30 if is_full() else 1)
@given(data=st.data())
def test_gets_through_its_worst_texts(use: str, data: st.DataObject) -> None:
    pattern, method = USES[use]
    # The first sample is the simplest there is.
    for text in worst_texts(data.draw(st.from_regex(pattern))):
        if method == "sub":
            pattern.sub(text[:0], text)
        else:
            getattr(pattern, method)(text)
