"""What ``airflow imagegen`` offers: names, arguments, help.

Airflow loads it for every command it runs, its own too, so nothing heavy is imported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, ActionCommand, Arg, GroupCommand, lazy_load_command

if TYPE_CHECKING:
    from airflow.cli.cli_config import CLICommand

DEFAULT_LEDGER_KEY = "_imagegen/ledger"
STATES = ("claimed", "submitted", "cancelling", "answered", "landed", "failed", "unknown")

_COMMANDS = "airflow_provider_imagegen.cli.ledger_command"


def _arg(flag: str, **details: Any) -> Arg:
    return Arg((flag,), **details)  # type: ignore[no-untyped-call]


_BUCKET = _arg("--bucket", help="Bucket of the images; the ledger stands beside them", required=True)
_LEDGER_KEY = _arg(
    "--ledger-key",
    help=f"Key prefix of the ledger, as the operators' ledger_key (default: {DEFAULT_LEDGER_KEY})",
    default=DEFAULT_LEDGER_KEY,
)
_AWS_CONN_ID = _arg(
    "--aws-conn-id", help="Connection to read the bucket through (default: aws_default)", default="aws_default"
)
_IMAGEGEN_CONN_ID = _arg(
    "--imagegen-conn-id",
    help="Connection of the gateway to ask, the same that the tasks use (default: imagegen_default)",
    default="imagegen_default",
)
_DRY_RUN = _arg("--dry-run", help="Ask and tell, but leave the ledger as it is", action="store_true")
_STATE = _arg(
    "--state",
    help="Only records in this state; unknown: claimed, and too long ago for the request to be still on its way",
    metavar="(" + ", ".join(STATES) + ")",
    choices=STATES,
)
_DAG_ID = _arg("--dag-id", help="Only records of this Dag")
_RUN_ID = _arg("--run-id", help="Only records of this run")
_TASK_ID = _arg("--task-id", help="Only records of this Airflow task")
_RECORD = _arg("record", help="Address of a record in S3, a trace id, or the gateway's task id")

_WHERE = (_BUCKET, _LEDGER_KEY, _AWS_CONN_ID, ARG_OUTPUT, ARG_VERBOSE)

LEDGER_COMMANDS = (
    ActionCommand(
        name="list",
        help="List what was asked of gateways, billed and landed",
        description="List the ledger: one row for every request generation, and the totals on stderr. Costs nothing.",
        func=lazy_load_command(f"{_COMMANDS}.ledger_list"),
        args=(*_WHERE, _STATE, _DAG_ID, _RUN_ID, _TASK_ID),
    ),
    ActionCommand(
        name="show",
        help="Show one record, and what to do about it",
        description="Show everything about one record of the ledger, and what to do next. Costs nothing.",
        func=lazy_load_command(f"{_COMMANDS}.ledger_show"),
        args=(_RECORD, *_WHERE),
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
        args=(*_WHERE, _IMAGEGEN_CONN_ID, _DRY_RUN),
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
