"""A connection is read into settings, or refused in one line that names it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen.exceptions import ConfigurationError
from airflow_provider_imagegen.gateways import gateway_for
from airflow_provider_imagegen.gateways.settings import GatewaySettings


def read(**fields: Any) -> GatewaySettings:
    given_fields: dict[str, Any] = {
        "name": "connection 'c'",
        "host": "https://api.example.com",
        "scheme": None,
        "port": None,
        "token": "tok-123",
        "extra": {},
    }
    return GatewaySettings.from_fields(**(given_fields | fields))


class TestBaseUrl:
    @pytest.mark.parametrize(
        ("fields", "base_url"),
        [
            ({"host": "https://api.example.com/"}, "https://api.example.com"),
            ({"host": "https://api.example.com/v1/openai/"}, "https://api.example.com/v1/openai"),
            ({"host": "api.example.com", "scheme": "https"}, "https://api.example.com"),
            ({"host": "http://127.0.0.1", "port": 8790}, "http://127.0.0.1:8790"),
            ({"host": "http://127.0.0.1:1", "port": 8790}, "http://127.0.0.1:1"),
            ({"host": "http://[::1]:8790"}, "http://[::1]:8790"),
            ({"host": "HTTPS://API.Example.com:443/V1/"}, "https://api.example.com/V1"),
            ({"host": "http://api.example.com", "port": 80}, "http://api.example.com"),
            ({"host": "http://api.example.com:"}, "http://api.example.com"),
            ({"host": "http://api.example.com:443"}, "http://api.example.com:443"),
        ],
    )
    def test_keeps_scheme_host_port_and_prefix(self, fields: dict[str, Any], base_url: str) -> None:
        assert read(**fields).base_url == base_url

    @pytest.mark.parametrize(
        "host",
        [
            None,
            "",
            "http://[::1",
            "http://h:99999",
            "api.example.com",
            "ftp://api.example.com",
            "https://",
            "https://u:p@h",
            "https://h/?a=1",
            "http://:p@h",
            "http://@h",
        ],
    )
    def test_is_refused_when_it_is_none(self, host: str | None) -> None:
        with pytest.raises(ConfigurationError, match="connection 'c' has"):
            read(host=host)

    @pytest.mark.parametrize(
        "host",
        [
            "http://:{}@h",
            "https//u:{}@h",
            "https:/u:{}@h",
            "htps://u:{}@h",
            "u:{}@h",
            "https://u:{}%40h",
            "https://u:{}#@h",
            "https://u:{}/@h",
            "http://[u:{}@h",
            "https://h/?key={}",
        ],
    )
    def test_with_a_password_in_it_is_not_shown(self, host: str) -> None:
        with pytest.raises(ConfigurationError, match="connection 'c' has a host") as caught:
            read(host=host.format("hunter/22"))
        assert "hunter" not in str(caught.value)
        with pytest.raises(ConfigurationError, match="connection 'c' has a host") as caught:
            read(host=host.format("hunter22"))
        assert "hunter22" not in str(caught.value)

    def test_without_its_scheme_is_shown_with_it(self) -> None:
        with pytest.raises(ConfigurationError, match=r"write the scheme too, e\.g\. https://api\.example\.com"):
            read(host="api.example.com")


class TestToken:
    @pytest.mark.parametrize("token", [None, "", "  ", "tök", "a\nb"])
    def test_is_refused_when_no_header_can_carry_it(self, token: str | None) -> None:
        with pytest.raises(ConfigurationError, match="connection 'c' has") as caught:
            read(token=token)
        assert not token or token.strip() == "" or token not in str(caught.value)

    def test_is_not_in_the_settings_text(self) -> None:
        assert "tok-123" not in repr(read())


class TestExtra:
    @pytest.mark.parametrize(
        ("extra", "name", "value"),
        [
            ({"gateway": "acedatacloud"}, "gateway", "acedatacloud"),
            ({"account": "Shop/"}, "account", "Shop/"),
            ({"account": "https://API.example.com:443/"}, "account", "https://api.example.com"),
            ({"timeout": "30"}, "timeout", 30.0),
            ({"timeout": ""}, "timeout", None),
            ({"max_in_flight": 3}, "max_in_flight", 3),
            ({"headers": {"x-team": "a"}}, "headers", {"x-team": "a"}),
            ({"private_result_hosts": "A.local, b.local"}, "private_result_hosts", ("a.local", "b.local")),
            ({"private_result_hosts": ["a.local"]}, "private_result_hosts", ("a.local",)),
            (
                {"private_result_hosts": "10.1.2.3,fd00::/8, my_minio."},
                "private_result_hosts",
                ("10.1.2.3", "fd00::/8", "my_minio."),
            ),
            ({"allow_insecure_results": True}, "allow_insecure_results", True),
            ({"allow_insecure_results": "True"}, "allow_insecure_results", True),
            ({"allow_insecure_results": None}, "allow_insecure_results", False),
            ({}, "allow_insecure_results", False),
            ({"verify": "false"}, "verify", False),
            ({"verify": "/etc/ca.pem"}, "verify", "/etc/ca.pem"),
            ({"unheard_of": 1}, "verify", True),
            ({"submit_path": "/v1/images/generations"}, "submit_path", "/v1/images/generations"),
            ({"proxy": "http://bob:pw@proxy.local:3128"}, "proxy", "http://bob:pw@proxy.local:3128"),
            ({"visibility_grace": 5}, "visibility_grace", 5.0),
        ],
    )
    def test_is_read(self, extra: dict[str, Any], name: str, value: object) -> None:
        assert getattr(read(extra=extra), name) == value

    @pytest.mark.parametrize(
        "extra",
        [
            {"gateway": 1},
            {"account": 1},
            {"timeout": "soon"},
            {"timeout": -1},
            {"timeout": True},
            {"max_in_flight": 0},
            {"max_in_flight": 0.5},
            {"headers": ["x"]},
            {"headers": {"x": 1}},
            {"private_result_hosts": 5},
            {"private_result_hosts": "http://minio.local"},
            {"private_result_hosts": "http://bob:hunt/hunter22@minio.local"},
            {"private_result_hosts": "minio.local:9000"},
            {"private_result_hosts": "*.local"},
            {"private_result_hosts": "10.0.0.0/33"},
            {"allow_insecure_results": "sometimes"},
            {"allow_insecure_results": 1},
            {"verify": 3},
            {"submit_path": "v1/images"},
            {"submit_path": "@evil.example/x"},
            {"tasks_path": "//evil.example/x"},
            {"tasks_path": "/a?b"},
            {"headers": {"x y": "1"}},
            {"headers": {"x": "a\nb"}},
            {"headers": {"x": "ä"}},
            {"proxy": "bob:hunter22@proxy.local:3128"},
            {"proxy": "socks5://proxy.local"},
            {"proxy": "http://bob:1#hunter22@proxy.local:3128"},
            {"proxy": "http://[::1"},
            {"visibility_grace": 0},
        ],
    )
    def test_is_refused_by_name(self, extra: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match=f'extra "{next(iter(extra))}"') as caught:
            read(extra=extra)
        assert "hunter22" not in str(caught.value)

    @given(
        st.dictionaries(
            st.sampled_from(["gateway", "timeout", "headers", "max_in_flight", "private_result_hosts", "verify"]),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
        )
    )
    def test_anything_is_read_or_refused(self, extra: dict[str, Any]) -> None:
        try:
            settings = read(extra=extra)
        except ConfigurationError:
            return
        assert settings.max_in_flight >= 1


class TestGatewayOfAConnection:
    def test_is_inferred_from_the_host(self) -> None:
        assert gateway_for(read(host="https://api.acedata.cloud")).name == "acedatacloud"

    def test_unknown_name_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(
            ConfigurationError, match=r"invalid extra \"gateway\": 'acme' .expected one of .*acedatacloud"
        ):
            gateway_for(read(extra={"gateway": "acme"}))

    def test_host_that_tells_nothing_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"cannot infer the gateway from host 'api\.example\.com'"):
            gateway_for(read())
