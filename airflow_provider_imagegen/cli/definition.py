"""The commands of ``airflow imagegen``: names, arguments, help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Airflow loads this module for every command it runs, its own too: nothing heavy may be imported here.
from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, ActionCommand, Arg, GroupCommand, lazy_load_command

if TYPE_CHECKING:
    from airflow.cli.cli_config import CLICommand

DEFAULT_LEDGER_KEY = "_imagegen/ledger"
STATES = ("claimed", "waiting", "submitted", "cancelling", "answered", "landed", "failed", "unknown")

_COMMANDS = "airflow_provider_imagegen.cli.ledger_command"


def _arg(flag: str, text: str, **details: Any) -> Arg:
    return Arg((flag,), help=text, **details)  # type: ignore[no-untyped-call]


_WHERE = (
    _arg("--bucket", "Bucket of the images; the ledger stands beside them", required=True),
    _arg(
        "--ledger-key",
        f"Key prefix of the ledger, as the operators' ledger_key (default: {DEFAULT_LEDGER_KEY})",
        default=DEFAULT_LEDGER_KEY,
    ),
    _arg("--aws-conn-id", "Connection to read the bucket through (default: aws_default)", default="aws_default"),
    ARG_OUTPUT,
    ARG_VERBOSE,
)
_FILTERS = (
    _arg(
        "--state",
        "Only records in this state; unknown: claimed, and too long ago for the request to be still under way",
        metavar="(" + ", ".join(STATES) + ")",
        choices=STATES,
    ),
    _arg("--dag-id", "Only records of this Dag"),
    _arg("--run-id", "Only records of this run"),
    _arg("--task-id", "Only records of this Airflow task"),
)
_RECONCILE = (
    _arg(
        "--imagegen-conn-id",
        "Connection of the gateway to ask, the same that the tasks use (default: imagegen_default)",
        default="imagegen_default",
    ),
    _arg("--dry-run", "Ask and report, but leave the ledger as it is", action="store_true"),
)

_PRUNE = (
    _arg("--older-than", "Age since the last change, in days or hours: 365d, 8760h; at least 30d", required=True),
    _arg("--dry-run", "Count what would be deleted, and delete nothing", action="store_true"),
)

LEDGER_COMMANDS = (
    ActionCommand(
        name="list",
        help="List what was asked of gateways, billed and landed",
        description="List the ledger: one row for every request generation, and the totals on stderr. Costs nothing.",
        func=lazy_load_command(f"{_COMMANDS}.ledger_list"),
        args=(*_WHERE, *_FILTERS),
    ),
    ActionCommand(
        name="show",
        help="Show one record, and what to do about it",
        description="Show everything about one record of the ledger, and what to do next. Costs nothing.",
        func=lazy_load_command(f"{_COMMANDS}.ledger_show"),
        args=(_arg("record", "Address of a record in S3, a trace id, or the gateway's task id"), *_WHERE),
    ),
    ActionCommand(
        name="reconcile",
        help="Ask the gateway what became of open requests",
        description=(
            "Look up every request of unknown outcome by its trace id, and every submitted one by its task id.\n"
            "What the gateway has is noted in the ledger, so that the next try of the Airflow task lands it\n"
            "without paying. Lookups are free, and nothing else is ever sent."
        ),
        func=lazy_load_command(f"{_COMMANDS}.ledger_reconcile"),
        args=(*_WHERE, *_RECONCILE),
    ),
    ActionCommand(
        name="prune",
        help="Delete old records of settled requests",
        description=(
            "Delete the records of landed and failed requests, and documents of deferred and landing tasks, that\n"
            "have not changed for a time. A request whose record is deleted is paid for again if a task asks for\n"
            "it again. Records of open requests, or of unknown outcome, are kept whatever their age."
        ),
        func=lazy_load_command(f"{_COMMANDS}.ledger_prune"),
        args=(*_WHERE, *_PRUNE),
    ),
)


def get_imagegen_cli_commands() -> list[CLICommand]:
    """Return the provider's commands; Airflow finds this function through the provider's metadata."""
    ledger = GroupCommand(
        name="ledger",
        help="What was billed, landed, or may have been",
        description="Look into the ledger of image requests that stands in S3 beside the images",
        subcommands=LEDGER_COMMANDS,
    )
    return [GroupCommand(name="imagegen", help="Look after image generation", subcommands=[ledger])]
