"""What can be made to go wrong, and when: a schedule that tests write and every route asks.

A fault acts in one of three phases: it turns a request away before it is accepted (unbilled), it changes what
becomes of the task, or it spoils the response of a request that was handled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from airflow_provider_imagegen.emulator.calls import Route


class Phase(Enum):
    """When a fault acts."""

    REFUSAL = "refusal"
    OUTCOME = "outcome"
    ANSWER = "answer"


class FaultKind(StrEnum):
    """Everything that can be made to go wrong."""

    REFUSE = "refuse"

    SLOW = "slow"
    HOLD = "hold"
    INVISIBLE = "invisible"
    PREVIEW = "preview"
    HICCUP = "hiccup"
    FAIL = "fail"
    MODERATION = "moderation"
    FEWER = "fewer"
    OTHER_SIZE = "other_size"
    OLD_STYLE = "old_style"

    DROP = "drop"
    RESET = "reset"
    HANG = "hang"
    ERROR = "error"
    HTML = "html"
    TRUNCATED = "truncated"
    WRONG_TYPES = "wrong_types"
    EMPTY = "empty"
    HOLLOW = "hollow"
    CUT = "cut"
    STALL = "stall"
    WRONG_CONTENT_TYPE = "wrong_content_type"
    ENDLESS = "endless"
    DRIP = "drip"
    ZIP_BOMB = "zip_bomb"
    DEEP = "deep"

    ODD_TEXT = "odd_text"
    ODD_IDS = "odd_ids"
    SURPLUS = "surplus"
    ELSEWHERE = "elsewhere"
    ABSURD = "absurd"

    EXPIRE = "expire"
    BOMB = "bomb"
    REDIRECT = "redirect"


OUTCOMES = frozenset(
    {
        FaultKind.SLOW,
        FaultKind.HOLD,
        FaultKind.INVISIBLE,
        FaultKind.PREVIEW,
        FaultKind.HICCUP,
        FaultKind.FAIL,
        FaultKind.MODERATION,
        FaultKind.FEWER,
        FaultKind.OTHER_SIZE,
        FaultKind.OLD_STYLE,
    }
)
OF_RESULTS = frozenset({FaultKind.EXPIRE, FaultKind.BOMB, FaultKind.REDIRECT})
OF_JSON = frozenset(
    {
        FaultKind.WRONG_TYPES,
        FaultKind.HOLLOW,
        FaultKind.DEEP,
        FaultKind.ODD_TEXT,
        FaultKind.ODD_IDS,
        FaultKind.SURPLUS,
        FaultKind.ELSEWHERE,
        FaultKind.ABSURD,
    }
)
LEADING = frozenset({FaultKind.REDIRECT, FaultKind.ELSEWHERE})


class Fault(BaseModel):
    """One fault, as ``POST /_emulator/faults`` takes it.

    :param times: how many requests it strikes; none is all of them
    :param after: how many matching requests it lets pass first
    :param prompt: strikes only where the prompt contains this
    :param task_id: strikes only this task's lookups and results
    :param accept: for faults of the response to a submit: whether the task is created (and billed) all the same
    :param code: of a refusal, an error or a failed task, in the words of the Ace table
    :param status: HTTP status, when it is not the usual one
    :param retry_after: value of the ``Retry-After`` header
    :param seconds: how long to hang (none: until the client goes), to stay invisible, or to be slower
    :param by: which lookups do not see the task yet
    :param images: how many images are delivered
    :param location: where to redirect, or where the images are said to be
    :param content_type: what the header claims
    :param text: what odd texts and ids hold, and how an endless text begins
    :param coding: how a bomb is packed, once for every name
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    route: Route
    kind: FaultKind
    times: int | None = Field(default=1, ge=1)
    after: int = Field(default=0, ge=0)
    prompt: str | None = None
    task_id: str | None = None
    accept: bool = True
    code: str | None = None
    message: str = "made to fail"
    status: int | None = Field(default=None, ge=200, le=599)
    retry_after: float | str | None = None
    seconds: float | None = Field(default=None, ge=0)
    by: Literal["id", "trace_id", "both"] = "both"
    images: int = Field(default=0, ge=0)
    location: str | None = None
    content_type: str = "text/plain"
    text: str | None = None
    coding: str = "gzip"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        paid = self.route in (Route.SUBMIT, Route.EDIT)
        if self.kind in OUTCOMES and not paid:
            raise ValueError(f"{self.kind} is decided when a task is accepted: route is submit or edit")
        if self.kind in OF_RESULTS and self.route is not Route.RESULT:
            raise ValueError(f"{self.kind} concerns downloads: route is result")
        if self.kind in OF_JSON and self.route is Route.RESULT:
            raise ValueError(f"{self.kind} concerns JSON answers: route is not result")
        if self.kind in LEADING and not self.location:
            raise ValueError(f"{self.kind} needs a location")
        return self

    @property
    def phase(self) -> Phase:
        """When it acts."""
        if self.kind is FaultKind.REFUSE:
            return Phase.REFUSAL
        return Phase.OUTCOME if self.kind in OUTCOMES else Phase.ANSWER

    def headers(self) -> dict[str, str]:
        """Return the headers that a refusal or an error carries."""
        if self.retry_after is None:
            return {}
        wait = self.retry_after
        return {"Retry-After": f"{wait:g}" if isinstance(wait, float) else wait}


@dataclass(frozen=True)
class Concern:
    """Whom a request is about: what faults are matched with."""

    prompts: tuple[str, ...] = ()
    task_ids: tuple[str, ...] = ()


@dataclass
class ArmedFault:
    """A fault in the schedule, and how often it met its match."""

    id: int
    fault: Fault
    seen: int = 0
    fired: int = 0

    @property
    def spent(self) -> bool:
        """Whether it has struck as often as it was to."""
        return self.fault.times is not None and self.fired >= self.fault.times

    def strikes(self, concern: Concern) -> bool:
        """Say whether it strikes now, counting the request as seen if it matches."""
        fault = self.fault
        if fault.prompt is not None and not any(fault.prompt in prompt for prompt in concern.prompts):
            return False
        if fault.task_id is not None and fault.task_id not in concern.task_ids:
            return False
        self.seen += 1
        if self.seen <= fault.after or self.spent:
            return False
        self.fired += 1
        return True


@dataclass
class FaultSchedule:
    """All faults armed in one emulator, in order of arming."""

    armed: list[ArmedFault] = field(default_factory=list)
    _next_id: int = 1

    def arm(self, fault: Fault) -> ArmedFault:
        """Add a fault."""
        armed = ArmedFault(self._next_id, fault)
        self._next_id += 1
        self.armed.append(armed)
        return armed

    def disarm(self, fault_id: int | None = None) -> int:
        """Remove one fault, or all; return how many were removed."""
        kept = [armed for armed in self.armed if fault_id is not None and armed.id != fault_id]
        removed = len(self.armed) - len(kept)
        self.armed = kept
        return removed

    def disarm_holds(self, prompt: str) -> None:
        """Remove every hold whose own prompt contains this text; the empty text is contained in all."""
        self.armed = [
            armed
            for armed in self.armed
            if armed.fault.kind is not FaultKind.HOLD or prompt not in (armed.fault.prompt or "")
        ]

    def waits_for(self, route: Route) -> bool:
        """Say whether any fault may still strike a route; keeps the common path free of matching."""
        return any(armed.fault.route is route and not armed.spent for armed in self.armed)

    def take(self, phase: Phase, route: Route, concern: Concern) -> Fault | None:
        """Return the first fault of a phase that strikes; those armed later wait their turn."""
        return next(self.take_all(phase, route, concern), None)

    def take_all(self, phase: Phase, route: Route, concern: Concern) -> Iterator[Fault]:
        """Yield every fault of a phase that strikes."""
        for armed in self.armed:
            fits = armed.fault.phase is phase and armed.fault.route is route and not armed.spent
            if fits and armed.strikes(concern):
                yield armed.fault
