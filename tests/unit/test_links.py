"""Where AWS's console shows a prefix, and that no other store's is claimed to be there."""

from __future__ import annotations

import boto3
import pytest

from airflow_provider_imagegen.connection import GatewaySettings
from airflow_provider_imagegen.job import Terms
from airflow_provider_imagegen.landing import Destination
from airflow_provider_imagegen.ledger import Attempt, Ledger
from airflow_provider_imagegen.links.imagegen import console_address
from airflow_provider_imagegen.operators.work import Work
from airflow_provider_imagegen.schemas import ImageRequest


class TestConsole:
    @pytest.mark.parametrize(
        ("endpoint", "console"),
        [
            ("https://s3.amazonaws.com", "https://console.aws.amazon.com"),
            ("https://s3.eu-central-1.amazonaws.com", "https://console.aws.amazon.com"),
            ("https://vpce-1.s3.us-east-1.vpce.amazonaws.com", "https://console.aws.amazon.com"),
            ("https://s3.cn-north-1.amazonaws.com.cn", "https://console.amazonaws.cn"),
            ("https://s3.us-gov-west-1.amazonaws.com", "https://console.amazonaws-us-gov.com"),
        ],
    )
    def test_is_that_of_the_partition(self, endpoint: str, console: str) -> None:
        assert console_address(endpoint, "pictures", "a/b") == f"{console}/s3/buckets/pictures?prefix=a/b/"

    @pytest.mark.parametrize(
        "endpoint", ["http://127.0.0.1:8333", "https://minio.example", "https://amazonaws.com.evil.example", ""]
    )
    def test_is_nowhere_for_other_stores(self, endpoint: str) -> None:
        assert console_address(endpoint, "pictures", "a/b") == ""

    def test_is_the_bucket_without_a_prefix(self) -> None:
        address = console_address("https://s3.amazonaws.com", "pictures", "")
        assert address == "https://console.aws.amazon.com/s3/buckets/pictures"

    def test_encodes_what_a_query_would_misread(self) -> None:
        address = console_address("https://s3.amazonaws.com", "pictures", "manual__2026-01-01T00:00:00+00:00/a&b=ü")
        assert address.endswith("?prefix=manual__2026-01-01T00%3A00%3A00%2B00%3A00/a%26b%3D%C3%BC/")

    def test_is_what_a_task_on_aws_leads_to(self) -> None:
        keys = {"aws_access_key_id": "AK", "aws_secret_access_key": "SK"}
        s3 = boto3.client("s3", region_name="eu-central-1", **keys)
        work = Work(
            request=ImageRequest(prompt="a kite"),
            settings=GatewaySettings(base_url="https://api.acedata.cloud", token="sesame-token"),
            s3=s3,
            destination=Destination(bucket="pictures", prefix="kites"),
            ledger=Ledger(s3, "pictures", "_imagegen/ledger"),
            terms=Terms(attempt=Attempt(dag_id="d", task_id="t", run_id="r")),
        )
        whereabouts = work.whereabouts(None)
        assert whereabouts is not None
        address = console_address(*whereabouts)
        assert address == "https://console.aws.amazon.com/s3/buckets/pictures?prefix=kites/"
