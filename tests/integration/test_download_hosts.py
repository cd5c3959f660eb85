"""Row 18: a download connects to public hosts only, for any notation of the address and for any redirect."""

from __future__ import annotations

import asyncio
import datetime
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
from tenacity import wait_none

from airflow_provider_imagegen.exceptions import DownloadFailed, ResultHostRefused
from airflow_provider_imagegen.landing.download import download, network
from tests.stack.result_host import (
    ADDRESS,
    NAME,
    PUBLIC,
    PUBLIC_V6,
    Asked,
    Internet,
    Names,
    ResultHost,
    redirect,
    whole,
)

BODY = b"image"
INSIDE = [
    *(
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "0x7f.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
    ),
    *("127.0.0.1.", "127.255.255.254", "１２７.０.０.１", "127。0。0。1", "①②⑦.0.0.1", "good@127.0.0.1"),
    *("good:pw@127.0.0.1", "results.example@127.0.0.1", "good\\@127.0.0.1", "localhost", "localhost.", "LOCALHOST"),
    *("ｌocalhost", "app.localhost", "0.0.0.0", "0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "168.63.129.16"),
    *("169.254.169.254", "2852039166", "172.16.0.1", "192.0.0.192", "192.0.2.1", "192.168.0.1", "198.18.0.1"),
    *(
        "203.0.113.9",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::127.0.0.1]",
    ),
    *("[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "[::ffff:169.254.169.254]", "[::ffff:0:127.0.0.1]", "[2002:7f00:1::]"),
    *("[2001:0:5ef5:79fb::1]", "[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::8.8.8.8]", "[fe80::1]"),
    *("[fe80::1%25eth0]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[2001:db8::1]", "[fec0::1]", "[3fff::1]"),
    *("name-inside.example", "metadata.example", "mapped.example", "six.example"),
]
KNOWN = {
    "localhost": [["127.0.0.1", "::1"]],
    "app.localhost": [["::1"]],
    "name-inside.example": [["10.2.3.4"]],
    "metadata.example": [["169.254.169.254"]],
    "mapped.example": [["::ffff:127.0.0.1"]],
    "six.example": [["fe80::1%2"]],
}


@pytest.fixture(autouse=True)
def no_pauses_and_no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", wait_none())
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def host() -> AsyncIterator[ResultHost]:
    async with ResultHost(whole(BODY)) as running:
        yield running


@pytest.fixture
def internet(host: ResultHost) -> Internet:
    internet = Internet.with_host(host)
    internet.names.known |= {name: list(answers) for name, answers in KNOWN.items()}
    return internet


async def fault(internet: Internet, url: str, **settings: str) -> DownloadFailed | None:
    try:
        await internet.fetch(url, **settings)
    except DownloadFailed as error:
        return error
    return None


def not_refused(errors: dict[str, DownloadFailed | None], words: str) -> dict[str, DownloadFailed | None]:
    """Return those that are no refusal in these words."""
    return {
        spelled: error
        for spelled, error in errors.items()
        if not (isinstance(error, ResultHostRefused) and re.search(words, str(error)))
    }


class TestAddressInside:
    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_is_refused(self, internet: Internet, scheme: str) -> None:
        errors = {host: await fault(internet, f"{scheme}://{host}/latest/meta-data?token=s3cret") for host in INSIDE}
        assert not_refused(errors, r"not a public address.*private_result_hosts") == {}
        assert internet.dialer.dialled == []
        assert {error.billed for error in errors.values() if error} == {"yes"}
        assert "s3cret" not in str(errors)

    async def test_is_refused_as_a_redirect(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [redirect(f"http://{spelled}/latest/meta-data") for spelled in INSIDE]
        errors = {spelled: await fault(internet, ADDRESS) for spelled in INSIDE}
        assert not_refused(errors, r"results\.example/image\.png, redirected to .*not a public") == {}
        assert internet.dialer.dialled == [PUBLIC] * len(INSIDE)

    async def test_is_refused_before_a_proxy_is_asked(self, internet: Internet, host: ResultHost) -> None:
        proxy = f"http://127.0.0.1:{host.port}"
        errors = {spelled: await fault(internet, f"http://{spelled}/", proxy=proxy) for spelled in INSIDE}
        assert not_refused(errors, "not a public") == {}
        assert internet.dialer.dialled == []

    async def test_is_refused_with_the_systems_own_resolver(self, internet: Internet) -> None:
        internet.names = network.resolve  # type: ignore[assignment]
        with pytest.raises(ResultHostRefused, match=r"leads to (127\.0\.0\.1|::1), which"):
            await internet.fetch("http://localhost:1/")
        assert internet.dialer.dialled == []

    async def test_is_refused_on_the_last_hop_too(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [redirect("/b"), redirect("/c"), redirect("http://[::1]/")]
        with pytest.raises(ResultHostRefused, match="redirect 3"):
            await internet.fetch()
        assert internet.dialer.dialled == [PUBLIC] * 3


class TestPublicAddress:
    @pytest.mark.parametrize("spelled", [PUBLIC, f"[{PUBLIC_V6}]", "0x5db8d822", f"{NAME}.", "user:pw@results.example"])
    async def test_is_connected_to(self, internet: Internet, spelled: str) -> None:
        assert await internet.fetch(f"http://{spelled}/a") == BODY

    async def test_in_ipv6_is_named_in_brackets(self, internet: Internet, host: ResultHost) -> None:
        await internet.fetch(f"http://[{PUBLIC_V6}]/a")
        assert host.asked[0].headers["host"] == f"[{PUBLIC_V6}]"

    async def test_that_does_not_respond_is_followed_by_the_next(self, internet: Internet) -> None:
        internet.names.known[NAME] = [["2606:2800::2", "2606:2800::3", "93.184.216.35", PUBLIC]]
        assert await internet.fetch() == BODY
        assert internet.dialer.dialled == ["2606:2800::2", "93.184.216.35", "2606:2800::3", PUBLIC]


class TestDnsRebinding:
    async def test_with_one_response_inside_is_refused_altogether(self, internet: Internet) -> None:
        internet.names.known[NAME] = [[PUBLIC, "127.0.0.1"]]
        with pytest.raises(ResultHostRefused, match=r"leads to 127\.0\.0\.1"):
            await internet.fetch()
        assert internet.dialer.dialled == []

    async def test_by_changing_after_the_lookup_gains_nothing(self, internet: Internet) -> None:
        internet.names.known[NAME] = [[PUBLIC], ["127.0.0.1"]]
        assert await internet.fetch() == BODY
        assert (internet.names.asked, internet.dialer.dialled) == ([NAME], [PUBLIC])

    async def test_by_changing_between_two_hops_is_refused(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [redirect("/b"), whole(BODY)]
        internet.names.known[NAME] = [[PUBLIC], ["127.0.0.1"]]
        with pytest.raises(ResultHostRefused, match="redirect 1"):
            await internet.fetch()
        assert internet.dialer.dialled == [PUBLIC]

    @pytest.mark.parametrize("answer", [[], ["no address"]])
    async def test_by_leading_nowhere_is_an_error(self, internet: Internet, answer: list[str]) -> None:
        internet.names.known[NAME] = [answer]
        with pytest.raises(DownloadFailed, match="leads to no address"):
            await internet.fetch()

    async def test_unknown_is_an_error_after_three_lookups(self, internet: Internet) -> None:
        with pytest.raises(DownloadFailed, match=r"3 tries: at nowhere\.example.*could not be resolved"):
            await internet.fetch("http://nowhere.example/a")
        assert internet.names.asked == ["nowhere.example"] * 3


class SilentNames(Names):
    """Never answers."""

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return await asyncio.Future()


class TestResolverThatIsSilent:
    async def test_is_an_error_in_time(self, internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(download, "CONNECT_TIMEOUT", 0.05)
        internet.names = SilentNames()
        with pytest.raises(DownloadFailed, match="could not be resolved in time"):
            await internet.fetch()

    async def test_does_not_keep_a_proxy_from_being_asked(
        self, internet: Internet, host: ResultHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(network, "LOOK_UP_BEFORE_PROXY", 0.05)
        internet.names = SilentNames()
        assert await internet.fetch(proxy=f"http://127.0.0.1:{host.port}") == BODY


class TestHostThatMayBePrivate:
    async def test_is_the_connections_own(self, internet: Internet, host: ResultHost) -> None:
        own = f"http://127.0.0.1:{host.port}"
        assert await internet.fetch(f"{own}/results/1", base_url=f"{own}/v1") == BODY

    async def test_is_the_own_name_wherever_it_leads(self, internet: Internet, host: ResultHost) -> None:
        assert (
            await internet.fetch(f"http://localhost.:{host.port}/1", base_url=f"http://LOCALHOST:{host.port}") == BODY
        )

    async def test_is_not_the_own_name_at_another_port(self, internet: Internet, host: ResultHost) -> None:
        with pytest.raises(ResultHostRefused):
            await internet.fetch(f"http://localhost:{host.port}/1", base_url="http://localhost:1")

    async def test_is_not_the_own_host_with_another_scheme(self, internet: Internet, host: ResultHost) -> None:
        with pytest.raises(ResultHostRefused):
            await internet.fetch(f"http://127.0.0.1:{host.port}/1", base_url=f"https://127.0.0.1:{host.port}")
        assert internet.dialer.dialled == []

    @pytest.mark.parametrize("address", ["64:ff9b::a9fe:a9fe", "fd00:ec2::254", "168.63.129.16", "100.100.100.200"])
    async def test_is_not_the_own_name_where_a_cloud_serves_credentials(self, internet: Internet, address: str) -> None:
        internet.names.known["gw.internal"] = [[address]]
        with pytest.raises(ResultHostRefused):
            await internet.fetch("http://gw.internal/latest", base_url="http://gw.internal")
        assert internet.dialer.dialled == []

    async def test_refuses_a_redirect_to_another_port_of_the_own_host(
        self, internet: Internet, host: ResultHost
    ) -> None:
        own = f"http://127.0.0.1:{host.port}"
        host.answers = [redirect("http://127.0.0.1:1/admin")]
        with pytest.raises(ResultHostRefused):
            await internet.fetch(f"{own}/results/1", base_url=own)

    async def test_goes_through_a_proxy_with_any_password(
        self, internet: Internet, host: ResultHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", f"http://us%C3%A9r:p%C3%A4ss@127.0.0.1:{host.port}")
        monkeypatch.setenv("no_proxy", "")
        assert await internet.fetch("http://93.184.216.34/1") == BODY

    async def test_shows_nothing_of_a_proxy_that_cannot_be_used(
        self, internet: Internet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://user:s3cretpart/x@127.0.0.1:3128")
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(DownloadFailed, match="no usable") as caught:
            await internet.fetch("http://93.184.216.34/1")
        assert "s3cret" not in str(caught.value)

    async def test_is_not_another_name_of_the_own_address(self, internet: Internet, host: ResultHost) -> None:
        with pytest.raises(ResultHostRefused):
            await internet.fetch(f"http://localhost:{host.port}/1", base_url=f"http://127.0.0.1:{host.port}")

    @pytest.mark.parametrize("listed", ["localhost", "127.0.0.1", "127.0.0.0/8"])
    async def test_is_one_that_is_listed(self, internet: Internet, host: ResultHost, listed: str) -> None:
        internet.names.known["localhost"] = [["127.0.0.1"]]
        assert await internet.fetch(f"http://localhost:{host.port}/1", private_result_hosts=(listed,)) == BODY

    async def test_is_one_that_a_redirect_leads_to(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [redirect(f"http://127.0.0.1:{host.port}/b"), whole(BODY)]
        assert await internet.fetch(private_result_hosts=("127.0.0.1",)) == BODY

    async def test_is_reached_without_the_proxy(self, internet: Internet, host: ResultHost) -> None:
        listed = {"private_result_hosts": ("127.0.0.1",), "proxy": "http://proxy.example:3128"}
        assert await internet.fetch(f"http://127.0.0.1:{host.port}/", **listed) == BODY
        assert host.asked[0].target == "/"


class TestProxy:
    async def test_of_the_connection_is_asked_and_alone_sees_its_password(
        self, internet: Internet, host: ResultHost
    ) -> None:
        assert await internet.fetch(proxy=f"http://bob:hunt%20er@127.0.0.1:{host.port}") == BODY
        assert host.asked[0].target == f"http://{NAME}:80/image.png?signature=s3cret"
        assert host.asked[0].headers["proxy-authorization"] == "Basic Ym9iOmh1bnQgZXI="
        assert internet.dialer.dialled == ["127.0.0.1"]

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
    async def test_of_the_environment_is_asked(
        self, internet: Internet, host: ResultHost, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv(name, f"127.0.0.1:{host.port}")
        assert await internet.fetch() == BODY
        assert host.asked[0].target.startswith(f"http://{NAME}:80/")

    async def test_of_the_environment_is_passed_by_where_it_says_so(
        self, internet: Internet, host: ResultHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", ".example")
        assert await internet.fetch() == BODY
        assert internet.dialer.dialled == [PUBLIC]

    async def test_resolves_names_that_are_unknown_here(self, internet: Internet, host: ResultHost) -> None:
        proxy = f"http://127.0.0.1:{host.port}"
        assert await internet.fetch("http://only-the-proxy-knows.example/a", proxy=proxy) == BODY

    async def test_is_not_asked_for_a_redirect_inside(self, internet: Internet, host: ResultHost) -> None:
        host.answers = [redirect("http://metadata.example/")]
        with pytest.raises(ResultHostRefused, match=r"leads to 169\.254\.169\.254"):
            await internet.fetch(proxy=f"http://127.0.0.1:{host.port}")
        assert len(host.asked) == 1

    async def test_that_speaks_no_http_is_an_error(self, internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALL_PROXY", "socks5://bob:hunter2@127.0.0.1:1080")
        with pytest.raises(DownloadFailed, match="no usable http or https address") as caught:
            await internet.fetch()
        assert "hunter2" not in str(caught.value)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for :data:`NAME` and :data:`PUBLIC`, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(
        now + datetime.timedelta(days=1)
    )
    names = x509.SubjectAlternativeName([x509.DNSName(NAME), x509.IPAddress(ip_address(PUBLIC))])
    builder = builder.add_extension(names, critical=False).add_extension(x509.BasicConstraints(True, 0), critical=True)
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    encoding, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(
        key.private_bytes(encoding, private, serialization.NoEncryption())
        + builder.sign(key, hashes.SHA256()).public_bytes(encoding)
    )
    return path


@pytest.fixture
async def secure_host(authority: Path) -> AsyncIterator[ResultHost]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    async with ResultHost(whole(BODY), tls=context) as running:
        yield running


class TestTls:
    @pytest.mark.parametrize("spelled", [NAME, f"{NAME}.", PUBLIC])
    async def test_is_checked_against_the_name_not_the_address(
        self, secure_host: ResultHost, authority: Path, spelled: str
    ) -> None:
        internet = Internet.with_host(secure_host)
        assert await internet.fetch(f"https://{spelled}/a", verify=str(authority)) == BODY

    async def test_of_another_name_is_refused(self, secure_host: ResultHost, authority: Path) -> None:
        internet = Internet.with_host(secure_host)
        internet.names.known["other.example"] = [[PUBLIC]]
        with pytest.raises(DownloadFailed, match="CERTIFICATE_VERIFY_FAILED"):
            await internet.fetch("https://other.example/a", verify=str(authority))
        assert secure_host.asked == []

    async def test_goes_through_a_proxys_tunnel(self, secure_host: ResultHost, authority: Path) -> None:
        async def tunnel(asked: Asked) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", secure_host.port)
            asked.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(_pipe(asked.reader, writer), _pipe(reader, asked.writer))

        async with ResultHost(tunnel) as proxy:
            internet = Internet.with_host(secure_host)
            settings = {"verify": str(authority), "proxy": f"http://127.0.0.1:{proxy.port}"}
            assert await internet.fetch(f"https://{NAME}/a?signature=s3cret", **settings) == BODY
        assert (proxy.asked[0].method, proxy.asked[0].target) == ("CONNECT", f"{NAME}:443")
        assert secure_host.asked[0].target == "/a?signature=s3cret"

    async def test_is_not_left_by_a_redirect(self, secure_host: ResultHost, authority: Path) -> None:
        secure_host.answers = [redirect(f"http://{NAME}/b?signature=s3cret")]
        internet = Internet.with_host(secure_host)
        with pytest.raises(DownloadFailed, match=r"from https to http.*allow_insecure_results") as caught:
            await internet.fetch(f"https://{NAME}/a", verify=str(authority))
        assert "s3cret" not in str(caught.value)

    async def test_is_left_where_the_connection_allows_it(
        self, secure_host: ResultHost, authority: Path, host: ResultHost
    ) -> None:
        secure_host.answers = [redirect("http://93.184.216.35/b")]
        internet = Internet.with_host(secure_host)
        internet.dialer.ports["93.184.216.35"] = host.port
        settings = {"verify": str(authority), "allow_insecure_results": True}
        assert await internet.fetch(f"https://{NAME}/a", **settings) == BODY

    async def test_is_entered_by_a_redirect(self, secure_host: ResultHost, authority: Path, host: ResultHost) -> None:
        host.answers = [redirect(f"https://{NAME}/b")]
        internet = Internet.with_host(secure_host)
        internet.dialer.ports["93.184.216.35"] = host.port
        assert await internet.fetch("http://93.184.216.35/a", verify=str(authority)) == BODY


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
    await writer.wait_closed()
