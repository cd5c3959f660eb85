"""
``python -m tests.public``: store the current public API; refuse incompatible changes without ``--breaking``.

Exit status: 0 if stored, 1 if something would break.
"""

from __future__ import annotations

import argparse
import os
import sys

# The defaults in the files are those of an unconfigured Airflow.
os.environ.pop("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", None)

from tests.public.files import breaks, current, text_of


def main() -> int:
    """
    Store, or tell why not.

    :return: exit status
    """
    parser = argparse.ArgumentParser(prog="python -m tests.public", description=__doc__)
    parser.add_argument("--breaking", action="store_true", help="store it although it breaks what was public")
    given = parser.parse_args()
    found = list(breaks())
    print(*found, sep="\n")
    if found and not given.breaking:
        print("Not stored. If it is meant: --breaking, and a line in CHANGELOG.md.")
        return 1
    for path, content in current().items():
        path.write_text(text_of(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
