"""What is stored of an error is a stable kind: read back, it is the same error with the same advice to Airflow."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from copy import copy

import pytest

from airflow_provider_imagegen.exceptions import (
    GenerationFailed,
    ImageGenError,
    InvalidRequest,
    InvalidRow,
    InvalidRows,
    PermanentError,
)
from airflow_provider_imagegen.operators.failures import without_traceback
from airflow_provider_imagegen.schemas import MissingImage

STORED = [
    "AuthenticationError",
    "BudgetExceeded",
    "ConfigurationError",
    "DestinationError",
    "DownloadFailed",
    "FailedElsewhere",
    "FewerImages",
    "GatewayError",
    "GenerationFailed",
    "ImageGenError",
    "IncompleteBatch",
    "InvalidRequest",
    "InvalidRows",
    "LandingError",
    "LedgerConflict",
    "LedgerCorrupt",
    "LedgerError",
    "LookUpFailed",
    "ModerationBlocked",
    "NotAnImage",
    "NotSent",
    "ObjectExists",
    "OutOfBalance",
    "OutcomeUnknown",
    "PaidImageLost",
    "PartialDelivery",
    "PermanentError",
    "RateLimited",
    "RequestRefused",
    "ResultExpired",
    "ResultHostRefused",
    "RowsUnread",
    "TaskStopped",
    "TaskTimeout",
    "TempFileFailed",
    "UnknownTask",
    "UnreadableResponse",
    "UploadFailed",
]
"""Kinds that are in records, manifests and deferred tasks: none of them may be taken away or renamed."""


def subclasses(of: type[ImageGenError] = ImageGenError) -> Iterator[type[ImageGenError]]:
    for each in of.__subclasses__():
        yield each
        yield from subclasses(each)


def missing(kind: str) -> MissingImage:
    return MissingImage(index=0, code="odd", message="it broke", billed="unknown", kind=kind)


class TestKinds:
    def test_are_those_that_are_stored(self) -> None:
        own = {each.kind for each in (ImageGenError, *subclasses()) if each.__module__ == ImageGenError.__module__}
        assert own == set(STORED)

    @pytest.mark.parametrize("kind", STORED)
    def test_are_read_back_as_the_same_error(self, kind: str) -> None:
        error = missing(kind).as_error("openai")
        assert (error.kind, error.message, error.code, error.billed) == (kind, "it broke", "odd", "unknown")
        assert error.gateway == "openai"
        assert "it broke" in str(error)
        assert MissingImage.because_of(error, 0) == missing(kind)
        assert isinstance(error, PermanentError) == issubclass(type(error), PermanentError)

    @pytest.mark.parametrize("kind", STORED)
    def test_are_errors_that_can_be_copied_to_another_process(self, kind: str) -> None:
        error = missing(kind).as_error("openai")
        assert str(copy(error)) == str(pickle.loads(pickle.dumps(error))) == str(error)

    @pytest.mark.parametrize("kind", ["FromTheFuture", "TYPE_CHECKING", ""])
    def test_of_another_release_are_failed_generations(self, kind: str) -> None:
        assert type(missing(kind).as_error("openai")) is GenerationFailed

    def test_of_a_third_partys_error_is_that_of_its_base(self) -> None:
        class Refined(GenerationFailed):
            pass

        assert MissingImage.because_of(Refined("it broke"), 0).kind == "GenerationFailed"

    @pytest.mark.parametrize(
        "error", [InvalidRequest("size", "17x17", "1024x1024"), InvalidRows([InvalidRow("line 7", "no prompt")])]
    )
    def test_of_errors_that_take_no_message_are_read_back(self, error: ImageGenError) -> None:
        again = MissingImage.because_of(error, 0).as_error("openai")
        assert (type(again), again.message) == (type(error), error.message)


class TestErrorsThatAreRaisedAgain:
    def test_are_the_same_without_their_frames(self) -> None:
        class Refined(GenerationFailed):
            def __init__(self, number: int) -> None:
                super().__init__(f"number {number}", code="odd")

        def fail() -> None:
            raise Refined(3)

        with pytest.raises(Refined) as caught:
            fail()
        again = without_traceback(caught.value)
        assert (type(again), str(again), vars(again)) == (Refined, str(caught.value), vars(caught.value))
        assert again.__traceback__ is None
