"""The price list of one connection: what a response cost, and what a request will cost at most.

The connection's own prices go before those that the vendor lists: the ``genai-prices`` library's, from the data that it
ships, without a network. What has no price has none: never nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from urllib.parse import urlsplit

from airflow_provider_imagegen.catalog.prices import ANY_MODEL, PerImage, PerToken, Price
from airflow_provider_imagegen.catalog.tokens import Tokens, chosen, most_tokens, tokens_of
from airflow_provider_imagegen.money import rounded
from airflow_provider_imagegen.schemas import ImageRequest

USD = "USD"
OPENAI = "openai"
"""The one vendor among the gateways whose prices the library knows."""

_HOSTS = {"api.openai.com": OPENAI}
_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True)
class Listed:
    """The prices that a vendor lists for a model, in USD."""

    vendor: str
    model: str

    def of(self, tokens: Tokens) -> Decimal | None:
        """Return what so many tokens cost, or ``None`` if the library cannot tell."""
        # Here, because the library takes some tenths of a second to import, and most connections never ask it.
        from genai_prices import Usage, calc_price

        usage = Usage(
            input_tokens=tokens.input_text + tokens.input_image,
            input_image_tokens=tokens.input_image,
            output_tokens=tokens.output_text + tokens.output_image,
            output_image_tokens=tokens.output_image,
        )
        try:
            return calc_price(usage, self.model, provider_id=self.vendor).total_price
        except (LookupError, ValueError, ArithmeticError):
            # Unknown, not free: a budget must refuse what has no price.
            return None


def vendor_of(base_url: str) -> str | None:
    """Return the vendor to whom a gateway's address belongs, or ``None``."""
    return _HOSTS.get(urlsplit(base_url).hostname or "")


@cache
def listed(vendor: str, model: str) -> Listed | None:
    """Return what a vendor lists for a model, also one with prefix or date; ``None`` if the library has no price."""
    name = model.rpartition("/")[2]
    for candidate in dict.fromkeys((name, _DATE.sub("", name))):
        price = Listed(vendor, candidate)
        if price.of(Tokens(input_text=1, output_image=1)):
            return price
    return None


@dataclass(frozen=True)
class PriceList:
    """Prices of one connection.

    :param own: Prices by model, as the connection states them.
    :param vendor: Whose list prices hold for models without a price of their own; ``None`` for nobody's.
    """

    own: Mapping[str, Price] = field(default_factory=dict)
    currency: str = USD
    vendor: str | None = None

    def cost(
        self, request: ImageRequest, made: int, usage: Mapping[str, object], reported: Mapping[str, str] | None = None
    ) -> Decimal | None:
        """Return what a response cost, or ``None`` if that is not known.

        :param made: Number of images that came.
        :param usage: Token counts as the gateway reports them.
        :param reported: What the gateway says it generated: ``size``, ``quality``.
        """
        price = self._price_of(request.model)
        if not isinstance(price, PerImage):
            return _cost_of(tokens_of(usage), price)
        candidates = price.candidates(*_case(request, reported or {}))
        # The model chose, and did not say what: any of several prices would be a guess.
        only = next(iter(candidates)) if len(candidates) == 1 else None
        return None if only is None else rounded(only * made)

    def estimate(self, request: ImageRequest) -> Decimal | None:
        """Return what a request for ``n`` images will cost at most, or ``None`` if that is not known.

        Where size or quality are the model's choice, the dearest that has a price counts.
        """
        price = self._price_of(request.model)
        if not isinstance(price, PerImage):
            return _cost_of(most_tokens(request), price)
        candidates = [each for each in price.candidates(*_case(request, {})) if each is not None]
        return rounded(max(candidates) * request.n) if candidates else None

    def _price_of(self, model: str | None) -> PerImage | PerToken | Listed | None:
        names = (model, model.rpartition("/")[2]) if model else ()
        own = next((self.own[name] for name in (*names, ANY_MODEL) if name in self.own), None)
        # Vendors list in USD: beside prices in another currency they would be added up as if they were the same.
        if own is not None or self.vendor is None or not model or self.currency != USD:
            return own
        return listed(self.vendor, model)


def _case(request: ImageRequest, reported: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return size and quality of what is generated, as far as they are known."""
    resolution = request.extra.get("resolution")
    size = request.size or (resolution if isinstance(resolution, str) else None)
    return chosen(size) or chosen(reported.get("size")), chosen(request.quality) or chosen(reported.get("quality"))


def _cost_of(tokens: Tokens | None, price: PerToken | Listed | None) -> Decimal | None:
    amount = None if tokens is None or price is None else price.of(tokens)
    return None if amount is None else rounded(amount)
