"""Row 14: the result URL has expired before the download."""

from __future__ import annotations

import pytest

from airflow_provider_imagegen.exceptions import ResultExpired
from tests.failures.conftest import Harness


class TestExpiredAddress:
    @pytest.mark.parametrize("status", [403, 404, 410])
    def test_is_requested_once_more_and_landed_in_the_same_try(self, harness: Harness, status: int) -> None:
        harness.attempt(prompt="first, to count lookups")
        usual = harness.emulator.totals()["lookup_requests"]
        harness.emulator.arm("result", "expire", status=status)
        manifest = harness.attempt()
        assert harness.is_landed(manifest)
        assert harness.emulator.totals()["lookup_requests"] - usual == usual + 1
        assert (manifest.billed, harness.submits, harness.billed) == (1, 2, 2)

    def test_that_stays_expired_is_an_error_and_a_retry_asks_again(self, harness: Harness) -> None:
        harness.emulator.arm("result", "expire", status=410, times=2)
        with pytest.raises(ResultExpired, match=r"answered 410.*billed: yes") as caught:
            harness.attempt()
        assert "sig=" not in str(caught.value)
        assert harness.is_landed(harness.attempt(try_number=2))
        assert harness.submits == harness.billed == 1

    def test_costs_its_siblings_nothing(self, harness: Harness) -> None:
        harness.emulator.arm("result", "expire", times=1)
        manifest = harness.attempt(model="dall-e-2", size="512x512", n=3)
        assert [image.index for image in manifest.images] == [0, 1, 2]
        assert harness.billed == 3

    def test_is_an_error_at_once_if_the_lookup_fails(self, harness: Harness) -> None:
        harness.emulator.arm("result", "expire")
        harness.emulator.arm("lookup", "refuse", after=1, times=1)
        with pytest.raises(ResultExpired, match="billed: yes"):
            harness.attempt()
