"""``airflow imagegen ledger list, show, reconcile, prune``: reads S3, asks the gateway for free, prints; never pays."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING

from airflow.cli.simple_table import AirflowConsole
from airflow.utils.cli import suppress_logs_and_warning
from airflow.utils.providers_configuration_loader import providers_configuration_loaded

from airflow_provider_imagegen.cli import advice, tables
from airflow_provider_imagegen.cli.advice import AskedGateway, LookupOutcome
from airflow_provider_imagegen.cli.prune import Pruner, seconds_of
from airflow_provider_imagegen.cli.records import Location, StoredRecord, locations, read
from airflow_provider_imagegen.exceptions import DestinationError, ImageGenError, LedgerConflict, LedgerError
from airflow_provider_imagegen.gateways import registered_gateways
from airflow_provider_imagegen.gateways.base import Capabilities, Handle
from airflow_provider_imagegen.hooks.aws import s3_client
from airflow_provider_imagegen.hooks.imagegen import ImageGenHook
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.schemas import ImageTask

if TYPE_CHECKING:
    from airflow_provider_imagegen.gateways.client import ImageClient

Command = Callable[[Namespace], None]


def _for_people(command: Command) -> Command:
    """Make errors one line and an exit status, and connections readable that stand in Airflow's database."""

    @suppress_logs_and_warning
    @providers_configuration_loaded
    @wraps(command)
    def run(args: Namespace) -> None:
        # As Airflow's own connection commands do; without it only environment and secrets backends are asked.
        os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
        try:
            command(args)
        except ImageGenError as error:
            fault = error
            if isinstance(error, LedgerError):
                # Its advice is for tasks: a command pays for nothing, and nobody retries it.
                fault = DestinationError(error.message, advice="Check --bucket and --aws-conn-id.")
            raise SystemExit(" ".join(str(fault).split())) from None

    return run


@_for_people
def ledger_list(args: Namespace) -> None:
    """List records, and their totals on stderr."""
    ledger, where = _open(args)
    records, unreadable = read(ledger, where)
    now = time.time()
    listed = [tables.row(stored, _usual(stored.record.gateway), now) for stored in records]
    wanted = {name: getattr(args, name) for name in ("state", "dag_id", "run_id", "task_id")}
    listed = [row for row in listed if all(value is None or row[name] == value for name, value in wanted.items())]
    _print(listed, args.output)
    _write_to_stderr(tables.totals(listed))
    _stop_if_any(unreadable)


@_for_people
def ledger_show(args: Namespace) -> None:
    """Show one record, with what to do next."""
    ledger, where = _open(args)
    # An address needs no other record to be read.
    records, unreadable = read(
        ledger, [location for location in where if _is_address_of(args.record, location)] or where
    )
    now = time.time()
    shown = [
        tables.details(stored, _usual(stored.record.gateway), now)
        for stored in records
        if args.record in (stored.record.trace_id, stored.record.task_id)
        or _is_address_of(args.record, stored.location)
    ]
    if not shown:
        _stop_if_any(unreadable)
        uri = f"s3://{ledger.bucket}/{ledger.prefix}"
        raise SystemExit(f"No record with address, trace id or task id {args.record!r} among {len(where)} in {uri}.")
    if args.output in ("json", "yaml"):
        _print(shown, args.output)
        return
    for one in shown:
        _print([{"property": name, "value": value} for name, value in one.items()], args.output)


@_for_people
def ledger_reconcile(args: Namespace) -> None:
    """Ask the gateway about open records, and note what it has."""
    ledger, where = _open(args)
    client = ImageGenHook(args.imagegen_conn_id).get_conn()
    asked = AskedGateway(
        name=client.gateway.name,
        capabilities=client.gateway.capabilities,
        timeout=client.timeout,
        visibility_grace=client.settings.visibility_grace,
        base_url=client.settings.base_url,
        account=client.settings.account_digest,
    )
    records, unreadable = read(ledger, where)
    now = time.time()
    opened = [stored for stored in records if stored.record.state not in ("landed", "failed")]
    seen = asyncio.run(_look_up(client, opened, asked, now))
    reported = []
    for stored in opened:
        outcome = advice.outcome_of(stored, seen.get(stored.location), asked, now)
        noted = _noted(ledger, stored, outcome, args.dry_run)
        reported.append(tables.reconciled(stored.record, outcome, noted))
    _print(reported, args.output)
    _write_to_stderr(tables.reconciliation(len(seen), reported, client.settings.name, args.dry_run))
    _stop_if_any(unreadable)


@_for_people
def ledger_prune(args: Namespace) -> None:
    """Delete what is old and settled, and count it."""
    try:
        older_than = seconds_of(args.older_than)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    s3 = s3_client(args.aws_conn_id or None)
    ledger = Ledger(s3, args.bucket, args.ledger_key)
    results = Pruner(ledger, s3, older_than, time.time(), args.dry_run).prune()
    _print(tables.pruned(results), args.output)
    _write_to_stderr(tables.pruning(results, args.dry_run))


def _open(args: Namespace) -> tuple[Ledger, list[Location]]:
    """Return the ledger that a command is about, and where its records stand."""
    ledger = Ledger(s3_client(args.aws_conn_id or None), args.bucket, args.ledger_key)
    return ledger, locations(ledger)


def _usual(gateway: str) -> AskedGateway:
    """Return what asking a gateway can bring where no connection says more."""
    known = registered_gateways().get(gateway)
    if known is None:
        return AskedGateway(name=gateway, capabilities=Capabilities(), timeout=0.0)
    return AskedGateway(name=gateway, capabilities=known.capabilities, timeout=known.timeout)


def _is_address_of(text: str, location: Location) -> bool:
    return text == location.uri or location.uri.endswith(f"/{text.removesuffix('.json')}.json")


async def _look_up(
    client: ImageClient, opened: Sequence[StoredRecord], asked: AskedGateway, now: float
) -> dict[Location, ImageTask]:
    """Look records up in bulk; return what was seen of those that can be."""
    handles: dict[Handle, dict[Location, str]] = {"trace_id": {}, "id": {}}
    for stored in opened:
        how = advice.asked_how(stored, asked, now)
        if how != "not":
            handles[how][stored.location] = stored.record.trace_id if how == "trace_id" else stored.record.task_id or ""
    seen: dict[Location, ImageTask] = {}
    async with client:
        for by, wanted in handles.items():
            tasks = await client.look_up(list(wanted.values()), by)
            seen |= {location: tasks[handle] for location, handle in wanted.items()}
    return seen


def _noted(ledger: Ledger, stored: StoredRecord, outcome: LookupOutcome, is_dry_run: bool) -> str:
    """Note what was found, unless somebody else was faster; return what became of it."""
    state = str(outcome.changes.get("state", ""))
    if state and is_dry_run:
        return f"would be {state}"
    if not state:
        return ""
    try:
        ledger.update(stored.location.key, stored.entry, updated_at=time.time(), **outcome.changes)
    except LedgerConflict:
        return "no, another try was faster"
    except LedgerError as error:
        return f"no: {error.message}"
    return state


def _print(rows: Sequence[tables.Row], output: str) -> None:
    # What stands in a record is foreign: to the console it is neither markup nor an emoji.
    AirflowConsole(markup=False, emoji=False).print_as([tables.printable(row) for row in rows], output)


def _write_to_stderr(text: str) -> None:
    # Not among the rows: --output json is piped on.
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n")


def _stop_if_any(unreadable: Sequence[str]) -> None:
    # After the rest was shown: one record must not hide the others, and must not be taken for absent.
    if unreadable:
        words = f"{len(unreadable)} record(s) cannot be understood, so nothing is known of them"
        raise SystemExit(f"{words}: {', '.join(map(tables.printable, unreadable))}")
