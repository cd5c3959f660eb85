"""Collect XComs and S3 objects for the audit after the experiment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tests.chaos.audit import Delivery
from tests.chaos.workload import DAG_ID, SOURCE, TASK
from tests.stack.stack import Stack

LEDGER = "_imagegen/ledger/"
"""The default ledger key."""


class Evidence:
    """
    What a stack holds.

    :param stack: a running one
    """

    def __init__(self, stack: Stack) -> None:
        self._airflow = stack.client
        self._s3 = stack.objectstore.client()
        self._bucket = stack.objectstore.bucket

    def deliveries(self, run_ids: Sequence[str]) -> list[Delivery]:
        """
        Read what the tasks of some runs were asked for, and their manifests.

        :param run_ids: the runs
        """
        return [
            Delivery(f"{run_id}[{index}]", request["prompt"], request["n"], self._xcom(run_id, TASK, index))
            for run_id in run_ids
            for index, request in enumerate(self._xcom(run_id, SOURCE, -1) or [])
        ]

    def records(self) -> dict[str, Mapping[str, Any]]:
        """Read the provider's ledger as it lies in S3, by key."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=LEDGER)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {key: json.loads(self._content(self._bucket, key)) for key in keys if key.endswith(".json")}

    def has_stored(self, image: Mapping[str, Any]) -> bool:
        """
        Tell whether an image is in S3, byte for byte.

        :param image: as its manifest describes it
        """
        try:
            content = self._content(image["bucket"], image["key"])
        except self._s3.exceptions.NoSuchKey:
            return False
        return hashlib.sha256(content).hexdigest() == str(image["sha256"])

    def _content(self, bucket: str, key: str) -> bytes:
        return self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def _xcom(self, run_id: str, task_id: str, map_index: int) -> Any:
        try:
            return self._airflow.xcom(DAG_ID, run_id, task_id, map_index=map_index)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise
