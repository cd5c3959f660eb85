"""A result is downloaded completely or not at all: interruptions, timeouts, wrong lengths, redirects, headers."""

from __future__ import annotations

import asyncio
import gzip
import logging
import random
import resource
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from tenacity import wait_none

from airflow_provider_imagegen.exceptions import DownloadFailed, NotAnImage, ResultExpired
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.landing.download import download
from airflow_provider_imagegen.landing.download.download import Downloader
from tests.stack.result_host import (
    ADDRESS,
    NAME,
    PUBLIC,
    Answer,
    Asked,
    Internet,
    ResultHost,
    cut,
    redirect,
    says,
    stalled,
    whole,
)
from tests.stack.waiting import HANG, scaled

BODY = random.Random(1).randbytes(300_000)
ETAG = 'ETag: "abc"'


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", wait_none())


@pytest.fixture
async def host() -> AsyncIterator[ResultHost]:
    async with ResultHost(whole(BODY)) as running:
        yield running


@pytest.fixture
def internet(host: ResultHost) -> Internet:
    return Internet.with_host(host)


class TestWholeBody:
    async def test_arrives(self, internet: Internet, host: ResultHost) -> None:
        assert await internet.fetch() == BODY
        assert [asked.target for asked in host.asked] == ["/image.png?signature=s3cret"]

    async def test_without_length_arrives(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [says("200 OK", BODY)]
        assert await internet.fetch() == BODY

    async def test_in_chunks_arrives(self, internet: Internet, host: ResultHost) -> None:
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:], b""))
        host.answers = [says("200 OK\r\nTransfer-Encoding: chunked", chunks)]
        assert await internet.fetch() == BODY

    async def test_keeps_the_signature_as_it_was_written(self, internet: Internet, host: ResultHost) -> None:
        await internet.fetch(f"http://{NAME}/a%2Fb~(1)/ü?X-Sig=a%2Bb%3D/c+d==&x=[1]|,;:@!$'*#fragment")
        assert host.asked[0].target == "/a%2Fb~(1)/%C3%BC?X-Sig=a%2Bb%3D/c+d==&x=[1]|,;:@!$'*"

    async def test_comes_eight_at_a_time(self, internet: Internet, host: ResultHost) -> None:
        open_now, most, full = 0, 0, asyncio.Event()

        async def answer(asked: Asked) -> None:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            if open_now == 8:
                full.set()
            await full.wait()
            open_now -= 1
            await whole(b"image")(asked)

        host.answers = [answer]
        settings = GatewaySettings(base_url="https://gateway.example", token="t")
        async with Downloader(settings, resolver=internet.names, dial=internet.dialer) as downloader:

            async def fetch() -> int:
                with tempfile.TemporaryFile() as file:
                    await downloader.fetch(ADDRESS, file)
                    return file.tell()

            assert await asyncio.gather(*(fetch() for _ in range(20))) == [len(b"image")] * 20
        assert most == 8


class TestCutBody:
    async def test_is_fetched_again_from_its_start(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [cut(BODY, 100_000, ETAG), cut(BODY, 200_000, ETAG), whole(BODY, ETAG)]
        assert await internet.fetch() == BODY
        assert [asked.headers.get("range") for asked in host.asked] == [None] * 3

    async def test_of_an_image_that_changed_leaves_nothing_of_it(self, internet: Internet, host: ResultHost) -> None:
        other = BODY[::-1][:50_000]
        host.answers = [cut(BODY, 100_000, ETAG), whole(other, 'ETag: "new"')]
        assert await internet.fetch() == other

    async def test_is_never_a_part_that_nobody_asked_for(self, internet: Internet, host: ResultHost) -> None:
        part = "206 Partial Content\r\nContent-Range: bytes 100000-299999/300000"
        host.answers = [cut(BODY, 100_000, ETAG), says(part, BODY[100_000:]), whole(BODY)]
        assert await internet.fetch() == BODY

    async def test_is_given_up_after_three_tries(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [cut(BODY, 100_000)]
        with pytest.raises(DownloadFailed, match=r"could not be fetched whole in 3 tries.*billed: yes") as caught:
            await internet.fetch()
        assert len(host.asked) == 3
        assert "s3cret" not in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1

    async def test_in_the_middle_of_a_chunk_is_noticed(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [says("200 OK\r\nTransfer-Encoding: chunked", b"fff\r\n" + BODY[:99]), whole(BODY)]
        assert await internet.fetch() == BODY

    async def test_before_the_head_is_noticed(self, internet: Internet, host: ResultHost) -> None:
        async def nothing(asked: Asked) -> None:
            asked.writer.transport.abort()

        host.answers = [nothing, whole(BODY)]
        assert await internet.fetch() == BODY


class TestSilence:
    async def test_ends_an_attempt_and_the_image_is_fetched_again(
        self, internet: Internet, host: ResultHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(download, "SILENCE", scaled(1.0))

        async def stalled_once(asked: Asked) -> None:
            monkeypatch.setattr(download, "SILENCE", HANG)
            await stalled(BODY, 100_000, ETAG)(asked)

        host.answers = [stalled_once, whole(BODY, ETAG)]
        assert await internet.fetch() == BODY

    async def test_of_drops_is_ended_by_the_time_for_a_whole_image(
        self, internet: Internet, host: ResultHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def drip(asked: Asked) -> None:
            await asked.send("200 OK\r\nContent-Length: 1000000")
            while not asked.writer.is_closing():
                asked.writer.write(b".")
                await asked.writer.drain()
                await asyncio.sleep(0)

        monkeypatch.setattr(download, "WHOLE_TIME", 0.3)
        host.answers = [drip]
        with pytest.raises(DownloadFailed, match=r"whole in 0\.3 seconds"):
            await internet.fetch()


class TestLength:
    async def test_above_the_cap_is_refused_at_once(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [says("200 OK\r\nContent-Length: 67108865")]
        with pytest.raises(NotAnImage, match="announces 67108865 bytes"):
            await internet.fetch()
        assert len(host.asked) == 1

    @pytest.mark.parametrize("lie", ["X-No-Length: 1", "Content-Encoding: gzip"])
    async def test_unannounced_stops_at_the_cap(
        self, internet: Internet, host: ResultHost, monkeypatch: pytest.MonkeyPatch, lie: str
    ) -> None:
        monkeypatch.setattr(download, "MAX_IMAGE_BYTES", 100_000)
        body = gzip.compress(bytes(50_000_000)) if "gzip" in lie else BODY
        host.answers = [says(f"200 OK\r\n{lie}", body)]
        with pytest.raises(NotAnImage, match="more than 100000 bytes"):
            await internet.fetch()
        assert len(host.asked) == 1

    async def test_shorter_than_the_body_ends_it(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [says("200 OK\r\nContent-Length: 1000", BODY)]
        assert await internet.fetch() == BODY[:1000]

    @pytest.mark.parametrize("length", ["-1", "abc", "10\r\nContent-Length: 20", "1e3"])
    async def test_that_is_none_is_refused(self, internet: Internet, host: ResultHost, length: str) -> None:
        host.answers = [says(f"200 OK\r\nContent-Length: {length}", BODY)]
        with pytest.raises(DownloadFailed, match="3 tries"):
            await internet.fetch()


class TestEncoding:
    async def test_is_asked_not_to_be(self, internet: Internet, host: ResultHost) -> None:
        await internet.fetch()
        assert host.asked[0].headers["accept-encoding"] == "identity"

    @pytest.mark.parametrize(("name", "packed"), [("gzip", gzip.compress(BODY)), ("deflate", zlib.compress(BODY))])
    async def test_that_is_used_anyway_is_decoded(
        self, internet: Internet, host: ResultHost, name: str, packed: bytes
    ) -> None:
        host.answers = [whole(packed, f"Content-Encoding: {name}", ETAG)]
        assert await internet.fetch() == BODY

    @pytest.mark.parametrize("spoil", ["cut", "silently cut", "noise", "more behind"])
    async def test_that_breaks_is_downloaded_again(self, internet: Internet, host: ResultHost, spoil: str) -> None:
        packed, head = gzip.compress(BODY), "Content-Encoding: gzip"
        broken: dict[str, Answer] = {
            "cut": cut(packed, 1000, head, ETAG),
            "silently cut": whole(packed[:-9], head, ETAG),
            "noise": whole(BODY, head, ETAG),
            "more behind": whole(packed + b"more", head, ETAG),
        }
        host.answers = [broken[spoil], whole(BODY)]
        assert await internet.fetch() == BODY

    async def test_of_an_unknown_kind_is_refused(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [whole(BODY, "Content-Encoding: br")]
        with pytest.raises(DownloadFailed, match="encoded as 'br'"):
            await internet.fetch()


class TestStatus:
    @pytest.mark.parametrize("status", [403, 404, 410])
    async def test_of_an_expired_address_says_so_at_once(
        self, internet: Internet, host: ResultHost, status: int
    ) -> None:
        host.answers = [says(f"{status} Gone")]
        with pytest.raises(ResultExpired, match=f"answered {status}") as caught:
            await internet.fetch()
        assert len(host.asked) == 1
        assert "s3cret" not in str(caught.value)

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    async def test_of_a_busy_host_is_tried_again(self, internet: Internet, host: ResultHost, status: int) -> None:
        host.answers = [says(f"{status} Busy"), says(f"{status} Busy"), whole(BODY)]
        assert await internet.fetch() == BODY

    @pytest.mark.parametrize("status", [304, 400, 401, 405, 416])
    async def test_of_a_refusal_is_an_error_at_once(self, internet: Internet, host: ResultHost, status: int) -> None:
        host.answers = [says(f"{status} No")]
        with pytest.raises(DownloadFailed, match=f"answered {status}"):
            await internet.fetch()
        assert len(host.asked) == 1


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_are_followed(self, internet: Internet, host: ResultHost, status: int) -> None:
        internet.names.known["cdn.example"] = [[PUBLIC]]
        host.answers = [redirect("//cdn.example/b.png?signature=two", status), redirect("c.png", status), whole(BODY)]
        assert await internet.fetch() == BODY
        assert [asked.target for asked in host.asked] == [
            "/image.png?signature=s3cret",
            "/b.png?signature=two",
            "/c.png",
        ]
        assert [asked.headers["host"] for asked in host.asked] == [NAME, "cdn.example", "cdn.example"]

    async def test_in_a_circle_end(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [redirect(ADDRESS)]
        with pytest.raises(DownloadFailed, match="redirects more than 3 times") as caught:
            await internet.fetch()
        assert len(host.asked) == 4
        assert "s3cret" not in str(caught.value)

    @pytest.mark.parametrize(
        "location",
        ["ftp://results.example/a", "file:///etc/passwd", "https://", "http://[::1", "http://a b/", "//x:0/"],
    )
    async def test_to_no_address_are_refused(self, internet: Internet, host: ResultHost, location: str) -> None:
        host.answers = [redirect(location)]
        with pytest.raises(DownloadFailed, match="no address"):
            await internet.fetch()
        assert len(host.asked) == 1

    async def test_to_an_expired_address_name_the_hop(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [redirect("/gone.png?signature=two"), says("404 Not Found")]
        with pytest.raises(
            ResultExpired, match=r"redirected to http://results\.example/gone\.png \(redirect 1\)"
        ) as caught:
            await internet.fetch()
        assert "signature" not in str(caught.value)

    async def test_keep_bytes_that_are_no_text(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [redirect("/ü\udcff"), says('410 Gone\r\nETag: "ü\udcff"')]
        with pytest.raises(ResultExpired) as caught:
            await internet.fetch()
        assert host.asked[1].target == "/%C3%BC%FF"
        assert str(caught.value).encode()

    async def test_are_followed_again_after_a_cut(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [redirect("/b"), cut(BODY, 5000, ETAG), redirect("/b"), whole(BODY, ETAG)]
        assert await internet.fetch() == BODY


class TestWhatIsSentAlong:
    async def test_is_neither_token_nor_cookie_nor_header_of_ours(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [redirect("/b"), cut(BODY, 5, "Set-Cookie: a=b"), redirect("/b"), whole(BODY)]
        await internet.fetch(f"http://bob:hunter2@{NAME}/a?signature=s3cret")
        assert len(host.asked) == 4
        for asked in host.asked:
            assert set(asked.headers) <= {"host", "user-agent", "accept", "accept-encoding"}
            assert asked.headers["user-agent"].startswith("airflow-provider-imagegen/")

    async def test_is_in_no_log_line(
        self, internet: Internet, host: ResultHost, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        host.answers = [redirect("/b?signature=s3cret"), whole(BODY)]
        await internet.fetch(f"http://bob:hunter2@{NAME}/a?signature=s3cret")
        assert "s3cret" not in caplog.text
        assert "hunter2" not in caplog.text


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestDiskThatIsFull:
    async def test_ends_it_at_once(self, internet: Internet, host: ResultHost) -> None:
        with files_up_to(100_000), pytest.raises(OSError, match="too large"):
            await internet.fetch()
        assert len(host.asked) == 1
