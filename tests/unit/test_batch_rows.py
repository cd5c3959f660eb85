"""User input becomes validated rows; all invalid rows are reported at once, by line, before anything is paid."""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_imagegen.catalog import models
from airflow_provider_imagegen.engine.batch.input import (
    MAX_LINE_BYTES,
    Entry,
    Lines,
    csv_entries,
    jsonl_entries,
    list_entries,
)
from airflow_provider_imagegen.engine.batch.rows import (
    MAX_ROWS,
    Rows,
    checked_key,
    default_key,
    longest_key,
    object_name,
    read_rows,
)
from airflow_provider_imagegen.exceptions import InvalidRequest, InvalidRow, InvalidRows
from airflow_provider_imagegen.schemas import ImageRequest
from airflow_provider_imagegen.storage.destination import Destination

ReadFile = Callable[[IO[bytes]], Iterator[Entry]]

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)
WORDS = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)
TOKENS = ["prompt", "extra", ",", ";", '"', "\n", "\r\n", "\t", "a", "é", '"{', '}"', '""x"":', "1"]
REQUESTS = st.fixed_dictionaries(
    {"prompt": TEXTS},
    optional={
        "model": WORDS,
        "n": st.integers(1, 10),
        "size": WORDS,
        "output_compression": st.integers(0, 100),
        "stream": st.booleans(),
        "extra": st.dictionaries(WORDS.map("x-{}".format), st.none() | st.booleans() | st.integers() | TEXTS),
    },
)


def rows_of(entries: Iterable[Entry], **defaults: Any) -> Rows:
    return read_rows(entries, defaults, models.check)


def from_list(*requests: object, **defaults: Any) -> Rows:
    return rows_of(list_entries(requests), **defaults)


def from_csv(text: str | bytes, **defaults: Any) -> Rows:
    return rows_of(csv_entries(io.BytesIO(text if isinstance(text, bytes) else text.encode())), **defaults)


def from_jsonl(text: str | bytes, **defaults: Any) -> Rows:
    return rows_of(jsonl_entries(io.BytesIO(text if isinstance(text, bytes) else text.encode())), **defaults)


def only_reason(rows: Rows) -> str:
    assert len(rows.invalid) == 1, rows
    return str(rows.invalid[0])


class Pieces(io.BytesIO):
    """A file that never returns more than a few bytes at once, as a connection may."""

    def __init__(self, content: bytes, size: int) -> None:
        super().__init__(content)
        self._size = size

    def readinto(self, buffer: Any) -> int:
        return super().readinto(memoryview(buffer)[: self._size])


def in_pieces(content: bytes, size: int) -> IO[bytes]:
    return cast("IO[bytes]", io.BufferedReader(cast("io.RawIOBase", Pieces(content, size))))


class TestRows:
    def test_are_prompts_and_dicts_in_order(self) -> None:
        rows = from_list("a cat", {"prompt": "a dog", "n": 2, "key": "pets/dog"})
        assert [(row.number, row.key, row.request.prompt) for row in rows.valid] == [
            (0, "00000", "a cat"),
            (1, "pets/dog", "a dog"),
        ]
        assert rows.invalid == ()

    def test_take_what_they_do_not_say_from_the_defaults(self) -> None:
        rows = from_list("a", {"prompt": "b", "size": "1024x1024", "model": None}, model="m", size="auto")
        assert [row.request.parameters() for row in rows.valid] == [
            {"model": "m", "size": "auto", "prompt": "a"},
            {"model": "m", "size": "1024x1024", "prompt": "b"},
        ]

    def test_take_each_further_body_field_by_itself(self) -> None:
        rows = from_list("a", {"prompt": "b", "extra": '{"seed": 2}'}, extra={"seed": 1, "tier": "slow"})
        assert [row.request.extra for row in rows.valid] == [{"seed": 1, "tier": "slow"}, {"seed": 2, "tier": "slow"}]

    def test_a_rows_extra_goes_before_what_all_rows_are_given_by_name(self) -> None:
        rows = from_list("a", {"prompt": "b", "extra": {"quality": "high"}}, quality="low")
        assert [row.request.quality for row in rows.valid] == ["low", "high"]

    def test_a_rows_fields_go_before_the_extra_of_all_rows(self) -> None:
        rows = from_list("a", {"prompt": "b", "quality": "high"}, extra={"quality": "low"})
        assert [row.request.quality for row in rows.valid] == ["low", "high"]

    def test_may_share_one_prompt(self) -> None:
        rows = from_list({"size": "1024x1024"}, {"size": "512x512"}, prompt="a cat")
        assert [row.request.prompt for row in rows.valid] == ["a cat", "a cat"]

    def test_that_are_none_are_fine(self) -> None:
        assert from_list() == from_csv("") == from_csv("prompt\n") == from_jsonl("\n \n") == Rows((), ())

    @pytest.mark.parametrize(
        ("given", "reason"),
        [
            ({"size": "auto"}, "prompt=None is not allowed: a value is required"),
            ({"prompt": "p", "n": 11}, "n=11 is not allowed: a whole number from 1 to 10"),
            (
                {"prompt": "p", "model": "gpt-image-1", "size": "17x17"},
                "size='17x17' is not allowed: gpt-image-1 takes",
            ),
            ({"prompt": "p", "colour": "red"}, "not known: 'colour'; known are key, prompt, model"),
            ({"prompt": "p", "key": "a/../b"}, "key='a/../b' is not allowed"),
            ({"prompt": "p", "extra": "{"}, "extra='(hidden)' is not allowed: it is no JSON"),
            ({"prompt": "p", "extra": '{"n": 1}'}, "extra='(hidden)' is not allowed: fields that are no parameters"),
            (7, "a prompt or fields by name are expected, not int"),
            ({1: 2}, "a prompt or fields by name are expected, not dict"),
        ],
    )
    def test_that_are_wrong_are_reported_with_place_and_reason(self, given: object, reason: str) -> None:
        rows = from_list("fine", given)
        assert [row.number for row in rows.valid] == [0]
        assert only_reason(rows).startswith(f"requests[1]: {reason}")
        assert rows.invalid[0].number == 1

    def test_that_are_wrong_in_several_ways_are_reported_with_all_reasons(self) -> None:
        reason = only_reason(from_list({"prompt": "", "key": "..", "colour": "red"}))
        assert all(word in reason for word in ("colour", "key='..'", "prompt=''"))

    def test_never_show_an_address_to_call_back(self) -> None:
        given = {"prompt": "p", "callback_url": ["https://hook.example/?secret=1"], "hook": "secret"}
        assert "secret" not in only_reason(from_list(given))

    @pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "a\ud800b", "a" * 10_000])
    def test_are_reported_in_one_short_line_that_any_log_takes(self, name: str) -> None:
        reason = only_reason(from_list({"prompt": "p", name: 1, "extra": {name: object()}}))
        assert reason.isprintable()
        assert len(reason) < 600

    @pytest.mark.parametrize("most", [50, pytest.param(MAX_ROWS, marks=pytest.mark.full)])
    def test_of_more_than_a_batch_are_refused_with_all_else_that_is_wrong(
        self, monkeypatch: pytest.MonkeyPatch, most: int
    ) -> None:
        monkeypatch.setattr("airflow_provider_imagegen.engine.batch.rows.MAX_ROWS", most)
        many = (Entry(f"line {number}", {"prompt": "" if number == 3 else "p"}) for number in range(most + 5))
        with pytest.raises(InvalidRows) as caught:
            rows_of(many)
        assert [row.number for row in caught.value.rows] == [most, 3]
        assert f"line {most}: a batch has at most {most} rows" in str(caught.value)

    def test_have_defaults_that_are_refused_once(self) -> None:
        with pytest.raises(InvalidRequest, match="extra"):
            from_list("a", "b", extra="{")


class TestKeys:
    def test_by_default_stay_when_a_batch_grows(self) -> None:
        assert default_key(0) == "00000"
        assert MAX_ROWS == 100_000
        assert default_key(MAX_ROWS - 1) == "99999"

    def test_count_rows_that_are_wrong(self) -> None:
        assert [row.key for row in from_list("a", "", "c").valid] == ["00000", "00002"]

    @pytest.mark.parametrize("key", ["cat", "shop/4711", "v1.5-cat", "Привет/猫", "a b", 4711, "k" * 200])
    def test_are_names_under_the_prefix(self, key: object) -> None:
        assert checked_key(key) == str(key)

    @pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", ".", "a/../b", "a\nb", "a?b", "a#b", " a", "é" * 101])
    def test_that_stores_or_readers_take_differently_are_refused(self, key: str) -> None:
        with pytest.raises(InvalidRequest, match="key="):
            checked_key(key)

    @pytest.mark.parametrize("key", ["manifest", "manifest.json", "manifest.jsonl", "manifest.jsonl/a"])
    def test_of_the_manifest_are_refused(self, key: str) -> None:
        with pytest.raises(InvalidRequest, match="manifest"):
            checked_key(key)

    @pytest.mark.parametrize("key", ["cat.png", "cat.JPEG", "cat.png/dog", "cat.preview-0"])
    def test_with_an_extension_are_refused(self, key: str) -> None:
        with pytest.raises(InvalidRequest, match="without extension"):
            checked_key(key)

    @pytest.mark.parametrize("key", [True, 1.5, ["a"], {"a": 1}])
    def test_that_are_no_texts_are_refused(self, key: object) -> None:
        with pytest.raises(InvalidRequest, match="a text"):
            checked_key(key)

    def test_used_twice_are_reported_with_both_lines(self) -> None:
        rows = from_csv("key,prompt\ncat,a\ndog,b\ncat,c\n")
        assert only_reason(rows) == "line 4: key='cat' is not allowed: line 2 has the name 'cat' already"

    def test_used_twice_are_reported_even_if_the_first_row_is_wrong(self) -> None:
        rows = from_list({"key": "cat"}, {"key": "cat", "prompt": "p"})
        assert [row.place for row in rows.invalid] == ["requests[0]", "requests[1]"]

    def test_of_one_row_are_not_the_objects_of_another(self) -> None:
        rows = from_list({"key": "cat", "prompt": "p", "n": 3}, {"key": "cat-1", "prompt": "p"})
        assert "requests[0] has the name 'cat-1' already" in only_reason(rows)

    def test_equal_to_another_rows_default_are_refused(self) -> None:
        assert "requests[0] has" in only_reason(from_list({"key": "00001", "prompt": "p"}, "q"))

    @given(st.lists(st.tuples(st.sampled_from(["a", "a-0", "a-1", "a-1-1", "b"]), st.integers(1, 3)), max_size=6))
    def test_of_valid_rows_never_give_two_objects_one_name(self, given: list[tuple[str, int]]) -> None:
        rows = from_list(*({"key": key, "n": n, "prompt": "p"} for key, n in given))
        names = [object_name(row.key, row.request.n, index) for row in rows.valid for index in range(row.request.n)]
        assert len(set(names)) == len(names)

    @given(st.text(max_size=220), st.text(st.sampled_from("aé/日"), max_size=300))
    @example("%", "").via("escaped by safe_part")
    def test_that_pass_are_safe_under_any_prefix(self, key: str, text: str) -> None:
        prefix = "/".join(filter(None, text.split("/")))
        try:
            checked = checked_key(key, longest_key(prefix))
        except InvalidRequest as refusal:
            assert refusal.field == "key"
            return
        assert Destination(bucket="b", prefix=checked).prefix == key
        assert len(f"{prefix}/{object_name(checked, 10, 9)}.preview-9.jpeg".encode()) <= 1024


class TestCsv:
    def test_cells_that_are_empty_are_not_set(self) -> None:
        rows = from_csv("prompt,size,n,key\r\na cat,,,\r\na dog,1024x1024, 2 ,\r\n", size="auto")
        assert [row.request.parameters() for row in rows.valid] == [
            {"size": "auto", "prompt": "a cat"},
            {"size": "1024x1024", "prompt": "a dog", "n": 2},
        ]

    @pytest.mark.parametrize("n", ["2", " 2 ", "2.0"])
    def test_numbers_are_read_from_their_text(self, n: str) -> None:
        assert from_csv(f"prompt,n\na,{n}\n").valid[0].request.n == 2

    @pytest.mark.parametrize("mark", [",", ";", "\t"])
    def test_cells_are_separated_as_the_first_line_is(self, mark: str) -> None:
        assert from_csv(f"prompt{mark}size\na cat{mark}auto\n").valid[0].request.size == "auto"

    def test_texts_may_hold_separators_quotes_and_lines(self) -> None:
        rows = from_csv('prompt,key\r\n"a ""big"" cat,\r\nasleep",cat\r\n"",dog\r\n')
        assert rows.valid[0].request.prompt == 'a "big" cat,\r\nasleep'
        assert only_reason(rows).startswith("line 4: prompt=None")

    def test_a_byte_order_mark_is_no_part_of_the_first_name(self) -> None:
        assert from_csv("prompt\na cat\n".encode("utf-8-sig")).valid[0].request.prompt == "a cat"

    def test_further_body_fields_are_json(self) -> None:
        assert from_csv('prompt,extra\na,"{""seed"": 1}"\n').valid[0].request.extra == {"seed": 1}

    def test_columns_and_lines_without_content_are_nothing(self) -> None:
        assert [row.key for row in from_csv("prompt,,\n\na,,\n\n\nb,,\n").valid] == ["00000", "00001"]

    @pytest.mark.parametrize(
        ("header", "words"),
        [
            ("prompt,colour,tone", "not known: 'colour', 'tone'; known are key, prompt"),
            ("prompt,size,prompt", "'prompt': twice among the columns"),
            ("prompt,,size", "not known: ''"),
            (",,", "it names no columns"),
            ("", "it names no columns"),
            ('"prompt', "it is no CSV"),
        ],
    )
    def test_columns_that_are_wrong_are_reported_once(self, header: str, words: str) -> None:
        with pytest.raises(InvalidRows, match="1 row is wrong") as caught:
            from_csv(f"{header}\na,b\nc,d\n")
        assert f"line 1: {words}" in str(caught.value)

    @pytest.mark.parametrize("line", ["a cat, asleep,auto", "a cat"])
    def test_a_row_with_other_than_all_cells_is_wrong(self, line: str) -> None:
        rows = from_csv(f"prompt,size\n{line}\na dog,auto\n")
        assert "line 2: " in only_reason(rows)
        assert "cells for 2 columns" in only_reason(rows)
        assert len(rows.valid) == 1

    def test_a_quote_that_is_never_closed_does_not_swallow_the_rest_in_silence(self) -> None:
        rows = from_csv('prompt\n"a cat\na dog\na bird\n')
        assert only_reason(rows) == "line 2: it is no CSV: unexpected end of data"

    def test_lines_that_are_not_utf_8_are_reported_with_the_byte(self) -> None:
        rows = from_csv(b'prompt\na cat\na d\xf6g\n"two\nl\xefnes"\na bird\n')
        assert [str(row) for row in rows.invalid] == [
            "line 3: byte 4 of the line, 0xf6, is not UTF-8",
            "line 5: byte 2 of the line, 0xef, is not UTF-8",
        ]
        assert [row.request.prompt for row in rows.valid] == ["a cat", "a bird"]

    def test_a_binary_file_is_reported_by_its_first_line(self) -> None:
        with pytest.raises(InvalidRows, match="line 1: byte 1 of the line, 0xff, is not UTF-8"):
            from_csv("prompt\n".encode("utf-16"))


class TestJsonl:
    def test_a_line_is_an_object_or_a_prompt(self) -> None:
        rows = from_jsonl('\ufeff{"prompt": "a", "n": 2}\r\n\n"b"\n')
        assert [(row.key, row.request.prompt) for row in rows.valid] == [("00000", "a"), ("00001", "b")]

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ('{"prompt": "a"', "it is no JSON: "),
            ("[" * 100_000, "nested too deep"),
            ('{"prompt": "a", "extra": {"seed": NaN}}', "NaN is no number"),
            ('{"prompt": "a", "n": ' + "1" * 5000 + "}", "it is no JSON that can be read"),
            ('["a"]', "not list"),
            ("null", "not NoneType"),
        ],
    )
    def test_a_line_that_is_neither_is_reported(self, line: str, words: str) -> None:
        rows = from_jsonl(f'"a"\n\n{line}\n"b"\n')
        assert only_reason(rows).startswith("line 3: ")
        assert words in only_reason(rows)
        assert len(rows.valid) == 2

    def test_a_line_with_text_that_utf8_cannot_hold_is_reported_and_the_others_are_read(self) -> None:
        fields = ['"prompt": "\\ud83d"', '"prompt": "p", "key": "\\ud83d"', '"prompt": "p", "\\ud83d": 1']
        lines = "".join(f"{{{field}}}\n" for field in [*fields, '"prompt": "p", "extra": {"a": ["\\ud83d"]}'])
        rows = from_jsonl(f'{lines}"fine"\n')
        assert [row.request.prompt for row in rows.valid] == ["fine"]
        assert [row.place for row in rows.invalid] == ["line 1", "line 2", "line 3", "line 4"]
        assert "text that UTF-8 can hold" in rows.invalid[0].reason
        assert all(row.reason.encode() for row in rows.invalid)

    def test_a_line_longer_than_any_request_is_reported_and_not_kept(self) -> None:
        longest = b'"' + b"a" * (MAX_LINE_BYTES * 3) + b'"\n'
        rows = rows_of(jsonl_entries(in_pieces(b'"a"\n' + longest + b'"b"\n', 1000)))
        assert only_reason(rows) == f"line 2: the line is longer than {MAX_LINE_BYTES} bytes"
        assert [row.request.prompt for row in rows.valid] == ["a", "b"]

    def test_the_longest_line_is_read_whole(self) -> None:
        longest = b'"' + b"a" * (MAX_LINE_BYTES - 2) + b'"\n'
        (entry,) = jsonl_entries(in_pieces(longest, 100_000))
        assert entry.fields == {"prompt": "a" * (MAX_LINE_BYTES - 2)}


class TestAnyBytes:
    @pytest.mark.parametrize("read_file", [csv_entries, jsonl_entries])
    @given(content=st.binary(max_size=400), piece=st.integers(1, 50))
    @example(content=b'prompt\n"', piece=1).via("open quote")
    @example(content=b"prompt\na\rb\n", piece=3).via("bare carriage return")
    @example(content=b"prompt\n\x00\n", piece=3).via("NUL")
    @example(content=b'{"prompt": "\\ud800"}', piece=3).via("half a character")
    @example(content=b'{"prompt": "a", "extra": {"a": 1e999}}', piece=3).via("infinity")
    def test_make_rows_or_reasons(self, read_file: ReadFile, content: bytes, piece: int) -> None:
        try:
            rows = rows_of(read_file(in_pieces(content, piece)))
        except InvalidRows as error:
            rows = Rows((), error.rows)
        assert all(row.request.prompt.strip() for row in rows.valid)
        assert all(row.reason and str(row).isprintable() for row in rows.invalid)

    @given(st.lists(st.sampled_from(TOKENS), max_size=40))
    def test_that_look_like_a_table_make_rows_or_reasons(self, words: list[str]) -> None:
        try:
            rows = from_csv("prompt,n,extra\n" + "".join(words))
        except InvalidRows as error:
            rows = Rows((), error.rows)
        assert all(row.reason for row in rows.invalid)

    @given(st.binary(max_size=300), st.integers(1, 50))
    def test_make_the_same_lines_however_they_are_cut(self, content: bytes, piece: int) -> None:
        assert list(Lines(in_pieces(content, piece))) == list(Lines(io.BytesIO(content)))


class TestRoundTrip:
    @given(st.lists(REQUESTS, max_size=8), st.integers(1, 100))
    def test_as_jsonl_gives_the_same_rows(self, requests: list[dict[str, Any]], piece: int) -> None:
        content = "".join(json.dumps(request, ensure_ascii=False) + "\n" for request in requests).encode()
        assert read_rows(jsonl_entries(in_pieces(content, piece)), {}, lambda _: None) == _checked(requests)

    @given(st.lists(REQUESTS, max_size=8), st.integers(1, 100), st.sampled_from(",;\t"))
    def test_as_csv_gives_the_same_rows(self, requests: list[dict[str, Any]], piece: int, delimiter: str) -> None:
        file = io.StringIO()
        writer = csv.DictWriter(file, list(ImageRequest.model_fields), delimiter=delimiter)
        writer.writeheader()
        for request in requests:
            extra = {"extra": json.dumps(request["extra"])} if "extra" in request else {}
            writer.writerow(request | extra)
        content = file.getvalue().encode()
        assert read_rows(csv_entries(in_pieces(content, piece)), {}, lambda _: None) == _checked(requests)


def _checked(requests: list[dict[str, Any]]) -> Rows:
    return read_rows(list_entries(requests), {}, lambda _: None)


class TestInvalidRows:
    def test_read_well_when_they_are_few(self) -> None:
        text = str(InvalidRows(from_csv("key,prompt,n\na,p,\na,p,\nb,p,77\n").invalid))
        assert text == (
            "2 rows are wrong; billed: no. Correct them, or pass on_invalid='skip' to go on without such rows.\n"
            "  line 3: key='a' is not allowed: line 2 has the name 'a' already\n"
            "  line 4: n='77' is not allowed: a whole number from 1 to 10; "
            "GenerateImageBatchOperator makes more, in several rows"
        )

    def test_read_well_when_they_are_many(self) -> None:
        error = InvalidRows([InvalidRow(f"line {number}", "prompt=None is not allowed") for number in range(50_000)])
        assert len(error.rows) == 50_000
        assert str(error).splitlines()[0].startswith("50000 rows are wrong; billed: no.")
        assert str(error).splitlines()[-1] == "  … and 49980 more"
        assert len(str(error)) < 2_000

    def test_survive_pickling(self) -> None:
        error = pickle.loads(pickle.dumps(InvalidRows([InvalidRow("line 7", "wrong", 5)])))
        assert error.rows == (InvalidRow("line 7", "wrong", 5),)
        assert "line 7: wrong" in str(error)
