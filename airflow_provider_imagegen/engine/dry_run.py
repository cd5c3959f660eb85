"""A dry run: the calls it would send, without secrets, and what they would cost.

With ``validate_only``, the operators return a :class:`DryRun` or a :class:`BatchDryRun`: what they return otherwise,
with nothing landed, and the plan beside it. It always fits into an XCom.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import httpx
from pydantic import JsonValue

from airflow_provider_imagegen.engine.budget import Budget, CostEstimate
from airflow_provider_imagegen.engine.estimate import CostEstimator
from airflow_provider_imagegen.engine.options import JobOptions
from airflow_provider_imagegen.engine.plan import PlannedCall
from airflow_provider_imagegen.gateways.base import Gateway
from airflow_provider_imagegen.landing import Landing
from airflow_provider_imagegen.ledger.models import LedgerKey
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.redaction import address_of, foreign_text, short_in_json
from airflow_provider_imagegen.schemas import EditRequest, ImageRequest, Manifest
from airflow_provider_imagegen.schemas.base import Money, StrictModel, time_now
from airflow_provider_imagegen.schemas.batch import BatchSummary

MAX_SHOWN = 20
"""Calls that are shown whole."""

# Bytes as JSON writes them: twenty calls and what stands around them stay below 48 KB.
_TEXT_BYTES, _BODY_BYTES, _NAME_BYTES = 300, 1100, 420
_MODELS_SHOWN = 5
_HIDDEN = frozenset({"callback_url", "user"})


class Estimate(StrictModel):
    """What it would cost.

    :param to_pay: What would still have to be paid, at most; ``None`` if part of it has no known price.
    :param to_pay_at_least: The part of it that has.
    :param calls_to_pay: Number of calls for that; the others cost nothing more.
    :param unpriced_models: Some of the models without a known price.
    :param billed: What earlier tries of the task instance were billed; ``None`` if part of it is not known.
    :param billed_at_least: The part of it that is known.
    :param budget: The operator's ``budget``.
    :param currency: What all of these are in.
    """

    to_pay: Money | None
    to_pay_at_least: Money
    calls_to_pay: int
    unpriced_models: tuple[str, ...]
    billed: Money | None
    billed_at_least: Money
    budget: Money | None
    currency: str

    def __str__(self) -> str:
        if self.to_pay is not None:
            return f"{self.to_pay:f} {self.currency}"
        return f"unknown, at least {self.to_pay_at_least:f} {self.currency}"

    @classmethod
    def of(cls, bill: CostEstimate, budget: Budget | None, currency: str) -> Estimate:
        """Return an estimate as it is shown."""
        models = sorted(bill.unpriced)[:_MODELS_SHOWN]
        return cls(
            to_pay=bill.to_pay.total,
            to_pay_at_least=bill.to_pay.known,
            calls_to_pay=len(bill.generations),
            unpriced_models=tuple(short_in_json(name, _TEXT_BYTES) for name in models),
            billed=bill.billed.total,
            billed_at_least=bill.billed.known,
            budget=budget.budget if budget else None,
            currency=currency,
        )


class Plan(StrictModel):
    """What would be sent.

    :param dry_run: Always true; the result of a task that was sent has false.
    :param gateway: Name of the gateway.
    :param destination: Where the images would go.
    :param calls: Number of calls.
    :param requested: Number of images that they ask for.
    :param requests: The first of the calls: method, address, body, and what each would cost.
    :param estimate: What all of them would cost.
    """

    dry_run: Literal[True] = True
    gateway: str
    destination: str
    calls: int
    requested: int
    requests: tuple[dict[str, JsonValue], ...]
    estimate: Estimate

    def __str__(self) -> str:
        planned = f"{self.calls} call(s) for {self.requested} image(s) at {self.gateway}, to {self.destination}"
        return f"Dry run, nothing was sent: {planned}; to be paid: {self.estimate}"


class DryRun(Plan, Manifest):
    """The result of a single request that is only validated: a manifest without images, and the plan."""

    @classmethod
    def of(cls, plan: Plan, request: ImageRequest, fingerprint: str) -> DryRun:
        """Return the result of a request that was not sent."""
        nothing = _with_nothing(plan) | {"delivered": 0, "images": ()}
        return cls(**nothing, model=request.model, fingerprint=fingerprint)


class BatchDryRun(Plan, BatchSummary):
    """The result of a batch that is only validated: a summary in which nothing has landed, and the plan."""

    @classmethod
    def of(cls, plan: Plan, rows: int, skipped: int) -> BatchDryRun:
        """Return the result of rows that were not sent.

        :param rows: Number of rows, wrong ones included.
        :param skipped: Number of wrong rows that would be left out.
        """
        nothing = _with_nothing(plan) | {"landed": 0, "failed": 0, "unknown": 0, "images": 0, "failed_by_code": {}}
        return cls(**nothing, rows=rows, skipped=skipped)


def _with_nothing(plan: Plan) -> dict[str, Any]:
    """Return the fields of a plan, with what manifest and summary say where nothing was sent."""
    paid = {"billed": 0, "reused": 0, "usage": {}, "cost": Decimal(0), "currency": plan.estimate.currency}
    return {**dict(plan), **paid, "failures": (), "created_at": time_now(), "elapsed": 0.0, "manifest_uri": ""}


@dataclass(frozen=True)
class DryRunPlanner:
    """Plans calls without sending them: the gateway builds them, and the ledger knows what was paid before."""

    gateway: Gateway
    ledger: Ledger
    options: JobOptions
    landing: Landing

    async def plan(self, calls: Sequence[PlannedCall], names_of: Callable[[PlannedCall], Iterable[str]]) -> Plan:
        """Check bucket, budget and free names, and return what would be sent.

        :param calls: The calls, each of which is known to be right in itself.
        :param names_of: File names of a call's images, without extension.
        :raises DestinationError: If the bucket is not there.
        :raises ObjectExists: If something is where an image belongs, and nothing may be replaced.
        :raises BudgetExceeded: If the budget does not cover it.
        """
        # A claim would find this out, but a dry run claims nothing.
        await asyncio.to_thread(self.ledger.check_bucket)
        options, budget = self.options, self.options.budget
        estimator = CostEstimator(self.gateway, self.ledger, options.attempt, options.policy)
        estimate = await estimator.estimate(calls)
        if budget is not None:
            budget.reserve(estimate)
        paid = (call for call in calls if call.key in estimate.generations)
        await self.landing.check_free(name for call in paid for name in names_of(call))
        destination = self.landing.destination
        return Plan(
            gateway=self.gateway.name,
            destination=destination.uri(destination.prefix),
            calls=estimate.calls,
            requested=estimate.images,
            requests=self._shown(calls, estimate),
            estimate=Estimate.of(estimate, budget, self.gateway.settings.currency),
        )

    def _shown(self, calls: Sequence[PlannedCall], estimate: CostEstimate) -> tuple[dict[str, JsonValue], ...]:
        """Return the first calls as they may be shown; of equal ones, only the first is paid."""
        seen: set[LedgerKey] = set()
        shown = []
        for call in calls[:MAX_SHOWN]:
            shown.append(self._shown_call(call, estimate, is_duplicate=call.key in seen))
            seen.add(call.key)
        return tuple(shown)

    def _shown_call(self, call: PlannedCall, estimate: CostEstimate, is_duplicate: bool) -> dict[str, JsonValue]:
        generation = estimate.generations.get(call.key)
        is_paid = generation is not None and not is_duplicate
        cost = estimate.costs[call.key].total if is_paid else Decimal(0)
        sent = self._sent(call.request, self.ledger.trace_id(call.key, generation or 1))
        return {
            **({"key": short_in_json(call.row, _NAME_BYTES)} if call.row else {}),
            "index": call.index,
            "images": call.count,
            "is_paid": is_paid,
            "cost": None if cost is None else float(cost),
            "method": sent.method,
            "url": short_in_json(address_of(str(sent.url)), _TEXT_BYTES),
            "body": self._body(sent, call.request),
        }

    def _sent(self, request: ImageRequest, trace_id: str) -> httpx.Request:
        if isinstance(request, EditRequest):
            return self.gateway.edit(request, trace_id)
        return self.gateway.submit(request, trace_id)

    def _body(self, sent: httpx.Request, request: ImageRequest) -> dict[str, JsonValue]:
        """Return a body as it may be shown; of a multipart one, the parameters."""
        # Multipart bodies hold the user's images, which belong in no XCom.
        is_json = sent.headers.get("content-type", "").startswith("application/json")
        body = json.loads(sent.content) if is_json else None
        settings = self.gateway.settings
        shown = _shown_without(
            body if isinstance(body, dict) else request.described(), [settings.token, *settings.headers.values()]
        )
        size = len(json.dumps(shown))
        return shown if size <= _BODY_BYTES else {"prompt": shown.get("prompt"), "left_out": f"a body of {size} bytes"}


def _shown_without(body: Mapping[str, Any], secrets: Iterable[str]) -> dict[str, Any]:
    """Return a body without secrets, long texts shortened."""

    def shown(value: Any) -> Any:
        if isinstance(value, str):
            return short_in_json(foreign_text(value, secrets), _TEXT_BYTES)
        if isinstance(value, Mapping):
            return {short_in_json(name, _TEXT_BYTES): shown(entry) for name, entry in value.items()}
        return [shown(entry) for entry in value] if isinstance(value, list) else value

    return {name: shown(value) for name, value in body.items() if name not in _HIDDEN}
