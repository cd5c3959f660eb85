"""
``python -m tests.fuzz``: parse damaged images and responses until the time is up or a parser crashes.

Exit status: 0 if every case ended as it may, 1 if one did not; that one is saved.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.campaign import Campaign, Finding
from tests.fuzz.targets import SHARES, TARGETS

SAVED = Path(".cache/fuzz")


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Fuzz as the command line asks.

    :return: exit status
    """
    given = _parser().parse_args(arguments)
    warnings.simplefilter("error")
    if given.again is not None:
        return _run_again(given.again)
    campaign = Campaign(given.seed, {name: SHARES[name] for name in given.target or SHARES})
    print(f"Seed {campaign.seed}", flush=True)
    try:
        if given.case is not None:
            campaign.run_case(given.case)
        elif given.cases is not None:
            campaign.run(lambda cases, _: cases < given.cases)
        else:
            campaign.run(lambda _, seconds: seconds < given.seconds)
    except KeyboardInterrupt:
        print("Interrupted")
    _report(campaign)
    return 0 if campaign.finding is None else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=600, help="how long (default: 600)")
    add("--cases", type=int, help="how many cases, instead of how long")
    add("--seed", type=int, default=secrets.randbelow(1 << 32), help="of all cases")
    add("--target", action="append", choices=SHARES, help="fuzz only this, and what else is named (default: all)")
    add("--case", type=int, help="run only this case of the seed, and of the targets")
    add("--again", type=Path, help="run a case that was saved")
    return parser


def _report(campaign: Campaign) -> None:
    for (target, outcome), count in sorted(campaign.outcomes.items()):
        print(f"  {target:<14} {outcome:<32} {count:>9}")
    print(f"{campaign.cases} cases, {campaign.cases / max(campaign.seconds, 0.001):.0f} a second")
    if campaign.finding is not None:
        print(campaign.finding)
        print(f"Saved: {_save(campaign.finding)}")


def _save(finding: Finding) -> Path:
    SAVED.mkdir(parents=True, exist_ok=True)
    path = SAVED / f"{finding.target}.{finding.seed}.{finding.number}"
    path.write_bytes(finding.case)
    return path


def _run_again(path: Path) -> int:
    target = TARGETS[path.name.partition(".")[0]]
    print(target.run(path.read_bytes()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
