"""What a gateway's rate-limit headers say about the next request, before it would be refused.

Source: OpenAI's ``x-ratelimit-remaining-requests`` and ``x-ratelimit-reset-requests`` (``1s``, ``6m0s``, ``20ms``);
others leave ``-requests`` out, and give the reset in seconds or unix seconds.
"""

from __future__ import annotations

import re
import time

import httpx

from airflow_provider_imagegen.gateways.responses import number_or_none

LONGEST_PAUSE = 60.0
"""Seconds after which a request is tried whatever the headers said: the gateway's own refusal decides."""
_A_UNIX_TIME = 1e9
_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,6}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?")


class RateLimits:
    """The limits of one token, as far as responses to this process tell them."""

    def __init__(self) -> None:
        self._free_at = 0.0

    def see(self, headers: httpx.Headers) -> None:
        """Take what the headers of a response say."""
        for kind in ("-requests", ""):
            remaining = number_or_none(headers.get(f"x-ratelimit-remaining{kind}"))
            if remaining is not None and remaining <= 0:
                pause = min(_seconds(headers.get(f"x-ratelimit-reset{kind}", "")), LONGEST_PAUSE)
                self._free_at = max(self._free_at, time.monotonic() + pause)

    @property
    def pause(self) -> float:
        """Seconds until the next request may be sent."""
        return max(0.0, self._free_at - time.monotonic())


def _seconds(reset: str) -> float:
    """Return for how many seconds; 0 if that cannot be understood."""
    number = number_or_none(reset)
    if number is not None:
        return max(0.0, number - time.time() if number > _A_UNIX_TIME else number)
    parts = _DURATION.fullmatch(reset)
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in parts.groups()) if parts else (0.0,) * 4
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
