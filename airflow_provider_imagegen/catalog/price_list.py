"""The price list of one connection: what a response cost, and what a request will cost at most.

The connection's own prices go before those that the vendor lists. What has no price has none: never nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from airflow_provider_imagegen.catalog.list_prices import Listed, listed
from airflow_provider_imagegen.catalog.prices import ANY_MODEL, PerImage, PerToken, Price
from airflow_provider_imagegen.catalog.tokens import Tokens, chosen, most_tokens, tokens_of
from airflow_provider_imagegen.money import rounded
from airflow_provider_imagegen.schemas import ImageRequest

USD = "USD"


@dataclass(frozen=True)
class PriceList:
    """Prices of one connection.

    :param own: Prices by model, as the connection states them.
    :param currency: What they are in.
    :param vendor: Whose list prices hold for models without a price of their own; ``None`` for nobody's.
    """

    own: Mapping[str, Price] = field(default_factory=dict)
    currency: str = USD
    vendor: str | None = None

    def cost(
        self, request: ImageRequest, made: int, usage: Mapping[str, object], reported: Mapping[str, str] | None = None
    ) -> Decimal | None:
        """Return what a response cost, or ``None`` if that is not known.

        :param request: What was asked for.
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
