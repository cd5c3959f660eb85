"""Key prefixes are safe for any id, and options that S3 would refuse are refused before anything is paid."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.storage.destination import (
    MAX_PART_BYTES,
    Destination,
    default_prefix,
    key_of,
    parse_destination,
    safe_part,
)
from airflow_provider_imagegen.storage.options import MAX_METADATA_BYTES, ObjectOptions, header_text

ANY_TEXT = st.text(st.characters(), max_size=1000)
NAMES = st.from_regex(re.compile(r"[\w.-]{1,250}", re.ASCII), fullmatch=True)


def prefix(run_id: str, *, dag_id: str = "dag", task_id: str = "task", map_index: int = -1) -> str:
    return default_prefix(dag_id, run_id, task_id, map_index)


class TestOwnPrefix:
    @pytest.mark.parametrize("prefix", ["a//b", "a/./b", "a/../b", "..", "a\nb", "a\ud800", "p" * 901])
    def test_that_stores_treat_differently_is_refused(self, prefix: str) -> None:
        with pytest.raises(InvalidRequest, match="s3_key"):
            Destination(bucket="b", prefix=prefix)

    @pytest.mark.parametrize("prefix", ["", "a", "a/b:c+d e", "日本/👩‍🎨", "run__2026-01-01T00:00:00+00:00", "a%b"])
    def test_of_any_other_kind_is_kept(self, prefix: str) -> None:
        assert Destination(bucket="b", prefix=prefix).key("0.png") == "/".join(filter(None, [prefix, "0.png"]))


class TestDefaultPrefix:
    @pytest.mark.parametrize(
        "run_id",
        ["manual__2026-01-01T00:00:00+00:00", "backfill__2026-01-01", "my_run.v2~3", "nightly run", "ночь", "🎨"],
    )
    def test_of_ordinary_ids_is_made_of_them_as_they_are(self, run_id: str) -> None:
        assert prefix(run_id) == f"imagegen/dag/{run_id}/task"
        assert prefix(run_id, map_index=3) == f"imagegen/dag/{run_id}/task/3"

    @pytest.mark.parametrize(
        ("run_id", "part"),
        [("..", "%2E%2E"), ("a/../b", "a%2F..%2Fb"), ("a//b", "a%2F%2Fb"), ("a?b#c", "a%3Fb%23c"), ("a\0b", "a%00b")],
    )
    def test_keeps_no_character_that_would_mislead(self, run_id: str, part: str) -> None:
        assert prefix(run_id) == f"imagegen/dag/{part}/task"

    @given(ANY_TEXT, NAMES, NAMES, st.integers(-1, 99_999))
    def test_is_never_refused(self, run_id: str, dag_id: str, task_id: str, map_index: int) -> None:
        found = prefix(run_id, dag_id=dag_id, task_id=task_id, map_index=map_index)
        assert Destination(bucket="b", prefix=found).prefix == found == found.strip("/")
        assert len(found.encode()) <= 900
        assert found.count("/") == (3 if map_index < 0 else 4)

    @given(ANY_TEXT)
    @example("~" + "0" * 32)
    @example("")
    def test_can_be_read_back_unless_it_was_shortened(self, run_id: str) -> None:
        part = safe_part(run_id)
        assert len(part.encode()) <= MAX_PART_BYTES
        if not re.search(r"~[0-9a-f]{32}$", part) and run_id:
            assert unquote(part, errors="surrogatepass") == run_id

    @given(ANY_TEXT, ANY_TEXT)
    @example("a/t", "a")
    @example("%2F", "/")
    @example("x" * 1000, safe_part("x" * 1000))
    @example("x" * 1000, "x" * 1001)
    @example("🎨" * 300, "🎨" * 299)
    @example("", "%")
    def test_tells_any_two_runs_apart(self, one: str, other: str) -> None:
        prefixes = {prefix(run_id, task_id=task_id) for run_id in (one, other) for task_id in ("t", "0")}
        mapped = {prefix(run_id, task_id="t", map_index=0) for run_id in (one, other)}
        different = len({one, other})
        assert (len(prefixes), len(mapped), len(prefixes | mapped)) == (2 * different, different, 3 * different)

    @pytest.mark.parametrize("map_index", [-1, 7])
    def test_takes_the_place_of_the_rendered_template(self, map_index: int) -> None:
        ti = SimpleNamespace(dag_id="d", run_id="a/../b", task_id="t", map_index=map_index)
        rendered = "imagegen/d/a/../b/t" + ("" if map_index < 0 else f"/{map_index}")
        assert key_of(rendered, ti) == default_prefix("d", "a/../b", "t", map_index)
        assert key_of("images/a/../b", ti) == "images/a/../b"


class TestOptions:
    @pytest.mark.parametrize(
        ("field", "value", "allowed"),
        [
            ("acl_policy", "public", "bucket-owner-full-control"),
            ("storage_class", "STANDARD-IA", "STANDARD_IA"),
            ("storage_class", ["STANDARD"], "STANDARD_IA"),
            ("replace", "False", "True or False"),
            ("encrypt", 1, "True or False"),
            ("kms_key_id", "", "not empty"),
            ("kms_key_id", "schlüssel", "printable ASCII"),
            ("cache_control", "max-age=1\r\nx: y", "printable ASCII"),
            ("tag_set", {str(number): "" for number in range(11)}, "at most 10 tags"),
            ("tag_set", {"": "a"}, "1–128 characters"),
            ("tag_set", {"k" * 129: "a"}, "1–128 characters"),
            ("tag_set", {"k": "v" * 257}, "0–256 characters"),
            ("tag_set", {"k": "a&b"}, "letters, digits"),
            ("tag_set", {"AWS:k": "a"}, "does not start with aws:"),
            ("tag_set", {str(number): "日" * 256 for number in range(10)}, "at most 4096 bytes"),
            ("tag_set", {"k": 1}, "a dict of str to str"),
            ("tag_set", ["k"], "a dict of str to str"),
            ("metadata", {"k": None}, "a dict of str to str"),
            ("metadata", {"K": "v"}, "lower-case"),
            ("metadata", {"a b": "v"}, "lower-case"),
            ("metadata", {"sha256": "0"}, "other names than"),
            ("metadata", {"k": "v" * MAX_METADATA_BYTES}, "at most 1024 bytes"),
            ("metadata", {"k": "日" * 114}, "at most 1024 bytes"),
        ],
    )
    def test_that_s3_refuses_are_refused_first(self, field: str, value: Any, allowed: str) -> None:
        with pytest.raises(InvalidRequest, match=f"{field}=.*{re.escape(allowed)}.*billed: no"):
            ObjectOptions(**{field: value})

    def test_that_it_takes_reach_it(self) -> None:
        options = ObjectOptions(
            kms_key_id="alias/images",
            acl_policy="bucket-owner-full-control",
            storage_class="INTELLIGENT_TIERING",
            tag_set={"team": "Bild & Ton".replace("&", "+"), "größe": ""},
            cache_control="max-age=31536000, immutable",
        )
        assert options.arguments() == {
            "ServerSideEncryption": "aws:kms",
            "SSEKMSKeyId": "alias/images",
            "ACL": "bucket-owner-full-control",
            "StorageClass": "INTELLIGENT_TIERING",
            "Tagging": "team=Bild%20%2B%20Ton&gr%C3%B6%C3%9Fe=",
            "CacheControl": "max-age=31536000, immutable",
        }

    def test_are_none_by_default(self) -> None:
        assert ObjectOptions().arguments() == {}
        assert ObjectOptions(encrypt=True).arguments() == {"ServerSideEncryption": "AES256"}


class TestHeaderText:
    @given(ANY_TEXT)
    def test_is_ascii_that_survives_a_header_and_reads_back(self, value: str) -> None:
        text = header_text(value)
        assert text.isascii()
        assert " ".join(text.split()) == text
        assert unquote(text, errors="surrogatepass") == value


class TestBucket:
    @pytest.mark.parametrize(
        "name", ["images", "my.images-2026", "arn:aws:s3:eu-central-1:123456789012:accesspoint/images"]
    )
    def test_may_be_what_s3_knows(self, name: str) -> None:
        assert parse_destination(name, "a", ObjectOptions()).bucket == name

    @pytest.mark.parametrize("name", ["Bad_Bucket Name!", "a/b", "bücher", "x" * 256])
    def test_is_refused_by_name_where_none_can_be_called_so(self, name: str) -> None:
        with pytest.raises(InvalidRequest, match=r"s3_bucket=.* is not allowed: a bucket's name"):
            parse_destination(name, "a", ObjectOptions())

    @pytest.mark.parametrize("bucket", ["images", None])
    @pytest.mark.parametrize("s3_key", ["s3://", "s3:///", "s3:///prefix"])
    def test_is_missing_in_a_url_that_names_none(self, bucket: str | None, s3_key: str) -> None:
        with pytest.raises(InvalidRequest, match=r"s3_key=.* is not allowed: s3://bucket/prefix with a bucket"):
            parse_destination(bucket, s3_key, ObjectOptions())
