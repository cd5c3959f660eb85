"""The requests of the S3 client, independent of the boto3 release."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_provider_imagegen.exceptions import ConfigurationError
from airflow_provider_imagegen.hooks.aws import as3_client, s3_client
from tests.conftest import BUCKET

pytestmark = pytest.mark.usefixtures("connections")


@pytest.fixture
def client() -> Any:
    return s3_client("aws_default")


class TestPuts:
    def test_do_not_ask_first_whether_they_are_wanted(self, client: Any) -> None:
        sent: list[Any] = []
        client.meta.events.register("before-send.s3", lambda request, **_: sent.append(dict(request.headers)))
        client.put_object(Bucket=BUCKET, Key="s3-client/asked", Body=b"a record")
        (headers,) = sent
        assert "Expect" not in headers
        assert "Content-Length" in headers

    def test_are_not_confused_by_responses_to_those_before(self, client: Any) -> None:
        sent: list[str] = []
        client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.method))
        put = {"Bucket": BUCKET, "Key": "s3-client/empty", "Body": b""}
        client.put_object(**put)
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.put_object(**put, IfNoneMatch="*")
        client.put_object(Bucket=BUCKET, Key="s3-client/full", Body=b"a record")
        assert client.get_object(Bucket=BUCKET, Key="s3-client/full")["Body"].read() == b"a record"
        assert sent == ["PUT", "PUT", "PUT", "GET"]


async def on_a_loop(aws_conn_id: str | None) -> Any:
    return await as3_client(aws_conn_id)


async def blocking(aws_conn_id: str | None) -> Any:
    return s3_client(aws_conn_id)


@pytest.mark.parametrize("client_of", [blocking, on_a_loop])
class TestConnection:
    @pytest.mark.parametrize("name", ["nowhere", ""])
    async def test_that_is_missing_is_refused(self, client_of: Any, name: str) -> None:
        with pytest.raises(ConfigurationError, match=f"there is no AWS connection '{name}'"):
            await client_of(name)

    async def test_by_the_default_name_may_be_missing(self, client_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AIRFLOW_CONN_AWS_DEFAULT")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://boto3s.own:1")
        assert (await client_of("aws_default")).meta.endpoint_url == "http://boto3s.own:1"
