"""Waits for tasks at a gateway: any number of waiters in one process, few lookups.

``schedule`` and ``usual_times`` decide when to look up, ``queue`` keeps the order, ``bulk_lookup`` asks and finds
out whose fault a failure is, ``waiter`` is one wait's state, ``poller`` runs it all, ``shared`` lets all waiters of
a connection use one.
"""

from airflow_provider_imagegen.polling.poller import TaskPoller
from airflow_provider_imagegen.polling.schedule import DEFAULT_POLL_INTERVAL, PollSchedule
from airflow_provider_imagegen.polling.shared import shared_poller, wait_through
from airflow_provider_imagegen.polling.waiter import Seen

__all__ = ["DEFAULT_POLL_INTERVAL", "PollSchedule", "Seen", "TaskPoller", "shared_poller", "wait_through"]
