"""Waits for tasks at a gateway: any number of waiters in one process, few look-ups.

``schedule`` and ``usual_times`` decide when to look, ``due_times`` keeps the order, ``look_ups`` asks and finds
out whose fault a failure is, ``waiter`` is one wait's state, ``task_watcher`` runs it all, ``shared`` lets all
waiters of a connection use one.
"""

from airflow_provider_imagegen.watcher.schedule import DEFAULT_POLL_INTERVAL, PollSchedule
from airflow_provider_imagegen.watcher.shared import shared_watcher, wait_through
from airflow_provider_imagegen.watcher.task_watcher import TaskWatcher
from airflow_provider_imagegen.watcher.waiter import Seen

__all__ = ["DEFAULT_POLL_INTERVAL", "PollSchedule", "Seen", "TaskWatcher", "shared_watcher", "wait_through"]
