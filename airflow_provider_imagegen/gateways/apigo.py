"""APIGo, a gateway that copies OpenAI's synchronous image API and returns temporary URLs.

Source: https://docs.apigo.ai, page *OpenAI image generations*.
"""

from __future__ import annotations

from airflow_provider_imagegen.gateways.openai import OpenAIGateway


class ApiGoGateway(OpenAIGateway):
    """OpenAI's protocol at APIGo's address."""

    name = "apigo"
    hosts = ("maas.apigo.ai",)
