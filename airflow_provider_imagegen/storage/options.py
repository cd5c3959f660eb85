"""Options of every object of a destination, in the words of Airflow's own S3 operators and boto3.

The operator fills it in, so that a wrong word is refused before anything is paid.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from airflow_provider_imagegen.exceptions import InvalidRequest

_OF_AIRFLOW = ("airflow-dag", "airflow-task", "airflow-run", "airflow-map-index")
_OF_IMAGE = ("model", "fingerprint", "task-id", "trace-id", "sha256", "pixels", "created-at")
OWN_METADATA = frozenset({*_OF_AIRFLOW, *_OF_IMAGE})
"""Names of the user metadata that this provider writes itself."""
MAX_METADATA_BYTES = 1024
"""Most bytes of further metadata, names and values as sent; S3 takes 2 KB, of which half is the provider's."""
MAX_TAGS = 10
MAX_TAG_BYTES = 4096
"""Most bytes of all tags as sent; S3 takes 8 KB of headers."""

_METADATA_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_LOST_SPACE = re.compile(r"^ | $|(?<= ) ")
_TAG_MARKS = frozenset("+-=._:/@")


@dataclass(frozen=True, kw_only=True)
class ObjectOptions:
    """How objects are put.

    :param replace: Whether an object that is there already is replaced; if not, the put is conditional.
    :param encrypt: Whether S3 encrypts at rest with its own key (``AES256``).
    :param kms_key_id: Id, ARN or alias of the KMS key to encrypt with instead (``aws:kms``).
    :param acl_policy: Canned ACL.
    :param storage_class: Storage class.
    :param tag_set: Tags, at most 10.
    :param cache_control: The ``Cache-Control`` header that readers get.
    :param metadata: Further user metadata.
    :raises InvalidRequest: If S3 is known to refuse one of them.
    """

    replace: bool = True
    encrypt: bool = False
    kms_key_id: str | None = None
    acl_policy: str | None = None
    storage_class: str | None = None
    tag_set: Mapping[str, str] = field(default_factory=dict)
    cache_control: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what S3 is known to refuse."""
        # Here, before anything is sent: at the put the image would be paid for, and not land.
        for name in ("replace", "encrypt"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidRequest(name, getattr(self, name), "True or False")
        _check_header("kms_key_id", self.kms_key_id)
        _check_header("cache_control", self.cache_control)
        _check_listed("acl_policy", self.acl_policy, "ObjectCannedACL")
        _check_listed("storage_class", self.storage_class, "StorageClass")
        _check_tags(self.tag_set)
        _check_metadata(self.metadata)

    def arguments(self) -> dict[str, Any]:
        """Return boto3's arguments for a put or a copy, but for content type and metadata."""
        encryption: dict[str, str] = {"ServerSideEncryption": "AES256"} if self.encrypt else {}
        if self.kms_key_id:
            encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key_id}
        named = {
            "ACL": self.acl_policy,
            "StorageClass": self.storage_class,
            "Tagging": urlencode(self.tag_set, quote_via=quote),
            "CacheControl": self.cache_control,
        }
        return encryption | {name: value for name, value in named.items() if value}


def header_text(value: str) -> str:
    """Return a text as a header can carry it, percent-encoded where need be: ``unquote`` gets it back."""
    return _LOST_SPACE.sub("%20", quote(value, safe=" /:+@=,;()[]", errors="surrogatepass"))


def _check_header(field: str, value: object) -> None:
    is_fine = isinstance(value, str) and value.isascii() and value.isprintable() and value == value.strip() != ""
    if value is not None and not is_fine:
        raise InvalidRequest(field, value, "printable ASCII, not empty and without spaces around it")


def _check_listed(field: str, value: object, shape: str) -> None:
    if value is not None and value not in (words := _words_of_s3(shape)):
        raise InvalidRequest(field, value, f"one of {', '.join(words)}")


def _check_tags(tags: object) -> None:
    if not isinstance(tags, Mapping) or not all(isinstance(text, str) for text in [*tags, *tags.values()]):
        raise InvalidRequest("tag_set", tags, "a dict of str to str")
    if len(tags) > MAX_TAGS:
        raise InvalidRequest("tag_set", tags, f"at most {MAX_TAGS} tags")
    for name, value in tags.items():
        if not 1 <= len(name) <= 128 or len(value) > 256 or not all(map(_is_tag_character, name + value)):
            allowed = "1–128 characters, = 0–256 characters: letters, digits, spaces and + - = . _ : / @"
            raise InvalidRequest("tag_set", {name: value}, allowed)
        if name.lower().startswith("aws:"):
            raise InvalidRequest("tag_set", {name: value}, "a name that does not start with aws:")
    if len(urlencode(tags, quote_via=quote)) > MAX_TAG_BYTES:
        raise InvalidRequest("tag_set", tags, f"at most {MAX_TAG_BYTES} bytes of tags, percent-encoded")


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, Mapping) or not all(isinstance(text, str) for text in [*metadata, *metadata.values()]):
        raise InvalidRequest("metadata", metadata, "a dict of str to str")
    for name in metadata:
        if not _METADATA_NAME.fullmatch(name):
            raise InvalidRequest("metadata", name, "names of lower-case letters and digits, joined by . _ or -")
        if name in OWN_METADATA:
            raise InvalidRequest("metadata", name, f"other names than {', '.join(sorted(OWN_METADATA))}")
    if sum(len(name) + len(header_text(value)) for name, value in metadata.items()) > MAX_METADATA_BYTES:
        raise InvalidRequest("metadata", metadata, f"at most {MAX_METADATA_BYTES} bytes, percent-encoded")


def _is_tag_character(char: str) -> bool:
    return char in _TAG_MARKS or unicodedata.category(char) == "Zs" or unicodedata.category(char)[0] in "LN"


# From botocore's model, not from a list of ours: AWS adds storage classes, and users upgrade boto3.
@cache
def _words_of_s3(shape: str) -> tuple[str, ...]:
    # Not at the top: DAG files are parsed hundreds of times, and botocore takes longer than all the rest.
    import botocore.session

    words: Any = botocore.session.get_session().get_service_model("s3").shape_for(shape)
    return tuple(words.enum)
