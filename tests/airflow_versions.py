"""Pytest marks for tests that need a newer Airflow."""

from __future__ import annotations

import airflow
import pytest
from packaging.version import Version

AIRFLOW = Version(airflow.__version__)

AUDIT_LOG_MASKS = Version("3.3") <= AIRFLOW
"""True if the audit log masks the values of connections and variables."""

needs_provider_commands = pytest.mark.skipif(
    Version("3.2") > AIRFLOW, reason="before Airflow 3.2 providers have no commands"
)
needs_declared_forms = pytest.mark.skipif(
    Version("3.2") > AIRFLOW, reason="before Airflow 3.2 forms are made by code of the hook"
)
needs_shared_triggers = pytest.mark.skipif(
    Version("3.2") > AIRFLOW, reason="before Airflow 3.2 a triggerer takes all triggers that it has room for"
)
needs_forms_without_hooks = pytest.mark.skipif(
    Version("3.3") > AIRFLOW, reason="before Airflow 3.3 hooks are imported for forms that are declared too"
)
needs_forwarded_stop = pytest.mark.skipif(
    Version("3.3") > AIRFLOW, reason="before Airflow 3.3 a supervisor that is told to stop ends without its task"
)
needs_trigger_on_kill = pytest.mark.skipif(
    Version("3.3") > AIRFLOW, reason="before Airflow 3.3 a trigger is not notified that its task was killed"
)
