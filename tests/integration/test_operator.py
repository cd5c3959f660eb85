"""The operator in a DAG, against the emulator and a real S3 server."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

import httpx
import pytest
from PIL import Image

from airflow_provider_imagegen.emulator.server import RunningEmulator
from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.gateways import registered_gateways
from airflow_provider_imagegen.gateways.acedatacloud import AceDataCloudGateway
from airflow_provider_imagegen.operators.imagegen import GenerateImageOperator
from airflow_provider_imagegen.schemas import Failure, ImageTask, Manifest
from tests.conftest import BUCKET
from tests.integration.conftest import Outcome, released_when, returned, set_connection
from tests.stack.object_store import ObjectStore
from tests.stack.waiting import wait_until

RunTask = Callable[..., Outcome]


class TestOneImage:
    def test_lands_in_s3_as_the_manifest_says(
        self, run_task: RunTask, emulator: RunningEmulator, object_store: ObjectStore
    ) -> None:
        emulator.change(image_bytes=None)
        outcome = run_task(size="1536x1024", s3_key="kites")
        assert outcome.state == "success"
        (image,) = outcome.manifest["images"]
        stored = object_store.client().get_object(Bucket=BUCKET, Key="kites/0.png")
        body = stored["Body"].read()
        assert image["uri"] == f"s3://{BUCKET}/kites/0.png"
        assert image["sha256"] == hashlib.sha256(body).hexdigest()
        assert (image["bytes"], image["etag"]) == (len(body), stored["ETag"].strip('"'))
        assert (image["width"], image["height"]) == Image.open(io.BytesIO(body)).size == (1536, 1024)
        assert stored["ContentType"] == image["content_type"] == "image/png"
        assert stored["Metadata"]["model"] == "gpt-image-1"
        assert stored["Metadata"]["task-id"] == image["task_id"]
        assert emulator.totals()["billed_images"] == 1

    def test_manifest_counts_and_stands_in_s3_too(self, run_task: RunTask, object_store: ObjectStore) -> None:
        outcome = run_task(n=3)
        manifest = outcome.manifest
        assert (manifest["requested"], manifest["delivered"], manifest["billed"], manifest["reused"]) == (3, 3, 3, 0)
        assert [image["index"] for image in manifest["images"]] == [0, 1, 2]
        assert manifest["failures"] == []
        key = manifest["manifest_uri"].removeprefix(f"s3://{BUCKET}/")
        stored = object_store.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert manifest["images"][2]["sha256"].encode() in stored

    @pytest.mark.parametrize(("output_format", "extension"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")])
    def test_extension_and_type_follow_the_bytes(
        self, run_task: RunTask, emulator: RunningEmulator, output_format: str, extension: str
    ) -> None:
        emulator.change(image_bytes=None)
        (image,) = run_task(output_format=output_format).manifest["images"]
        assert image["key"].endswith(f"/0.{extension}")
        assert image["content_type"] == f"image/{output_format}"

    def test_waits_in_the_worker_where_deferring_is_off(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        with released_when(emulator, lambda totals: totals["lookups"] >= 2, "two lookups"):
            outcome = run_task(deferrable=False, poll_interval=0.1)
        assert outcome.state == "success"
        assert "Deferred" not in outcome.log

    def test_defers_and_resumes_when_it_takes_longer_than_the_grace(
        self, run_task: RunTask, emulator: RunningEmulator, held_until_deferred: Callable[..., None]
    ) -> None:
        held_until_deferred()
        outcome = run_task(poll_interval=0.2)
        assert outcome.state == "success"
        assert "Deferred: 1 task(s)" in outcome.log
        assert emulator.totals()["billed_images"] == 1

    def test_s3_key_may_be_a_whole_address(self, run_task: RunTask) -> None:
        outcome = run_task(s3_bucket=None, s3_key=f"s3://{BUCKET}/whole/address/")
        assert outcome.manifest["images"][0]["key"] == "whole/address/0.png"


class TestModeration:
    def test_fails_at_once_by_default(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        outcome = run_task(prompt="[[moderation]]", retries=3)
        assert outcome.state == "failed"
        assert emulator.totals()["submits"] == 1

    def test_skips_where_asked_to(self, run_task: RunTask) -> None:
        assert run_task(prompt="[[moderation]]", on_moderation="skip").state == "skipped"

    @pytest.mark.parametrize("kind", ["refuse", "fail"])
    @pytest.mark.parametrize("code", ["contentFilter", "content_filter"])
    def test_is_known_by_azures_codes_too(
        self, run_task: RunTask, emulator: RunningEmulator, kind: str, code: str
    ) -> None:
        emulator.arm("submit", kind, code=code, **({"status": 400} if kind == "refuse" else {}))
        assert run_task(on_moderation="skip").state == "skipped"


class TestFailure:
    """The XCom of a failed task, which the gallery and other tasks can read."""

    def test_tells_the_reason_and_whether_it_was_billed(self, run_task: RunTask) -> None:
        outcome = run_task(prompt="[[moderation]]", retries=0)
        # The text ends the log, and not below the frames of retries and event loops.
        assert "ModerationBlocked: the gateway gave up" in outcome.log
        assert "asyncio" not in outcome.log
        failure = Manifest.model_validate(returned(outcome.dag_id, "generate", key="failure"))
        assert (failure.gateway, failure.model, failure.images) == ("acedatacloud", "gpt-image-1", ())
        (missing,) = failure.failures
        assert (missing.code, missing.kind, missing.billed) == ("moderation_blocked", "ModerationBlocked", "no")
        assert failure.manifest_uri == ""

    def test_tells_of_a_skip_too(self, run_task: RunTask) -> None:
        outcome = run_task(prompt="[[moderation]]", on_moderation="skip")
        assert returned(outcome.dag_id, "generate", key="failure")["failures"][0]["code"] == "moderation_blocked"

    def test_tells_what_landed_in_spite_of_it(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        emulator.arm("submit", "fail", code="api_error", times=1)
        outcome = run_task(n=2, retries=0)
        assert outcome.state == "failed"
        failure = Manifest.model_validate(returned(outcome.dag_id, "generate", key="failure"))
        assert (failure.delivered, failure.billed) == (1, 1)
        assert [missing.code for missing in failure.failures] == ["api_error"]

    def test_tells_what_was_wrong_before_anything_was_sent(self, run_task: RunTask) -> None:
        outcome = run_task(size="1x1", model="dall-e-3")
        failure = Failure.model_validate(returned(outcome.dag_id, "generate", key="failure"))
        (missing,) = failure.failures
        assert (failure.model, missing.code, missing.billed) == ("dall-e-3", "InvalidRequest", "no")

    def test_reports_an_unexpected_error(self, run_task: RunTask, monkeypatch: pytest.MonkeyPatch) -> None:
        class BrokenOperator(GenerateImageOperator):
            """As a defect would break it."""

            def _make_run(self, context: Any, is_resuming: bool = False) -> Any:
                raise ZeroDivisionError("by token=sesame-open-sesame at https://h/x?sig=1")

        outcome = run_task(operator=BrokenOperator)
        (missing,) = returned(outcome.dag_id, "generate", key="failure")["failures"]
        assert (missing["code"], missing["billed"]) == ("ZeroDivisionError", "no")
        assert "sig=1" not in missing["message"]

    def test_of_an_unexpected_kind_may_be_billed_once_something_is_claimed(
        self, run_task: RunTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class BrokenGateway(AceDataCloudGateway):
            """As a defect in a third party's gateway would break it."""

            def read_submitted(self, response: httpx.Response) -> ImageTask:
                raise ZeroDivisionError

        monkeypatch.setitem(registered_gateways(), "acedatacloud", BrokenGateway)
        outcome = run_task()
        (missing,) = returned(outcome.dag_id, "generate", key="failure")["failures"]
        assert (missing["code"], missing["billed"]) == ("ZeroDivisionError", "unknown")

    def test_is_gone_after_a_success(self, run_task: RunTask) -> None:
        assert returned(run_task().dag_id, "generate", key="failure") is None


class TestChoices:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("reuse", "sometimes"),
            ("on_clear", "again"),
            ("on_unknown", "guess"),
            ("on_partial", "maybe"),
            ("encrypt", "yes"),
            ("replace", 1),
            ("cache_control", "no\ncache"),
            ("on_moderation", "ignore"),
            ("poll_interval", 0),
            ("timeout", -1),
            ("remember_refusals", -1),
            ("timeout", float("inf")),
            ("callback_url", ["https://hook.example"]),
            ("budget", -1),
            ("budget", [1]),
            ("validate_only", "perhaps"),
        ],
    )
    def test_are_refused_when_the_dag_is_parsed(self, name: str, value: object) -> None:
        arguments: dict[str, Any] = {"task_id": "t", "prompt": "p", "s3_bucket": BUCKET, name: value}
        with pytest.raises(InvalidRequest, match=name):
            GenerateImageOperator(**arguments)

    def test_timeout_may_be_a_timedelta(self) -> None:
        operator = GenerateImageOperator(task_id="t", prompt="p", s3_bucket=BUCKET, timeout=timedelta(minutes=2))
        assert operator.timeout == 120.0


class TestKilled:
    def test_logs_what_keeps_running_at_the_gateway(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        emulator.hold()

        class KilledOperator(GenerateImageOperator):
            """Killed while it waits, as a signal would."""

            def execute(self, context: Any) -> Any:
                killer = threading.Thread(target=self._kill)
                killer.start()
                try:
                    return super().execute(context)
                finally:
                    killer.join()

            def _kill(self) -> None:
                wait_until(lambda: emulator.totals()["lookups"], what="the first lookup")
                self.on_kill()
                emulator.release()

        outcome = run_task(operator=KilledOperator, deferrable=False)
        assert "keeps running at the gateway and is billed" in outcome.log

    def test_before_it_began_has_nothing_to_cancel(self, emulator: RunningEmulator) -> None:
        GenerateImageOperator(task_id="t", prompt="p", s3_bucket=BUCKET).on_kill()
        assert emulator.totals()["submits"] == 0


class TestLog:
    def test_why_nothing_happens(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        emulator.arm("submit", "refuse", code="rate_limited", status=429, times=1)
        # Deferrable, it would try again only if its pause is over within a second.
        outcome = run_task(deferrable=False)
        assert outcome.state == "success"
        assert "Image 0 was not accepted, trying again in" in outcome.log

    def test_what_would_be_done(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        outcome = run_task(n=2, validate_only=True)
        assert "Dry run, nothing was sent: 2 call(s) for 2 image(s) at acedatacloud, to s3://" in outcome.log
        assert "to be paid: unknown, at least 0 USD" in outcome.log
        assert emulator.totals()["submits"] == 0

    def test_log_is_short_and_complete(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        outcome = run_task(prompt="a very long prompt " * 40)
        ours = [record.getMessage() for record in outcome.records if "imagegen" in record.name]
        assert [line.split()[0].rstrip(":") for line in ours] == ["Validated", "Submitted", "Finished", "Landed"]
        assert not any("a very long prompt " * 5 in line for line in ours)
        assert emulator.token not in outcome.log
        assert "sig=" not in outcome.log


class TestMoney:
    PRICES: ClassVar[dict[str, Any]] = {"prices": {"gpt-image-1": {"per_image": "0.04"}}}

    @pytest.fixture
    def prices(self, emulator: RunningEmulator, connections: None, monkeypatch: pytest.MonkeyPatch) -> None:
        usual = {"conn_type": "imagegen", "host": emulator.base_url, "password": emulator.token}
        set_connection(monkeypatch, "imagegen_default", **usual, extra={"gateway": "acedatacloud", **self.PRICES})

    @pytest.mark.usefixtures("prices")
    def test_cost_is_in_the_xcom_as_numbers(self, run_task: RunTask) -> None:
        manifest = run_task(n=2).manifest
        assert (manifest["cost"], manifest["cost_at_least"], manifest["currency"]) == (0.08, 0.08, "USD")
        assert sum(image["cost"] for image in manifest["images"]) == 0.08

    def test_cost_without_a_price_is_null(self, run_task: RunTask) -> None:
        manifest = run_task().manifest
        assert (manifest["cost"], manifest["images"][0]["cost"]) == (None, None)

    @pytest.mark.usefixtures("prices")
    @pytest.mark.parametrize("budget", [0.07, "0.07", "{{ 7 / 100 }}", Decimal("0.07")])
    def test_budget_refuses_once_and_bills_nothing(
        self, run_task: RunTask, emulator: RunningEmulator, object_store: ObjectStore, budget: Any
    ) -> None:
        ledger_key = f"ledgers/{uuid.uuid4()}"
        outcome = run_task(n=2, budget=budget, retries=3, ledger_key=ledger_key)
        assert outcome.state == "failed"
        assert "it would cost up to 0.08 USD, 0 USD are billed already, and the budget is 0.07 USD" in outcome.log
        assert emulator.totals()["submits"] == 0
        assert "Contents" not in object_store.client().list_objects_v2(Bucket=BUCKET, Prefix=ledger_key)

    @pytest.mark.usefixtures("prices")
    def test_budget_that_covers_it_pays(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        assert run_task(n=2, budget="{{ 8 / 100 }}").manifest["delivered"] == 2

    def test_budget_that_is_none_is_refused(self, run_task: RunTask, emulator: RunningEmulator) -> None:
        outcome = run_task(budget="{{ 'plenty' }}")
        assert "budget='plenty' is not allowed: an amount like '0.042'" in outcome.log
        assert emulator.totals()["submits"] == 0

    @pytest.mark.usefixtures("prices")
    def test_validate_only_tells_and_sends_nothing(
        self, run_task: RunTask, emulator: RunningEmulator, object_store: ObjectStore
    ) -> None:
        ledger_key = f"ledgers/{uuid.uuid4()}"
        outcome = run_task(n=2, validate_only=True, ledger_key=ledger_key)
        assert outcome.state == "success"
        assert (outcome.manifest["dry_run"], outcome.manifest["estimate"]["to_pay"]) == (True, 0.08)
        assert outcome.manifest["requests"][1]["body"]["prompt"] == "a red kite"
        assert emulator.token not in outcome.log + json.dumps(outcome.manifest)
        assert emulator.totals()["submits"] == 0
        assert "Contents" not in object_store.client().list_objects_v2(Bucket=BUCKET, Prefix=ledger_key)

    def test_prices_that_are_none_are_refused(
        self, run_task: RunTask, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usual = {"conn_type": "imagegen", "host": emulator.base_url, "password": emulator.token}
        extra = {"gateway": "acedatacloud", "prices": {"gpt-image-1": "cheap"}}
        set_connection(monkeypatch, "imagegen_default", **usual, extra=extra)
        outcome = run_task()
        assert (
            "connection 'imagegen_default': invalid extra \"prices\" (expected for 'gpt-image-1', an object"
            in outcome.log
        )
        assert emulator.totals()["submits"] == 0


class TestBadInputIsRefusedBeforeAnythingIsBilled:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"prompt": ""}, "prompt='' is not allowed: a text that is not empty"),
            ({"n": 0}, "n=0 is not allowed: a whole number from 1 to 10"),
            ({"n": 20}, "n=20 is not allowed: a whole number from 1 to 10; GenerateImageBatchOperator makes more"),
            (
                {"s3_bucket": "no-such-bucket"},
                "s3_bucket='no-such-bucket' cannot be used: there is no such bucket (NoSuchBucket); billed: no.",
            ),
            ({"s3_bucket": None}, "s3_bucket=None is not allowed"),
            ({"s3_key": "a/../b"}, "s3_key='a/../b' is not allowed"),
            ({"s3_key": "k" * 1000}, "at most 900 bytes"),
            ({"s3_key": None}, "s3_key=None is not allowed"),
            ({"extra": {"n": 4}}, "pass n by name"),
            ({"s3_bucket": "a", "s3_key": "s3://b/c"}, "s3_bucket='a' is not allowed: the bucket of s3_key, 'b'"),
            ({"imagegen_conn_id": "nowhere"}, "there is no connection 'nowhere'"),
        ],
    )
    def test_arguments(
        self, run_task: RunTask, emulator: RunningEmulator, arguments: dict[str, object], words: str
    ) -> None:
        outcome = run_task(retries=3, **arguments)
        assert outcome.state == "failed"
        assert words in outcome.log
        assert "billed: no" in outcome.log
        assert emulator.totals()["submits"] == 0

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"host": "api.example.com"}, "a host that is not a base URL: write the scheme too"),
            ({"extra": {"gateway": "acme"}}, "invalid extra \"gateway\": 'acme' (expected one of"),
            ({"password": ""}, "has no password: it must hold the API token"),
        ],
    )
    def test_connection(
        self,
        run_task: RunTask,
        emulator: RunningEmulator,
        monkeypatch: pytest.MonkeyPatch,
        fields: dict[str, object],
        words: str,
    ) -> None:
        usual = {"host": emulator.base_url, "password": emulator.token, "extra": {"gateway": "acedatacloud"}}
        set_connection(monkeypatch, "imagegen_default", conn_type="imagegen", **(usual | fields))
        outcome = run_task(retries=3)
        assert outcome.state == "failed"
        assert words in outcome.log
        assert "connection 'imagegen_default'" in outcome.log
        assert emulator.totals()["submits"] == 0

    def test_wrong_token(self, run_task: RunTask, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
        set_connection(
            monkeypatch,
            "imagegen_default",
            conn_type="imagegen",
            host=emulator.base_url,
            password="stale-token-123",
            extra={"gateway": "acedatacloud"},
        )
        outcome = run_task(retries=3)
        assert outcome.state == "failed"
        assert "Correct the connection's password" in outcome.log
        assert "stale-token-123" not in outcome.log
        assert emulator.totals()["billed_images"] == 0

    def test_proxy_of_the_environment(
        self, run_task: RunTask, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("ALL_PROXY", "socks5h://bob:hunter22@127.0.0.1:1080")
        outcome = run_task(retries=3)
        assert outcome.state == "failed"
        assert "environment variable ALL_PROXY is no usable http or https address of a proxy" in outcome.log
        (missing,) = returned(outcome.dag_id, "generate", key="failure")["failures"]
        assert (missing["code"], missing["billed"]) == ("ConfigurationError", "no")
        assert "hunter22" not in outcome.log
        assert emulator.totals()["submits"] == 0

    @pytest.mark.parametrize("login", ["", "wrong-key"])
    def test_s3_credentials(
        self,
        run_task: RunTask,
        emulator: RunningEmulator,
        object_store: ObjectStore,
        monkeypatch: pytest.MonkeyPatch,
        login: str,
    ) -> None:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        set_connection(
            monkeypatch,
            "aws_default",
            conn_type="aws",
            login=login,
            password="s3-secret-123" if login else "",
            extra=object_store.connection_extra,
        )
        outcome = run_task(retries=3)
        assert outcome.state == "failed"
        assert f"s3_bucket='{BUCKET}' cannot be used" in outcome.log
        assert emulator.totals()["submits"] == 0

    def test_s3_password(self, run_task: RunTask, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
        set_connection(
            monkeypatch,
            "aws_default",
            conn_type="aws",
            login=object_store.access_key,
            password="not-the-secret",
            extra=object_store.connection_extra,
        )
        outcome = run_task(retries=3)
        assert (
            f"s3_bucket='{BUCKET}' cannot be used: the AWS connection's login or password (secret access key) is wrong "
            "(SignatureDoesNotMatch); billed: no. Correct"
        ) in outcome.log


class TestAwsConnection:
    def test_that_is_missing_is_refused_rather_than_replaced(self, run_task: RunTask) -> None:
        outcome = run_task(aws_conn_id="nowhere")
        assert outcome.state == "failed"
        assert "there is no AWS connection 'nowhere'; billed: no. Create it" in outcome.log
