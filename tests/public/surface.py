"""Describes what is public: modules, names, signatures with defaults, the connection's fields, formats of data."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from airflow_provider_imagegen.cli.definition import LEDGER_COMMANDS
from airflow_provider_imagegen.gateways import ENTRY_POINT_GROUP
from airflow_provider_imagegen.get_provider_info import get_provider_info

PACKAGE = "airflow_provider_imagegen"
DISTRIBUTION = "airflow-provider-imagegen"
REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
"""The reference pages, which define the public API."""

ALSO: dict[str, tuple[str, ...]] = {
    "emulator": (),
    "gateways": ("ENTRY_POINT_GROUP", "gateway_for", "registered_gateways"),
    "links.imagegen": ("GatewayTaskLink", "ImagesLink", "S3Link"),
    "polling": ("PollSchedule",),
}
"""Public without a page: modules, and which of their names; all that do not begin with an underscore if none."""

FORMATS = {
    "manifest": "schemas:Manifest",
    "batch-summary": "schemas.batch:BatchSummary",
    "batch-row": "engine.batch.results:RowResult",
    "receipt": "engine.receipts:Receipt",
    "failure": "schemas:Failure",
    "dry-run": "engine.dry_run:DryRun",
    "batch-dry-run": "engine.dry_run:BatchDryRun",
    "ledger-record": "ledger.models:LedgerRecord",
}
"""Data that leaves the process, by the name of its file."""


def public_names() -> dict[str, tuple[str, ...]]:
    """Return the public names of every module that has some; none for all of them."""
    pages = "\n".join(page.read_text() for page in sorted(REFERENCE.glob("*.md")))
    single: dict[str, tuple[str, ...]] = {}
    for module, name in re.findall(rf"auto(?:class|function):: {PACKAGE}\.([\w.]+)\.(\w+)", pages):
        single[module] = (*single.get(module, ()), name)
    whole: dict[str, tuple[str, ...]] = dict.fromkeys(re.findall(rf"automodule:: {PACKAGE}\.([\w.]+)", pages), ())
    return {**single, **whole, **ALSO}


def api() -> dict[str, Any]:
    """Return what can be imported and how it is called."""
    modules = {name: _module(import_module(f"{PACKAGE}.{name}"), names) for name, names in public_names().items()}
    (connection,) = get_provider_info()["connection-types"]
    fields = {name: field["schema"]["type"] for name, field in connection["conn-fields"].items()}
    flags = {command.name: sorted(flag for arg in command.args for flag in arg.flags) for command in LEDGER_COMMANDS}
    return {
        "modules": modules,
        "connection": {"type": connection["connection-type"], "extra": fields},
        "airflow imagegen ledger": flags,
        "gateways": sorted(distribution(DISTRIBUTION).entry_points.select(group=ENTRY_POINT_GROUP).names),
    }


def formats() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of every format, by name."""
    models: dict[str, type[BaseModel]] = {}
    for name, place in FORMATS.items():
        module, _, attribute = place.partition(":")
        models[name] = getattr(import_module(f"{PACKAGE}.{module}"), attribute)
    return {name: _without_prose(model.model_json_schema(mode="serialization")) for name, model in models.items()}


def _module(module: ModuleType, names: tuple[str, ...]) -> dict[str, Any]:
    shown = names or tuple(getattr(module, "__all__", ())) or tuple(_own_names(module))
    return {name: _described(getattr(module, name)) for name in shown}


def _own_names(module: ModuleType) -> Iterator[str]:
    for name, value in vars(module).items():
        is_code = inspect.isclass(value) or inspect.isfunction(value)
        if not name.startswith("_") and is_code and value.__module__ == module.__name__:
            yield name


def _described(value: object) -> Any:
    if inspect.isclass(value):
        return _class(value)
    if callable(value):
        return {"call": _parameters(value)}
    return {"value": _text(value) if isinstance(value, str | int | float) else type(value).__name__}


def _class(kind: type) -> dict[str, Any]:
    is_model = issubclass(kind, BaseModel)
    return {
        "bases": [base.__name__ for base in kind.__mro__[1:] if _is_ours(base)],
        "call": _fields(kind) if is_model else _constructor(kind),
        "members": {name: text for name, text in _members(kind) if not is_model or name not in kind.model_fields},
    }


def _fields(model: type[BaseModel]) -> dict[str, str]:
    return {
        name: "keyword" if field.is_required() else f"keyword = {field.get_default(call_default_factory=True)!r}"
        for name, field in model.model_fields.items()
    }


def _constructor(kind: type) -> dict[str, str]:
    """Collect a constructor's parameters, and those it hands on to the classes below; Airflow's own are Airflow's."""
    if issubclass(kind, tuple):
        return _parameters(kind.__new__)
    taken: dict[str, str] = {}
    for step in kind.__mro__:
        if "__init__" not in vars(step) or not _is_ours(step):
            continue
        parameters = _parameters(vars(step)["__init__"])
        taken = {**parameters, **taken}
        if "**" not in parameters:
            break
    return taken


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    for name, value in inspect.getmembers_static(kind):
        if name.startswith("_") or not _is_defined_by_us(kind, name):
            continue
        function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        if inspect.isfunction(function):
            yield name, _parameters(function)
        elif name == "template_fields":
            yield name, sorted(value)
        elif name == "billed":
            yield name, {"value": value}
        else:
            yield name, {}


def _is_defined_by_us(kind: type, name: str) -> bool:
    return any(name in vars(step) for step in kind.__mro__ if _is_ours(step))


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == PACKAGE


def _parameters(function: Callable[..., Any]) -> dict[str, str]:
    """Return where every parameter goes, and its default where it has one."""
    found: dict[str, str] = {}
    for place, parameter in enumerate(inspect.signature(inspect.unwrap(function)).parameters.values()):
        if parameter.name in {"self", "cls", "_cls"} and place == 0:
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            found["*"] = "any"
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            found["**"] = "any"
        else:
            text = "keyword" if parameter.kind is inspect.Parameter.KEYWORD_ONLY else f"place {place}"
            has_default = parameter.default is not inspect.Parameter.empty
            found[parameter.name] = f"{text} = {_text(parameter.default)}" if has_default else text
    return found


def _text(value: object) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _without_prose(node: Any) -> Any:
    """Return a JSON Schema without what only people read."""
    if isinstance(node, list):
        return [_without_prose(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {
        name: child for name, child in node.items() if name not in {"title", "description"} or isinstance(child, dict)
    }
    return {name: _without_prose(child) for name, child in kept.items()}
