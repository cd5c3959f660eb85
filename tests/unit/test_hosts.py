"""Allowed addresses of result hosts, and notations of hosts; decisions only."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.landing.download.hosts import Place, ResultHosts, is_public, normal_host

PUBLIC = ["93.184.216.34", "8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:2800::1", "2a00:1450:4001::1"]
NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
    *("168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1"),
    *("192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255"),
    *("240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:0:127.0.0.1", "::ffff:10.0.0.1"),
    *("::8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "100::1", "2001::1", "2001:2::1"),
    *("2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "5f00::1"),
    *("fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "4000::1", "2606:2800::1%1"),
]
METADATA = [
    *("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
    *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fe80::1", "fe80::a9fe:a9fe%eth0"),
    *("::ffff:169.254.169.254", "::ffff:100.100.100.200", "64:ff9b::a9fe:a9fe", "64:ff9b::168.63.129.16"),
    *("64:ff9b:1::a9fe:a9fe", "::a9fe:a9fe", "::ffff:0:169.254.169.254", "2002:a9fe:a9fe::1"),
]
NETWORKS_OF_EMBEDDED = {
    "mapped": lambda inner: IPv6Address(f"::ffff:{inner}"),
    "compatible": lambda inner: IPv6Address(f"::{inner}"),
    "translated": lambda inner: IPv6Address(f"::ffff:0:{inner}"),
    "6to4": lambda inner: IPv6Address((0x2002 << 112) | (int(inner) << 80) | 1),
    "Teredo server": lambda inner: IPv6Address((0x20010000 << 96) | (int(inner) << 64)),
    "Teredo client": lambda inner: IPv6Address((0x20010000 << 96) | (0x08080808 << 64) | (int(inner) ^ 0xFFFFFFFF)),
    "NAT64": lambda inner: IPv6Address(f"64:ff9b::{inner}"),
    "local NAT64": lambda inner: IPv6Address(f"64:ff9b:1::{inner}"),
}


def hosts(*listed: str, base_url: str = "https://gateway.example/v1") -> ResultHosts:
    return ResultHosts.of(GatewaySettings(base_url=base_url, token="t", private_result_hosts=listed))


def refused(
    known: ResultHosts, *addresses: str, host: str = "cdn.example", port: int = 443, scheme: str = "https"
) -> object:
    return known.first_refused(scheme, host, port, map(ip_address, addresses))


class TestPublicAddress:
    def test_may_be_connected_to(self) -> None:
        addresses = [*PUBLIC, "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
        assert [address for address in addresses if not is_public(ip_address(address))] == []

    def test_is_none_that_stays_inside(self) -> None:
        assert [address for address in NOT_PUBLIC if is_public(ip_address(address))] == []

    @given(st.ip_addresses(v=4))
    def test_is_what_python_calls_global_too(self, address: IPv4Address) -> None:
        if is_public(address):
            assert address.is_global
            assert not address.is_multicast

    @given(st.ip_addresses(v=6))
    def test_is_global_in_ipv6_too(self, address: IPv6Address) -> None:
        if is_public(address) and address.ipv4_mapped is None:
            assert address.is_global
            assert not address.is_multicast

    @given(st.ip_addresses(v=4) | st.sampled_from([IPv4Address(text) for text in NOT_PUBLIC if ":" not in text]))
    def test_hides_no_private_one(self, inner: IPv4Address) -> None:
        if not is_public(inner):
            assert not [form for form, embed in NETWORKS_OF_EMBEDDED.items() if is_public(embed(inner))]


class TestSpelling:
    @pytest.mark.parametrize(
        ("spelled", "normal"),
        [
            ("Results.Example.", "results.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("my_bucket.s3.example", "my_bucket.s3.example"),
            ("2130706433", "127.0.0.1"),
            ("0x7f.1", "127.0.0.1"),
            ("0177.0.0.1", "127.0.0.1"),
            ("127.1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("１２７。０．０｡1", "127.0.0.1"),
            ("①②⑦.0.0.1", "127.0.0.1"),
            ("::FFFF:7F00:1", "::ffff:7f00:1"),
            ("0:0:0:0:0:0:0:1", "::1"),
        ],
    )
    def test_has_one_normal_form(self, spelled: str, normal: str) -> None:
        assert (
            ip_address(normal_host(spelled)) == ip_address(normal) if ":" in normal else normal_host(spelled) == normal
        )

    @pytest.mark.parametrize(
        "host", ["", ".", "a..b", "a b", "127.0.0.1%00.example", "%31.0.0.1", "1.2.3.4.5", "09.1.1.1", "a.0x", "a" * 64]
    )
    def test_that_names_no_host_is_refused(self, host: str) -> None:
        with pytest.raises(ValueError, match=r"its host is a number|it names no host"):
            normal_host(host)

    @given(st.text())
    def test_is_normal_or_refused(self, host: str) -> None:
        try:
            normal = normal_host(host)
        except ValueError:
            return
        assert normal.isascii()
        assert normal_host(normal) == normal


class TestAddressTakenApart:
    def test_has_no_user_name_and_no_fragment(self) -> None:
        place = Place.of("HTTPS://bob:pw@Results.Example:8443/a b?x=1#top")
        assert (place.scheme, place.authority, place.target) == ("https", "results.example:8443", "/a%20b?x=1")

    @pytest.mark.parametrize(
        ("url", "authority"),
        [("http://h:80", "h"), ("https://h:80", "h:80"), ("http://[2606:2800::1]:81", "[2606:2800::1]:81")],
    )
    def test_names_host_and_port(self, url: str, authority: str) -> None:
        assert Place.of(url).authority == authority

    @pytest.mark.parametrize(
        "url", ["", "h", "//h", "ftp://h", "http://", "http:h", "http://h:0", "http://h:pw/", "http://[::1"]
    )
    def test_is_refused_when_it_is_none(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"\w+") as caught:
            Place.of(url)
        assert "pw" not in str(caught.value)

    @given(st.text())
    def test_of_anything_is_a_place_or_refused(self, url: str) -> None:
        try:
            place = Place.of(f"http://{url}")
        except ValueError:
            return
        assert place.target.isascii()
        assert place.target.isprintable()
        assert " " not in place.target


class TestListedHosts:
    def test_are_names_addresses_and_networks(self) -> None:
        known = hosts("Minio.Local", "10.1.2.3", "fd00::/8", "192.168.7.0/24")
        assert refused(known, "10.9.9.9", host="minio.local", port=9000) is None
        assert refused(known, "10.1.2.3", "fd00::5", "192.168.7.9") is None
        assert refused(known, "10.1.2.3", "10.1.2.4") == ip_address("10.1.2.4")
        assert known.lists("minio.local")
        assert known.lists("10.1.2.3")
        assert not known.lists("minio.local.example")

    def test_cover_the_mapped_form_of_their_address_and_no_other(self) -> None:
        known = hosts("10.1.2.3")
        assert refused(known, "::ffff:10.1.2.3") is None
        assert refused(known, "64:ff9b::10.1.2.3") is not None

    @pytest.mark.parametrize("base_url", ["http://127.0.0.1:8790/v1", "http://LocalHost.:8790", "http://[::1]:1"])
    def test_have_the_gateways_own_among_them(self, base_url: str) -> None:
        own = {"http://127.0.0.1:8790/v1": "127.0.0.1", "http://[::1]:1": "::1"}.get(base_url, "localhost")
        known = hosts(base_url=base_url)
        port = 1 if base_url.endswith(":1") else 8790
        assert refused(known, "127.0.0.1", scheme="http", host=own, port=port) is None
        assert refused(known, "127.0.0.1", scheme="http", host="127.0.0.2", port=port) is not None

    def test_is_exempt_at_its_own_port_only(self) -> None:
        known = hosts(base_url="http://127.0.0.1:8790")
        assert refused(known, "127.0.0.1", scheme="http", host="127.0.0.1", port=8791) is not None

    def test_is_exempt_with_its_own_scheme_only(self) -> None:
        known = hosts(base_url="https://127.0.0.1:8790")
        assert refused(known, "127.0.0.1", scheme="http", host="127.0.0.1", port=8790) is not None

    @pytest.mark.parametrize("address", METADATA)
    def test_is_not_exempt_where_clouds_serve_credentials(self, address: str) -> None:
        known = hosts("fd00::/8", "100.64.0.0/10", base_url="http://gw")
        own = {"scheme": "http", "host": "gw", "port": 80}
        assert refused(known, "10.0.0.1", **own) is None
        assert refused(known, "10.0.0.1", address, **own) == ip_address(address)
        assert refused(known, address) == ip_address(address)

    def test_may_be_such_an_address_if_it_is_listed_by_itself(self) -> None:
        assert refused(hosts("169.254.169.254"), "169.254.169.254") is None
