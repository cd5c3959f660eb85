"""Planted secrets, and the tasks that carry each of them into every kind of failure."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from urllib.parse import quote

from airflow_provider_imagegen.engine.options import GRACE
from tests.stack.waiting import HANG

SHORT = 5
"""Seconds until a deadline that is there to pass: a task sends and looks up at least once, however late it is."""
KNOWN = 14
"""Characters by which a canary is recognised, so that half of one is found too."""


def _song(kind: str) -> str:
    """Return a secret with characters that encodings change, recognisable by its beginning."""
    return f"{kind}{secrets.token_hex(12)}/+{secrets.token_hex(4)}="


@dataclass(frozen=True)
class Canaries:
    """All secrets of one run."""

    token: str = field(default_factory=lambda: _song("tk-"))
    wrong_token: str = field(default_factory=lambda: _song("wt-"))
    header: str = field(default_factory=lambda: _song("hd-"))
    callback_path: str = field(default_factory=lambda: _song("cp-"))
    callback_query: str = field(default_factory=lambda: _song("cq-"))
    proxy_password: str = field(default_factory=lambda: secrets.token_hex(12))
    aws_secret: str = field(default_factory=lambda: _song("as-"))
    host_password: str = field(default_factory=lambda: secrets.token_hex(12))
    link_query: str = field(default_factory=lambda: _song("lq-"))
    source_query: str = field(default_factory=lambda: _song("sq-"))
    message_query: str = field(default_factory=lambda: _song("tq-"))
    decoy: str = field(default_factory=lambda: _song("dc-"))

    def patterns(self) -> dict[str, re.Pattern[str]]:
        """Return how each is recognised: as it is, in URLs, in base64 at any position."""
        found = {name: re.compile("|".join(map(re.escape, _spellings(value)))) for name, value in vars(self).items()}
        return {**found, "signature": re.compile(r"[?&]sig=[0-9a-f]{6}")}


def _spellings(secret: str) -> Iterator[str]:
    start = secret[:KNOWN]
    yield start
    yield quote(start, safe="")
    for shift in range(3):
        # The letters that hold bits of what stands before and behind differ with it.
        encoded = base64.b64encode(b" " * shift + secret[:18].encode()).decode()
        yield encoded[(0, 2, 3)[shift] : 20]


@dataclass(frozen=True)
class Case:
    """
    One mapped task.

    :param name: stands in the prompt, by which the emulator's faults find it
    :param fails: whether the task is to fail
    :param arguments: of the operator
    :param faults: of the emulator
    """

    name: str
    fails: bool = True
    arguments: dict[str, Any] = field(default_factory=dict)
    faults: tuple[dict[str, Any], ...] = ()

    @property
    def prompt(self) -> str:
        """The request of the case."""
        return f"A canary, {self.name}."


def echoes(canaries: Canaries) -> Iterator[str]:
    """Return a gateway's words, for ever: each says a secret back, some where they will be cut short."""
    token, far = canaries.token, "What was sent was " + "very " * 33
    return cycle(
        [
            f"Authorization: Bearer {token} is wrong",
            f"you sent {token!r}",
            f"X-Extra-Key {canaries.header} is unknown",
            f"see https://cdn.example/a.png?sig={canaries.message_query}&v=1#{canaries.message_query}",
            f"{far}{token}",
            f"header {quote(token, safe='')} or {base64.b64encode(token.encode()).decode()}",
            f"fetch http://user:{canaries.message_query.replace('/', '_')}@inside.example/b.png",
            json.dumps({"headers": {"authorization": f"Bearer {token}", "x-extra-key": canaries.header}}),
        ]
    )


def echoes_of(callback: str) -> list[str]:
    """Return a gateway's words about the callback of a request, one where it will be cut short."""
    return [f"callback_url {callback} cannot be reached", "What was sent was " + "very " * 33 + callback]


def cases_of_tasks(canaries: Canaries, words: Iterator[str], callback: str, recorder: str, bucket: str) -> list[Case]:
    """Return the cases of the gateway that has tasks."""
    return [
        *_of_submits(canaries, words, bucket),
        *_of_callbacks(callback, bucket),
        *_of_waiting(words, bucket),
        *_of_landing(canaries, recorder, bucket),
        *_of_connections(bucket),
    ]


def cases_at_once(words: Iterator[str], bucket: str) -> list[Case]:
    """Return the cases of the gateways that answer with the image."""

    def at(name: str, connection: str, **more: Any) -> Case:
        faults = more.pop("faults", ())
        arguments = {"imagegen_conn_id": f"canary_{connection}", "s3_bucket": bucket, "model": "dall-e-3", **more}
        return Case(name, bool(faults), arguments, faults)

    def refusal(status: int) -> dict[str, Any]:
        return {"route": "submit", "kind": "refuse", "status": status, "message": next(words)}

    return [
        at("openai", "openai"),
        at("apigo", "apigo"),
        at("nano", "nano_banana", model="nano-banana-pro"),
        at("streamed", "openai", model="gpt-image-1", stream=True, partial_images=2),
        at("openai refused", "openai", faults=(refusal(400),)),
        at("apigo lost", "apigo", faults=(refusal(502),)),
        at("streamed refused", "openai", model="gpt-image-1", stream=True, faults=(refusal(418),)),
    ]


def _case(name: str, bucket: str, *faults: dict[str, Any], fails: bool = True, **arguments: Any) -> Case:
    common = {"imagegen_conn_id": "canary", "s3_bucket": bucket, "model": "gpt-image-1"}
    return Case(name, fails, common | arguments, faults)


def _of_submits(canaries: Canaries, words: Iterator[str], bucket: str) -> Iterator[Case]:
    def fault(kind: str, **more: Any) -> dict[str, Any]:
        return {"route": "submit", "kind": kind, "message": next(words), **more}

    codes = ("bad_request", "invalid_token", "used_up", "disabled", "request_too_large", "no_api")
    refusals = [fault("refuse", code=code) for code in codes]
    odd = [fault("refuse", code=f"odd {canaries.token}"), fault("refuse", code="forbidden", status=418)]
    yield _case("refused", bucket, *refusals, *odd, fails=False, n=10)
    losses = [fault(kind) for kind in ("drop", "reset", "html", "truncated", "wrong_types", "hollow", "empty")]
    losses += [fault("error", code="api_error"), fault("hang")]
    yield _case("unanswered", bucket, *losses, fails=False, n=10, imagegen_conn_id="canary_silent")
    yield _case("too many", bucket, fault("refuse", code="rate_limited", times=None), timeout=SHORT)
    yield _case("moderated", bucket, fault("refuse", code="moderation_blocked"))
    ends = [("fail", {}), ("moderation", {}), ("fewer", {}), ("fail", {"code": f"odd {canaries.token}"})]
    outcomes = [fault(kind, after=number, **more) for number, (kind, more) in enumerate(ends)]
    yield _case("given up", bucket, *outcomes, fails=False, n=6)
    yield _case("failed", bucket, fault("fail"))


def _of_callbacks(callback: str, bucket: str) -> Iterator[Case]:
    refusals, ends = (
        [{"route": "submit", "kind": kind, "message": message} for message in echoes_of(callback)]
        for kind in ("refuse", "fail")
    )
    yield _case("callback refused", bucket, *refusals, fails=False, n=3)
    yield _case("callback failed", bucket, ends[0], ends[1] | {"after": 1}, fails=False, n=3)


def _of_waiting(words: Iterator[str], bucket: str) -> Iterator[Case]:
    def fault(kind: str, **more: Any) -> dict[str, Any]:
        return {"route": "lookup", "kind": kind, "message": next(words), "times": None, **more}

    held = {"route": "submit", "kind": "hold"}
    invisible = {"route": "submit", "kind": "invisible"}
    yield _case("not shown", bucket, fault("error", code="api_error"), timeout=SHORT)
    yield _case("locked out", bucket, fault("refuse", code="invalid_token"))
    yield _case("babble", bucket, fault("truncated"), timeout=SHORT)
    yield _case("unknown", bucket, invisible, timeout=2 * HANG)
    yield _case("deferred in vain", bucket, held, fault("error", code="api_error"), timeout=GRACE + SHORT)
    yield _case("killed", bucket, held, timeout=2 * HANG)


def _of_landing(canaries: Canaries, recorder: str, bucket: str) -> Iterator[Case]:
    def fault(kind: str, **more: Any) -> dict[str, Any]:
        return {"route": "result", "kind": kind, **more}

    query = f"sig={canaries.message_query}#{canaries.message_query}"
    inside = fault("redirect", location=f"http://user:{canaries.host_password}@169.254.169.254/a.png?{query}")
    elsewhere = fault("redirect", location=f"http://{recorder}/a.png?{query}")
    astray = fault("redirect", location=f"ftp://user:{canaries.host_password}@cdn.example/a.png?{query}")
    spoilt = [fault(kind) for kind in ("expire", "wrong_content_type", "html", "truncated", "cut", "bomb")]
    refused = [fault("error", status=500), fault("refuse", status=418)]
    yield _case("watched", bucket, elsewhere, fails=False, n=2, imagegen_conn_id="canary_watched")
    yield _case("downloads", bucket, inside, astray, *spoilt, *refused, fault("endless"), fails=False, n=10)
    yield _case("never lands", bucket, inside | {"times": None})


def _of_connections(bucket: str) -> Iterator[Case]:
    yield _case("nowhere", bucket, imagegen_conn_id="canary_nowhere", timeout=SHORT)
    yield _case("no address", bucket, imagegen_conn_id="canary_no_address")
    yield _case("no proxy", bucket, imagegen_conn_id="canary_no_proxy")
    yield _case("wrong token", bucket, imagegen_conn_id="canary_wrong_token")
    yield _case("no bucket", "not-there")
    yield _case("wrong keys", bucket, aws_conn_id="canary_aws")
    yield _case("bad size", bucket, size="17x17")
    yield _case("bad number", bucket, n=0)
