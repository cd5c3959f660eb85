"""Proxies and certificates of the environment: used where they can be, else refused by the variable's name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_imagegen.exceptions import ConfigurationError
from airflow_provider_imagegen.gateways.client import ImageClient, tls_context
from airflow_provider_imagegen.gateways.environment import proxy_to
from airflow_provider_imagegen.gateways.settings import GatewaySettings

PROXY = "http://proxy.example:3128"


def settings(base_url: str = "https://api.example.com", proxy: str | None = None) -> GatewaySettings:
    return GatewaySettings(base_url=base_url, token="sesame-token", gateway="openai", proxy=proxy)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def forgotten_contexts() -> Iterator[None]:
    tls_context.cache_clear()
    yield
    tls_context.cache_clear()


class TestProxy:
    @pytest.mark.parametrize(
        ("name", "value"), [("HTTPS_PROXY", PROXY), ("https_proxy", PROXY), ("ALL_PROXY", "proxy.example:3128")]
    )
    def test_is_that_of_the_environment(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
        monkeypatch.setenv(name, value)
        assert proxy_to("https://api.example.com/v1", settings()) == PROXY

    def test_of_the_connection_goes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "http://other.example:1")
        assert proxy_to("https://api.example.com/v1", settings(proxy=PROXY)) == PROXY

    @pytest.mark.parametrize(
        ("no_proxy", "url"),
        [
            ("*", "https://api.example.com"),
            (".example.com", "https://api.example.com"),
            ("api.example.com:443", "https://api.example.com"),
            ("api.example.com:8443", "https://api.example.com:8443"),
            ("fd00::/8", "https://[fd12::5]:8443/v1"),
            ("internal.example, [fd12::5] ,10.0.0.0/8", "https://[fd12::5]:8443/v1"),
            ("[::1]", "https://[::1]"),
            ("::1", "https://[::1]"),
            ("10.0.0.0/8", "https://10.1.2.3/v1"),
        ],
    )
    def test_is_passed_by_where_no_proxy_says_so(
        self, monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", PROXY)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        assert proxy_to(url, settings()) is None
        assert no_proxy == "*" or proxy_to("https://elsewhere.example", settings()) == PROXY
        assert no_proxy == "*" or proxy_to("https://[fe00::1]", settings()) == PROXY

    @pytest.mark.parametrize("base_url", ["https://[fd12::5]/v1", "https://api.example.com", "http://[::1]:8790"])
    async def test_with_ipv6_networks_in_no_proxy_lets_a_client_open(
        self, monkeypatch: pytest.MonkeyPatch, base_url: str
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", PROXY)
        monkeypatch.setenv("NO_PROXY", "fd00::/8,[::1],::1,2001:db8::/32")
        async with ImageClient(settings(base_url)) as client:
            assert client.gateway.name == "openai"

    @pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
    @pytest.mark.parametrize(
        "value",
        [
            "socks5h://bob:hunter22@proxy.example:1080",
            "http://bob:hunt#hunter22@proxy.example:3128",
            "http://bob:1234#hunter22@proxy.example:3128",
            "http://bob:1234/hunter22@proxy.example:3128",
            "http://bob:hunter22@proxy.example:99999",
            "http://[::hunter22",
            "hunter22://",
        ],
    )
    async def test_that_cannot_be_used_is_refused_by_the_variables_name(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigurationError, match=f"environment variable {name.upper()} is no usable") as caught:
            async with ImageClient(settings()):
                raise AssertionError("it was opened")
        assert "hunter22" not in str(caught.value)
        assert caught.value.billed == "no"

    def test_that_cannot_be_used_does_not_matter_where_it_is_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example")
        monkeypatch.setenv("NO_PROXY", "api.example.com")
        assert proxy_to("https://api.example.com", settings()) is None


@pytest.mark.usefixtures("forgotten_contexts")
class TestCertificates:
    def test_that_are_missing_are_refused_by_the_variables_name(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "hunter22.pem"))
        with pytest.raises(ConfigurationError, match="environment variable SSL_CERT_FILE cannot be read") as caught:
            tls_context(True)
        assert "hunter22" not in str(caught.value)

    def test_that_are_none_are_refused_too(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text("no certificate")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with pytest.raises(ConfigurationError, match="environment variable SSL_CERT_FILE cannot be read"):
            tls_context(True)
