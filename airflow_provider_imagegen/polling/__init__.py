"""Waiting for tasks at a gateway: any number of waiters in one process, few lookups.

**One lookup for all.** A thousand deferred tasks on one connection are ten requests of a hundred ids per tick, not a
thousand requests with a client and a TLS context each. Airflow has no means to share work between triggers (its shared
streams are for asset watchers only), so ``shared`` keeps one poller for every event loop and connection.

**A grid of ticks.** Lookups can be shared only if they are due at the same moment. Timers that merely fire close to
each other do not suffice: on a slow machine each waiter drifts by the time its neighbours take, and the requests of a
tick grow with the number of waiters. All but the first lookup after a pause lie on one grid, whatever the speed of
the event loop is.

**Polling only reads.** A triggerer dies with every deploy, and a trigger may run twice, so nothing here submits,
cancels, or writes the ledger, and every await may be the last. The worker looks again on its own before it lands: the
scheduler may resume a task early (https://github.com/apache/airflow/issues/65248). There is one trigger for a whole
wait, because a new deferral for every poll leaks memory in the triggerer
(https://github.com/apache/airflow/issues/65560).

**A failed lookup is not a failed task.** The task goes on at the gateway and its ledger record stays, so a failure
here costs time and never money. Ending the wait at the first failure would use up a retry of the Airflow task;
submitting again would pay twice.

====================================  =================================================================================
timeout, reset, HTTP 5xx              The pause doubles with every failure; the wait goes on until its deadline.
HTTP 429                              Likewise; if the gateway names a time, the whole connection pauses.
HTTP 400, 404, 413, 414, 422          One id may be the reason: the ids are halved until it is found (``bulk_lookup``).
HTTP 401                              All waiters end; the connection is read again once, then it is an error.
HTTP 403                              Only the task that the token may not see is lost to its waiter.
unreadable response                   Tolerated a few times in a row for each waiter, then an error with an excerpt.
the gateway shows no such task        Pending during ``visibility_grace``, then ``lost``; never submitted again.
====================================  =================================================================================

**Waiting for a slot is queued.** A gateway without a free slot refuses a request, and the Airflow task defers without
having submitted it. Such tasks form one queue for each connection; for each task that the poller sees end, one of them
resumes (``slots``).

``schedule`` decides when to look up and does nothing else, ``bulk_lookup`` sends a request and finds out which id is
at fault, ``poller`` holds timers and waiters, ``shared`` lends the poller of a connection.
"""

from airflow_provider_imagegen.polling.poller import Seen, TaskPoller
from airflow_provider_imagegen.polling.schedule import DEFAULT_POLL_INTERVAL, PollSchedule
from airflow_provider_imagegen.polling.shared import shared_poller, wait_for_slot, wait_through

__all__ = [
    "DEFAULT_POLL_INTERVAL",
    "PollSchedule",
    "Seen",
    "TaskPoller",
    "shared_poller",
    "wait_for_slot",
    "wait_through",
]
