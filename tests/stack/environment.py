"""The environment every process of a stack starts from: the caller's, without what would make runs differ."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

CACHE = ROOT / ".cache"
"""The directory for caches, which can be deleted at any time."""

# Credentials and settings of the caller's own Airflow, AWS account and gateway have no say in a stack.
_FOREIGN = ("AIRFLOW_", "AWS_", "IMAGEGEN_", "PG")
_LOOPBACK = "127.0.0.1,localhost"


def child_environment() -> dict[str, str]:
    """
    Make the environment that all processes of a stack share.

    :return: a new dict; Airflow's bytecode goes to a cache of this checkout, for it starts twice as fast with it
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    kept.setdefault("PYTHONPYCACHEPREFIX", str(CACHE / "pycache"))
    kept["PYTHONUNBUFFERED"] = "1"
    kept["AWS_EC2_METADATA_DISABLED"] = "true"
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = ",".join(filter(None, [kept.get(name), _LOOPBACK]))
    return kept
