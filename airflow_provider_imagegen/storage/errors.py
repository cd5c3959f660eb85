"""The meaning of S3 errors, in one place: for the ledger, for the landing, and in words for people."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_imagegen.redaction import redacted

_NOT_THERE = frozenset({"404", "NoSuchKey"})
# 409 is what S3 answers while two conditional puts of one key race.
_CONDITION_FAILED = frozenset({"412", "PreconditionFailed", "409", "ConditionalRequestConflict"})
_NOT_OURS = frozenset({"403", "AccessDenied", "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch"})
_UNKNOWN_TO_STORE = frozenset({"NotImplemented", "501"})
_MAY_BE_ABOUT_CHECKSUMS = frozenset({"InvalidRequest", "InvalidArgument", "UnsupportedArgument"})
_MEANING = {
    "404": "there is no such bucket",
    "403": "access denied",
    "AccessDenied": "access denied",
    "NoSuchBucket": "there is no such bucket",
    "InvalidAccessKeyId": "S3 does not know the AWS connection's login (access key id)",
    "SignatureDoesNotMatch": "the AWS connection's login or password (secret access key) is wrong",
}

S3_ERRORS = (BotoCoreError, ClientError)
"""What boto3 raises when S3 refuses, fails, or cannot be reached."""


def code_of(error: BaseException) -> str:
    """Return S3's error code; empty if S3 did not answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def is_not_there(error: BaseException) -> bool:
    """Return whether the object does not exist."""
    return code_of(error) in _NOT_THERE


def is_condition_failed(error: BaseException) -> bool:
    """Return whether the object changed, or exists, against the condition of the put."""
    return code_of(error) in _CONDITION_FAILED


def is_not_ours(error: BaseException) -> bool:
    """Return whether bucket or key are not there for these credentials."""
    return code_of(error) in _NOT_OURS or is_not_there(error)


def is_unknown_to_store(error: BaseException) -> bool:
    """Return whether the store does not know what it was asked to do."""
    return code_of(error) in _UNKNOWN_TO_STORE


def is_checksum_unknown(error: BaseException) -> bool:
    """Return whether the store cannot take the checksum it was sent, as opposed to finding it wrong."""
    if is_unknown_to_store(error):
        return True
    # Not BadDigest: there the bytes are wrong, and must not be stored without the check that found it.
    return code_of(error) in _MAY_BE_ABOUT_CHECKSUMS and "checksum" in str(error).lower()


def words_of(error: BaseException) -> str:
    """Return what happened, in one short line without secrets."""
    if not isinstance(error, ClientError):
        return redacted(str(error))
    answer = error.response.get("Error", {})
    code = str(answer.get("Code", "error"))
    return redacted(f"{_MEANING.get(code, answer.get('Message', ''))} ({code})")
