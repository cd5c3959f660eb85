"""The table of ``docs/models.md``, made from the catalog: ``python -m tests.docs.models_table`` prints it."""

from __future__ import annotations

import sys

from airflow_provider_imagegen.catalog.models import FIELDS_WITH_CHOICES, MODELS, KnownModel, SizeRule


def table() -> str:
    """Return all known models and what they take, as a Markdown table."""
    columns = (field.replace("_", " ").capitalize() for field in FIELDS_WITH_CHOICES if field != "size")
    head = ("Model", "Prompt", "Sizes", *columns, "Streams", "Images per call", "Shut down at the vendor")
    rows = [head, ("---",) * len(head), *(_row(model) for model in MODELS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(model: KnownModel) -> tuple[str, ...]:
    return (
        f"`{model.name}`" + (", `gpt-image-2.x-…`" if model.name == "gpt-image-2" else ""),
        "not known" if model.prompt_limit is None else f"{model.prompt_limit} characters",
        *(_cell(model, field) for field in FIELDS_WITH_CHOICES),
        {True: "yes", False: "no", None: "not known"}[model.streams],
        str(model.images_per_call),
        model.shut_down or "–",
    )


def _cell(model: KnownModel, field: str) -> str:
    if field in model.ignored:
        return "ignored"
    allowed = model.choices.get(field)
    if allowed is None:
        return "not known"
    return f"auto, or {allowed}" if isinstance(allowed, SizeRule) else ", ".join(allowed) or "–"


if __name__ == "__main__":
    sys.stdout.write(table())
