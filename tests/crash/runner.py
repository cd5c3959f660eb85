"""A warm process that has imported everything once, and forks a worker for every try.

Run as a program: reads a JSON list of tries per line, runs those of a line side by side, and answers how each
ended. A fork of a process without threads is a process like any other, two seconds of imports earlier.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import traceback
from importlib import import_module

from PIL import Image

from airflow_provider_imagegen.gateways import registered_gateways
from airflow_provider_imagegen.gateways.client import tls_context
from tests.crash import worker
from tests.crash.tries import Try
from tests.stack.read_once import share_descriptions
from tests.stack.waiting import HANG

STUCK_AFTER = HANG / 2
"""Seconds past its own deadline after which a try is taken for stuck and ended."""


def main() -> None:
    _warm_up()
    print("ready", flush=True)
    for line in sys.stdin:
        tries = [Try.from_json(fields) for fields in json.loads(line)]
        start, release = os.pipe()
        children = [_fork(one, start, release) for one in tries]
        # All wait for the end of this pipe, so that a race has a starting gun.
        os.close(release)
        os.close(start)
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)


IMPORTED_LATE = (
    "airflow.providers.common.compat.connection",
    "airflow.sdk.execution_time.supervisor",
    "airflow_provider_imagegen.hooks.imagegen",
    "airflow_provider_imagegen.ledger.documents",
    "airflow_provider_imagegen.engine.receipts",
    "airflow_provider_imagegen.triggers.imagegen",
    "anyio._backends._asyncio",
)
"""Modules that a try imports late."""


def _warm_up() -> None:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    for name in IMPORTED_LATE:
        import_module(name)
    registered_gateways()
    tls_context(True)
    Image.preinit()
    share_descriptions()
    S3Hook(aws_conn_id=None, region_name="us-east-1").get_conn()
    # Collecting garbage would write to every page that a fork shares with its parent.
    gc.freeze()
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(f"{threads} threads before the fork")


def _fork(one: Try, start: int, release: int) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.close(release)
        log = os.open(one.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        signal.alarm(int(one.operator["timeout"] + STUCK_AFTER))
        os.read(start, 1)
        worker.run_try(one)
        status = 0
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
