"""A warm process that has imported everything once, and forks a worker for every try.

Run as a program: reads a JSON list of tries per line, runs those of a line side by side, and answers how each
ended. A fork of a process without threads is a process like any other, two seconds of imports earlier.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from functools import cache

from botocore.loaders import JSONFileLoader

from airflow_provider_imagegen.client import tls_context
from tests.crash import worker
from tests.crash.tries import Try

STUCK_AFTER = 60
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


def _warm_up() -> None:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from airflow.providers.common.compat import connection  # noqa: F401

    from airflow_provider_imagegen.hooks import imagegen as hooks  # noqa: F401
    from airflow_provider_imagegen.triggers import imagegen as triggers  # noqa: F401

    tls_context(True)
    # S3's description is 0.2 s of JSON, which every new session reads again.
    load_file = cache(JSONFileLoader().load_file)
    JSONFileLoader.load_file = lambda _, path: load_file(path)
    S3Hook(aws_conn_id=None, region_name="us-east-1").get_conn()
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
        signal.alarm(int(one.operator["timeout"]) + STUCK_AFTER)
        os.read(start, 1)
        worker.run(one)
        status = 0
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
