"""What the gateway does to each task: its faults, by the rows of the table of attacks; mixed by a seed."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

TOKEN = "sk-hostile/4c1f+9e7b=0d2a"
"""Of the connection that is attacked. Every way to write it differs from the others."""
SPELLINGS = (TOKEN, quote(TOKEN, safe=""), base64.b64encode(TOKEN.encode()).decode())

Protocol = Literal["fair", "tasks", "answers", "streams"]

LONG_TEXTS = (
    ("a" * 31 + "://") * 1800,
    "x@" * 30_000,
    "a:b" * 20_000,
    "bearer " * 8_600 + "x" * 7,
    "://" * 20_000,
    "://a?" * 12_000,
    "\x1b" * 60_000,
    "{{" * 30_000,
)
"""Texts on which a careless pattern takes time quadratic in their 60,000 characters, or worse."""
ESCAPES = ("[/nope]", "\x1b]0;pwned\x07\x1b[31m", "[bold red]", ":bomb:\x9b2J\r\n\n", "\x00[link=x]")
METADATA = (
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[fd00:ec2::254]/",
    "http://168.63.129.16/",
    "http://100.100.100.200/",
    "http://0xa9fea9fe/",
    "http://2852039166/",
)
CHARSETS = ("hex", "zlib", "rot13", "punycode", "idna", "undefined", "utf-7")
RETRY_AFTER = ("9" * 400, "1e309", "-1", "nan", "Fri, 31 Dec 999999 23:59:59 GMT")
CODINGS = ("gzip", "gzip, gzip")

ALWAYS: dict[str, Any] = {"times": None}
REFUSED = frozenset({"ResultHostRefused"})
LANDED = frozenset({"landed"})


@dataclass(frozen=True)
class Case:
    """
    One attack.

    :param row: of the table of attacks
    :param name: what is attacked with; part of the prompt
    :param protocol: the task it is made on
    :param fault: as the emulator takes it; a sequence is one of those values, by the seed
    :param ends: kinds of errors that the task may end with, or ``landed``; any if empty
    """

    row: str
    name: str
    protocol: Protocol
    fault: Mapping[str, Any]
    ends: frozenset[str] = frozenset()


def case(row: str, name: str, protocol: Protocol, route: str, kind: str, **details: Any) -> Case:
    """Make a case of one fault."""
    ends = details.pop("ends", frozenset())
    return Case(row, name, protocol, {"route": route, "kind": kind, **details}, ends)


CASES = (
    case("C1", "long prompt", "tasks", "lookup", "odd_text", text=LONG_TEXTS, **ALWAYS, ends=LANDED),
    case("C1", "long failure", "tasks", "submit", "fail", code=LONG_TEXTS, message=LONG_TEXTS, **ALWAYS),
    case("C1", "long refusal", "tasks", "submit", "refuse", code=LONG_TEXTS, message=LONG_TEXTS, **ALWAYS),
    case("C1", "long id", "tasks", "submit", "odd_ids", text=LONG_TEXTS),
    case("C1", "long prompt at once", "answers", "submit", "odd_text", text=LONG_TEXTS, ends=LANDED),
    case("C1", "long refusal at once", "streams", "submit", "refuse", message=LONG_TEXTS, status=400),
    case("C2", "odd text", "tasks", "lookup", "odd_text", **ALWAYS, ends=LANDED),
    case("C5", "2000 images", "tasks", "lookup", "surplus", **ALWAYS, ends=LANDED),
    case("C5", "200 images at once", "answers", "submit", "surplus", images=200),
    case("C6", "drip", "tasks", "lookup", "drip", times=2),
    case("C6", "drip of a submit", "tasks", "submit", "drip"),
    case("C6", "drip at once", "answers", "submit", "drip"),
    case("C6", "endless line", "tasks", "lookup", "endless", times=2),
    case("C6", "endless event", "streams", "submit", "endless", text="no image "),
    case("C6", "endless image", "streams", "submit", "endless", text="iVBORw0KGg"),
    case("C6", "bomb", "tasks", "lookup", "zip_bomb", coding=CODINGS, times=2),
    case("C6", "bomb of a submit", "tasks", "submit", "zip_bomb", coding=CODINGS),
    case("C6", "bomb at once", "streams", "submit", "zip_bomb", coding=CODINGS),
    case("C6", "packed result", "tasks", "result", "zip_bomb", coding=CODINGS, **ALWAYS),
    case("C6", "endless result", "tasks", "result", "endless", **ALWAYS),
    case("C6", "dripping result", "tasks", "result", "drip", ends=LANDED),
    case("C6", "result of 60000 x 60000", "tasks", "result", "bomb", **ALWAYS),
    case("C7", "metadata service", "tasks", "lookup", "elsewhere", location=METADATA, **ALWAYS, ends=REFUSED),
    case("C7", "redirect to it", "tasks", "result", "redirect", location=METADATA, **ALWAYS, ends=REFUSED),
    case("C8", "absurd numbers", "tasks", "lookup", "absurd", **ALWAYS, ends=LANDED),
    case("C8", "absurd numbers at once", "answers", "submit", "absurd", ends=LANDED),
    case("C8", "deep record", "tasks", "lookup", "deep", times=2),
    case("C8", "deep at once", "streams", "submit", "deep"),
    case("C8", "charset", "tasks", "lookup", "wrong_content_type", content_type=CHARSETS, **ALWAYS, ends=LANDED),
    case("C8", "charset at once", "answers", "submit", "wrong_content_type", content_type=CHARSETS, ends=LANDED),
    case("C8", "Retry-After", "tasks", "submit", "refuse", code="rate_limited", retry_after=RETRY_AFTER, times=2),
    case("C9", "markup in a prompt", "tasks", "lookup", "odd_text", text=ESCAPES, **ALWAYS, ends=LANDED),
    case("C9", "markup in ids", "tasks", "submit", "odd_ids", text=ESCAPES),
    case("C9", "markup in records", "tasks", "lookup", "odd_ids", text=ESCAPES, times=2),
    case("C9", "markup in a failure", "tasks", "submit", "fail", code=ESCAPES, message=ESCAPES, **ALWAYS),
    case("C10", "token in ids", "tasks", "submit", "odd_ids", text=SPELLINGS),
    case("C10", "token in records", "tasks", "lookup", "odd_ids", text=SPELLINGS, times=2),
    case("C10", "token in a prompt", "tasks", "lookup", "odd_text", text=SPELLINGS, **ALWAYS, ends=LANDED),
    case("C10", "token in a failure", "tasks", "submit", "fail", code=SPELLINGS, message=SPELLINGS, **ALWAYS),
    case("C10", "token in a refusal", "answers", "submit", "refuse", message=SPELLINGS, status=400),
    case("C10", "token in ids at once", "answers", "submit", "odd_ids", text=SPELLINGS),
)


@dataclass(frozen=True)
class Attack:
    """
    A case on one task.

    :param prompt: of that task only
    :param fault: to be armed at the emulator
    """

    case: Case
    prompt: str
    fault: Mapping[str, Any]


def attacks(seed: int) -> Iterator[Attack]:
    """
    Yield attacks for ever: every case once, in another order each time.

    :param seed: the same one gives the same attacks
    """
    dice = random.Random(seed)
    number = 0
    while True:
        for chosen in dice.sample(CASES, len(CASES)):
            number += 1
            prompt = f"seed {seed} number {number}: {chosen.name}"
            fault = {name: _one_of(dice, value) for name, value in chosen.fault.items()}
            if "content_type" in fault:
                fault["content_type"] = f"application/json; charset={fault['content_type']}"
            yield Attack(chosen, prompt, {**fault, "prompt": prompt})


def _one_of(dice: random.Random, value: Any) -> Any:
    return dice.choice(value) if isinstance(value, tuple) else value
