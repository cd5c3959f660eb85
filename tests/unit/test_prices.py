"""Prices as a connection states them, and the price list that is made of them and of what vendors list."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_imagegen.catalog.price_list import PriceList
from airflow_provider_imagegen.catalog.prices import Case, PerImage, PerToken, read_prices
from airflow_provider_imagegen.engine.plan import split
from airflow_provider_imagegen.exceptions import ConfigurationError
from airflow_provider_imagegen.gateways import gateway_for
from airflow_provider_imagegen.schemas import EditRequest, ImageRequest, ImageSource
from tests.unit.test_connection import read

SIZES = st.sampled_from(["1024x1024", "1792x1024", "512x512"])
QUALITIES = st.sampled_from(["hd", "standard", "low"])
PRICES = st.decimals("0", "9", places=3)
CASES = st.builds(Case, st.none() | SIZES, st.none() | QUALITIES)
BY_SIZE = {"per_image": {"1024x1024:hd": "0.08", "1792x1024:hd": "0.12", "default": "0.04"}}
USAGE = {"input_tokens": 50, "output_tokens": 1056, "input_tokens_details": {"text_tokens": 50, "image_tokens": 0}}


def asked(model: str | None = "dall-e-3", **fields: Any) -> ImageRequest:
    return ImageRequest.checked({"prompt": "x" * 50, "model": model} | fields)


def priced(prices: object, **fields: Any) -> PriceList:
    return PriceList(read_prices(prices), **fields)


class TestReading:
    def test_one_price_per_image(self) -> None:
        assert read_prices({"m": {"per_image": "0.04"}}) == {"m": PerImage(((Case(), Decimal("0.04")),))}

    def test_by_size_and_quality(self) -> None:
        given_prices = {"1024x1024:hd": "0.08", "1792x1024": 0.09, "HD": "0.1", "4K": 1, "default": "0.04"}
        assert read_prices({"m": {"per_image": given_prices}})["m"] == PerImage(
            (
                (Case("1024x1024", "hd"), Decimal("0.08")),
                (Case("1792x1024"), Decimal("0.09")),
                (Case(quality="hd"), Decimal("0.1")),
                (Case("4k"), Decimal(1)),
                (Case(), Decimal("0.04")),
            )
        )

    def test_per_million_tokens(self) -> None:
        given_prices = {"input_tokens": "5", "output_tokens": 40, "input_image_tokens": "10"}
        assert read_prices({"m": given_prices})["m"] == PerToken(Decimal(5), Decimal(40), Decimal(10))

    @pytest.mark.parametrize(
        ("prices", "words"),
        [
            ("0.04", "an object of prices by model"),
            (["0.04"], "an object of prices by model"),
            ({"": {"per_image": 1}}, "each with a name"),
            ({"m": "0.04"}, "for 'm', an object with per_image, or input_tokens and output_tokens"),
            ({"m": {}}, "for 'm', per_image, or input_tokens and output_tokens"),
            ({"m": {"per_image": 1, "output_tokens": 1}}, "for 'm', per_image, or"),
            ({"m": {"output_tokens": 1}}, "for 'm', per_image, or"),
            ({"m": {"per_call": 1}}, "for 'm', per_image, or"),
            ({"m": {"per_image": "cheap"}}, "for 'm', per_image, an amount like '0.042'"),
            ({"m": {"per_image": {}}}, "for 'm', a price per image"),
            ({"m": {"per_image": {"hd": "-1"}}}, "for 'm', per_image 'hd', an amount like '0.042'"),
            ({"m": {"per_image": {"auto": "1"}}}, "not by 'auto'"),
            ({"m": {"per_image": {"hd:1024x1024": "1"}}}, "not by 'hd:1024x1024'"),
            ({"m": {"per_image": {"hd:low": "1"}}}, "not by 'hd:low'"),
            ({"m": {"per_image": {"HD": "1", "hd": "2"}}}, "one price per image for each size and quality"),
            ({"m": {"input_tokens": "1", "output_tokens": None}}, "for 'm', output_tokens, an amount like"),
        ],
    )
    def test_says_where_it_is_wrong(self, prices: object, words: str) -> None:
        with pytest.raises(ConfigurationError, match=r"invalid extra .prices. .expected") as caught:
            read(extra={"prices": prices if not isinstance(prices, str) else json.dumps(prices)})
        assert words in str(caught.value)

    @given(st.recursive(st.none() | st.text() | st.floats(), lambda one: st.dictionaries(st.text(), one), max_leaves=8))
    def test_reads_or_refuses_anything(self, prices: object) -> None:
        try:
            settings = read(extra={"prices": prices})
        except ConfigurationError:
            return
        assert isinstance(settings.prices, dict)

    def test_takes_the_json_of_a_form(self) -> None:
        assert read(extra={"prices": '{"m": {"per_image": "1"}}'}).prices == read_prices({"m": {"per_image": 1}})


class TestConnection:
    def test_currency_is_usd_unless_it_says_otherwise(self) -> None:
        assert read().currency == "USD"
        assert read(extra={"currency": "eur"}).price_list.currency == "EUR"

    @pytest.mark.parametrize(
        "extra",
        [{"currency": "€"}, {"currency": 5}, {"list_prices": "often"}, {"list_prices": True, "currency": "EUR"}],
    )
    def test_is_refused_by_name(self, extra: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match=f'extra "{next(iter(extra))}"'):
            read(extra=extra)

    @pytest.mark.parametrize(
        ("host", "extra", "vendor"),
        [
            ("https://api.openai.com/v1", {}, "openai"),
            ("https://api.openai.com", {"list_prices": False}, None),
            ("https://api.openai.com.evil.example", {}, None),
            ("https://api.acedata.cloud", {}, None),
            ("https://proxy.example", {"list_prices": True}, "openai"),
        ],
    )
    def test_list_prices_hold_at_the_vendor_or_on_request(
        self, host: str, extra: dict[str, Any], vendor: str | None
    ) -> None:
        assert read(host=host, extra=extra).price_list.vendor == vendor


class TestPerImage:
    @given(st.dictionaries(CASES, PRICES, max_size=6), SIZES, QUALITIES)
    def test_of_what_is_known_has_one_price_the_most_exact(
        self, entries: dict[Case, Decimal], size: str, quality: str
    ) -> None:
        candidates = PerImage(tuple(entries.items())).candidates(size, quality)
        cases = [Case(size, quality), Case(size), Case(None, quality), Case()]
        assert candidates == {next((entries[case] for case in cases if case in entries), None)}

    @given(st.dictionaries(CASES, PRICES, max_size=6), st.none() | SIZES, st.none() | QUALITIES, SIZES, QUALITIES)
    def test_of_what_is_not_known_covers_whatever_it_turns_out_to_be(
        self, entries: dict[Case, Decimal], size: str | None, quality: str | None, real_size: str, real_quality: str
    ) -> None:
        price = PerImage(tuple(entries.items()))
        assert price.candidates(size or real_size, quality or real_quality) <= price.candidates(size, quality)


class TestPriceList:
    @pytest.mark.parametrize(
        ("fields", "estimate", "cost"),
        [
            ({"size": "1024x1024", "quality": "hd"}, "0.08", "0.08"),
            ({"size": "1024x1024", "quality": "standard"}, "0.04", "0.04"),
            ({"size": "1024x1024"}, "0.08", None),
            ({"size": "auto", "quality": "hd"}, "0.12", None),
            ({}, "0.12", None),
        ],
    )
    def test_a_choice_of_the_model_is_estimated_at_the_highest_price_and_has_unknown_cost(
        self, fields: dict[str, Any], estimate: str, cost: str | None
    ) -> None:
        prices = priced({"dall-e-3": BY_SIZE})
        assert prices.estimate(asked(**fields)) == Decimal(estimate)
        assert prices.cost(asked(**fields), 1, {}) == (None if cost is None else Decimal(cost))

    def test_what_the_gateway_says_it_drew_is_known(self) -> None:
        prices = priced({"dall-e-3": BY_SIZE})
        assert prices.cost(asked(), 2, {}, {"size": "1792x1024", "quality": "hd"}) == Decimal("0.24")

    def test_resolution_is_a_size(self) -> None:
        prices = priced({"nano-banana-pro": {"per_image": {"4K": "0.24", "default": "0.134"}}})
        assert prices.cost(asked("nano-banana-pro", extra={"resolution": "4K"}), 1, {}) == Decimal("0.24")
        assert prices.cost(asked("nano-banana-pro", extra={"resolution": "1K"}), 1, {}) == Decimal("0.134")

    def test_names_match_with_and_without_prefix_and_a_star_means_all_others(self) -> None:
        prices = priced({"gpt-image-1": {"per_image": 1}, "acme/gpt-image-1": {"per_image": 2}, "*": {"per_image": 3}})
        models = ["gpt-image-1", "openai/gpt-image-1", "acme/gpt-image-1", "flux", None]
        assert [prices.estimate(asked(model)) for model in models] == [1, 1, 2, 3, 3]

    def test_a_price_of_nothing_is_a_price(self) -> None:
        assert priced({"*": {"per_image": 0}}).cost(asked(), 4, {}) == 0

    def test_unknown_is_unknown(self) -> None:
        assert PriceList().estimate(asked()) is None
        assert PriceList().cost(asked(), 1, USAGE) is None
        assert priced({"other": {"per_image": 1}}).estimate(asked()) is None

    def test_tokens_cost_what_was_used(self) -> None:
        prices = priced({"m": {"input_tokens": "5", "input_image_tokens": "10", "output_tokens": "40"}})
        usage = {"input_tokens": 373, "output_tokens": 1056, "input_tokens_details": {"image_tokens": 323}}
        assert prices.cost(asked("m"), 1, usage) == Decimal("0.04572")

    @pytest.mark.parametrize(
        "usage",
        [
            {},
            {"input_tokens": 5},
            {"input_tokens": "5", "output_tokens": 5},
            {"input_tokens": 5, "output_tokens": -1},
            {"input_tokens": True, "output_tokens": 10**30},
        ],
    )
    def test_unreported_tokens_have_unknown_cost(self, usage: dict[str, Any]) -> None:
        prices = priced({"m": {"input_tokens": "5", "output_tokens": "40"}})
        assert prices.cost(asked("m"), 1, usage) is None

    @given(
        st.dictionaries(
            st.sampled_from(["input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details"]),
            st.integers()
            | st.none()
            | st.text()
            | st.dictionaries(st.sampled_from(["image_tokens", "text_tokens"]), st.integers()),
        ),
        st.sampled_from(["gpt-image-1", "gpt-image-1.5", "gpt-image-2", "mine"]),
    )
    def test_any_report_of_a_gateway_has_a_cost_or_an_unknown_cost(self, usage: dict[str, Any], model: str) -> None:
        prices = priced({"mine": {"input_tokens": "5", "output_tokens": "40"}}, vendor="openai")
        cost = prices.cost(asked(model), 1, usage)
        assert cost is None or cost >= 0


class TestListPrices:
    OPENAI = PriceList(vendor="openai")

    @pytest.mark.parametrize(
        ("model", "cost"),
        [
            ("gpt-image-1", "0.04249"),
            ("gpt-image-1-mini", "0.008548"),
            ("gpt-image-1.5", "0.034042"),
            ("gpt-image-2", "0.03193"),
            ("openai/gpt-image-1", "0.04249"),
            ("gpt-image-1-2025-04-23", "0.04249"),
            ("dall-e-3", None),
            ("gpt-image-1-turbo", None),
            (None, None),
        ],
    )
    def test_are_those_of_the_library(self, model: str | None, cost: str | None) -> None:
        assert self.OPENAI.cost(asked(model), 1, USAGE) == (None if cost is None else Decimal(cost))

    @pytest.mark.parametrize(
        ("fields", "estimate"),
        [
            ({"size": "1024x1024", "quality": "low"}, "0.01113"),
            ({"size": "1536x1024", "quality": "medium"}, "0.06297"),
            ({"size": "1024x1024", "quality": "high", "n": 2}, "0.33305"),
            ({"quality": "low"}, "0.01657"),
            ({"size": "auto", "quality": "auto"}, "0.24985"),
            ({"size": "1024x1024", "quality": "low", "stream": True, "partial_images": 2}, "0.01913"),
            ({"size": "64x64", "quality": "low"}, None),
            ({"quality": "max"}, None),
        ],
    )
    def test_estimate_takes_the_published_tokens(self, fields: dict[str, Any], estimate: str | None) -> None:
        expected = None if estimate is None else Decimal(estimate)
        assert self.OPENAI.estimate(asked("gpt-image-1", **fields)) == expected

    @pytest.mark.parametrize("model", ["gpt-image-1-mini", "gpt-image-2", "chatgpt-image-latest", "dall-e-3"])
    def test_nothing_is_estimated_where_no_tokens_are_published(self, model: str) -> None:
        assert self.OPENAI.estimate(asked(model)) is None

    def test_nor_for_images_that_are_sent_along(self) -> None:
        edit = EditRequest(prompt="p", model="gpt-image-1", images=(ImageSource(url="https://a.example/a.png"),))
        assert self.OPENAI.estimate(edit) is None

    def test_connection_s_own_price_goes_first(self) -> None:
        prices = PriceList(read_prices({"gpt-image-1": {"per_image": "1"}}), vendor="openai")
        assert prices.cost(asked("gpt-image-1"), 1, USAGE) == 1

    def test_hold_in_usd_only(self) -> None:
        assert PriceList(currency="EUR", vendor="openai").cost(asked("gpt-image-1"), 1, USAGE) is None

    @given(st.text(max_size=2000).filter(str.strip), st.integers(1, 10))
    def test_estimate_grows_with_what_is_asked(self, prompt: str, count: int) -> None:
        fields = {"prompt": prompt, "model": "gpt-image-1", "size": "1024x1024", "quality": "low", "n": count}
        estimate = self.OPENAI.estimate(ImageRequest.checked(fields))
        assert estimate is not None
        assert estimate >= Decimal("0.01088") * count

    def test_calls_of_a_request_cost_together_what_it_does(self) -> None:
        gateway = gateway_for(read(extra={"gateway": "acedatacloud", "prices": {"*": {"per_image": "0.03"}}}))
        request = asked("gpt-image-1", n=4)
        costs = [gateway.settings.price_list.estimate(part) for _, part in split(request, gateway)]
        assert costs == [Decimal("0.03")] * 4


LOOK = """
import socket, sys
def refuse(*args, **kwargs):
    raise SystemExit("the network was asked")
socket.getaddrinfo = refuse
socket.socket.connect = refuse
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.schemas import ImageRequest
request = ImageRequest(prompt="p", model="gpt-image-1", size="1024x1024", quality="low")
for base_url in sys.argv[1:]:
    settings = GatewaySettings(base_url=base_url, token="t" * 10)
    print(settings.price_list.estimate(request), "genai_prices" in sys.modules)
"""


class TestLibrary:
    def test_asks_no_network_and_is_loaded_only_where_it_counts(self) -> None:
        command = [sys.executable, "-c", LOOK, "https://api.acedata.cloud", "https://api.openai.com"]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert result.stdout.splitlines() == ["None False", "0.010885 True"]
