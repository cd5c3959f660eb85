"""Rate-limit headers are respected before the next request."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen.gateways import rate_limits
from airflow_provider_imagegen.gateways.rate_limits import LONGEST_PAUSE, RateLimits

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True, scope="module")
def _standing_clock() -> Iterator[None]:
    """Let no time pass between a response and the question for the pause."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_limits, "time", SimpleNamespace(time=lambda: NOW, monotonic=lambda: 0.0))
        yield


def pause(**headers: str) -> float:
    limits = RateLimits()
    limits.see(httpx.Headers({f"x-ratelimit-{name.replace('_', '-')}": value for name, value in headers.items()}))
    return limits.pause


class TestHeaders:
    @pytest.mark.parametrize(
        ("reset", "seconds"),
        [("20s", 20), ("1m", LONGEST_PAUSE), ("0m30s", 30), ("900ms", 0.9), ("12", 12), ("9h", 60)],
    )
    def test_say_when_the_next_request_may_be_sent(self, reset: str, seconds: float) -> None:
        assert pause(remaining_requests="0", reset_requests=reset) == pytest.approx(seconds)

    def test_may_be_those_of_other_gateways(self) -> None:
        assert pause(remaining="0", reset=str(NOW + 30)) == pytest.approx(30)

    @pytest.mark.parametrize(
        "headers",
        [{}, {"remaining_requests": "3", "reset_requests": "20s"}, {"remaining_requests": "0"}, {"reset": "20s"}],
    )
    def test_say_nothing_of_a_pause(self, headers: dict[str, str]) -> None:
        assert pause(**headers) == 0

    @given(st.text(st.characters(codec="ascii", exclude_categories=["C"])), st.text("0123456789.hms ", max_size=40))
    def test_may_hold_anything(self, remaining: str, reset: str) -> None:
        assert 0 <= pause(remaining=remaining, reset=reset) <= LONGEST_PAUSE

    def test_of_a_later_response_shorten_no_pause(self) -> None:
        limits = RateLimits()
        limits.see(httpx.Headers({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "50"}))
        limits.see(httpx.Headers({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}))
        assert limits.pause > 1
