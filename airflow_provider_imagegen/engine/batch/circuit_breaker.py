"""When a batch stops sending: if what went wrong with one row would go wrong with all that follow."""

from __future__ import annotations

from copy import copy

from airflow_provider_imagegen.exceptions import (
    AuthenticationError,
    ConfigurationError,
    DestinationError,
    ImageGenError,
    LandingError,
    OutOfBalance,
    PaidImageLost,
    PartialDelivery,
    UploadFailed,
)

LOST_IN_A_ROW = 20
"""Rows that were paid for and did not arrive, one after the other, after which no more are paid for."""

_NOT_LOST_NOW = (PartialDelivery, PaidImageLost)
_CONCERNS_ALL = (AuthenticationError, OutOfBalance, DestinationError, ConfigurationError)


class CircuitBreaker:
    """Watches how rows end."""

    def __init__(self) -> None:
        self._lost = 0
        self.blown_by: ImageGenError | None = None
        """Why nothing more is sent; ``None`` while all is well."""

    def see(self, error: ImageGenError | None) -> None:
        """Take note of how a row ended: with an error, or well."""
        is_lost = isinstance(error, LandingError) and not isinstance(error, _NOT_LOST_NOW) and error.billed == "yes"
        self._lost = self._lost + 1 if is_lost else 0
        if self.blown_by is not None or error is None:
            return
        if isinstance(error, _CONCERNS_ALL):
            self.blown_by = copy(error)
        elif self._lost >= LOST_IN_A_ROW:
            words = f"{self._lost} rows in a row were paid for and did not arrive, the last because {error.message}"
            self.blown_by = UploadFailed(words)

    def refusal(self) -> ImageGenError | None:
        """Return what to say of a row that is not sent any more; ``None`` if it may be."""
        if self.blown_by is None:
            return None
        refusal = copy(self.blown_by)
        refusal.message, refusal.billed = f"not sent: {self.blown_by.message}", "no"
        refusal.task_id = refusal.trace_id = None
        return refusal
