"""The compatibility rule: changes may only add to the public API; pure functions on the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_NOT_THE_TYPE = frozenset({"title", "description", "default", "examples", "properties", "required", "$defs", "items"})


def api_breaks(stored: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """
    Tell what code written for the stored API would stumble over.

    Whatever was there is there, with the same default; a parameter that is new has a default.

    :param stored: what was public
    :param now: what is
    :param where: path to both, for people
    """
    for name, value in stored.items():
        place = f"{where}.{name}" if where else name
        if name not in now:
            yield f"{place} is gone"
        elif isinstance(value, Mapping) and isinstance(now[name], Mapping):
            yield from api_breaks(value, now[name], place)
        elif isinstance(value, list) and isinstance(now[name], list):
            yield from (f"{place} has lost {item}" for item in value if item not in now[name])
        elif value != now[name]:
            yield f"{place} was {value!r} and is {now[name]!r}"
    if stored and all(isinstance(value, str) for value in stored.values()):
        for name in now.keys() - stored.keys():
            if isinstance(now[name], str) and name not in {"*", "**"} and " = " not in now[name]:
                yield f"{where}.{name} is new and has no default"


def schema_breaks(stored: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """
    Tell what a reader of the stored format would miss in what is written now.

    :param stored: JSON Schema of what was written
    :param now: JSON Schema of what is
    """
    yield from _node_breaks(stored, now, "", stored, now)


def _node_breaks(
    old: Mapping[str, Any], new: Mapping[str, Any], where: str, old_root: Mapping[str, Any], new_root: Mapping[str, Any]
) -> Iterator[str]:
    old, new = _resolved(old, old_root), _resolved(new, new_root)
    shape = {key: value for key, value in old.items() if key not in _NOT_THE_TYPE | {"anyOf", "additionalProperties"}}
    for key, value in shape.items():
        if new.get(key) != value:
            yield f"{where or 'the whole'}: {key} was {value!r} and is {new.get(key)!r}"
    for name, child in old.get("properties", {}).items():
        place = f"{where}.{name}" if where else name
        if name not in new.get("properties", {}):
            yield f"{place} is gone"
        else:
            yield from _node_breaks(child, new["properties"][name], place, old_root, new_root)
    for name in old.get("required", ()):
        if name not in new.get("required", ()):
            yield f"{where or 'the whole'}: {name} is not always there any more"
    for key in ("items", "additionalProperties"):
        if isinstance(old.get(key), Mapping) and isinstance(new.get(key), Mapping):
            yield from _node_breaks(old[key], new[key], f"{where}[]", old_root, new_root)
        elif key in old and old[key] != new.get(key):
            yield f"{where}: {key} was {old[key]!r} and is {new.get(key)!r}"
    yield from _choice_breaks(old, new, where, old_root, new_root)


def _choice_breaks(
    old: Mapping[str, Any], new: Mapping[str, Any], where: str, old_root: Mapping[str, Any], new_root: Mapping[str, Any]
) -> Iterator[str]:
    before, after = old.get("anyOf", []), new.get("anyOf", [])
    if len(before) != len(after):
        yield f"{where}: may be {len(after)} things instead of {len(before)}"
        return
    for old_choice, new_choice in zip(before, after, strict=True):
        yield from _node_breaks(old_choice, new_choice, where, old_root, new_root)


def _resolved(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        node = root["$defs"][node["$ref"].rpartition("/")[2]]
    return node
