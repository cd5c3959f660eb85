"""Links to prefixes in the AWS console, and none for other stores."""

from __future__ import annotations

import boto3
import pytest

from airflow_provider_imagegen.engine.options import JobOptions
from airflow_provider_imagegen.engine.run import GenerateRun
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.ledger.models import Attempt
from airflow_provider_imagegen.ledger.store import Ledger
from airflow_provider_imagegen.links.imagegen import console_address
from airflow_provider_imagegen.schemas import ImageRequest
from airflow_provider_imagegen.storage.destination import Destination


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
        assert console_address(endpoint, "images", "a/b") == f"{console}/s3/buckets/images?prefix=a/b/"

    @pytest.mark.parametrize(
        "endpoint", ["http://127.0.0.1:8333", "https://minio.example", "https://amazonaws.com.evil.example", ""]
    )
    def test_is_nowhere_for_other_stores(self, endpoint: str) -> None:
        assert console_address(endpoint, "images", "a/b") == ""

    def test_is_the_bucket_without_a_prefix(self) -> None:
        address = console_address("https://s3.amazonaws.com", "images", "")
        assert address == "https://console.aws.amazon.com/s3/buckets/images"

    def test_encodes_what_a_query_would_misread(self) -> None:
        address = console_address("https://s3.amazonaws.com", "images", "manual__2026-01-01T00:00:00+00:00/a&b=ü")
        assert address.endswith("?prefix=manual__2026-01-01T00%3A00%3A00%2B00%3A00/a%26b%3D%C3%BC/")

    def test_is_what_a_task_on_aws_leads_to(self) -> None:
        keys = {"aws_access_key_id": "AK", "aws_secret_access_key": "SK"}
        s3 = boto3.client("s3", region_name="eu-central-1", **keys)
        work = GenerateRun(
            request=ImageRequest(prompt="a kite"),
            settings=GatewaySettings(base_url="https://api.acedata.cloud", token="sesame-token"),
            s3=s3,
            destination=Destination(bucket="images", prefix="kites"),
            ledger=Ledger(s3, "images", "_imagegen/ledger"),
            options=JobOptions(attempt=Attempt(dag_id="d", task_id="t", run_id="r")),
        )
        s3_location = work.s3_location(None)
        assert s3_location is not None
        address = console_address(*s3_location)
        assert address == "https://console.aws.amazon.com/s3/buckets/images?prefix=kites/"
