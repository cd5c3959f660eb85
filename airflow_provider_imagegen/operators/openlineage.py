"""OpenLineage facets: which objects a task read and which it landed; for Airflow's OpenLineage listener."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.openlineage.facet import (
    InputDataset,
    OutputDataset,
    OutputStatisticsOutputDatasetFacet,
)
from airflow.providers.openlineage.extractors import OperatorLineage

from airflow_provider_imagegen.schemas.batch import BatchSummary
from airflow_provider_imagegen.storage.destination import split_uri

if TYPE_CHECKING:
    from airflow_provider_imagegen.schemas import LandedImage, Manifest


def lineage_of(result: Manifest | BatchSummary | None, inputs: Iterable[str]) -> OperatorLineage[Any, Any]:
    """Return the datasets of a finished task.

    Every image is a dataset of its own; of a batch, however large, the prefix and its manifest are.
    """
    outputs: list[OutputDataset] = []
    if isinstance(result, BatchSummary):
        # A dataset for each of thousands of images would make one event of megabytes.
        outputs = [_prefix(result), _dataset(result.manifest_uri)]
    elif result is not None:
        outputs = [_image(image) for image in result.images]
    return OperatorLineage(inputs=[InputDataset(*_parted(uri)) for uri in dict.fromkeys(inputs)], outputs=outputs)


def _image(image: LandedImage) -> OutputDataset:
    statistics = OutputStatisticsOutputDatasetFacet(size=image.bytes, fileCount=1)
    return _dataset(image.uri, statistics)


def _prefix(summary: BatchSummary) -> OutputDataset:
    statistics = OutputStatisticsOutputDatasetFacet(rowCount=summary.rows, fileCount=summary.images)
    return _dataset(summary.manifest_uri.rpartition("/")[0], statistics)


def _dataset(uri: str, statistics: OutputStatisticsOutputDatasetFacet | None = None) -> OutputDataset:
    namespace, name = _parted(uri)
    return OutputDataset(namespace, name, outputFacets={"outputStatistics": statistics} if statistics else {})


def _parted(uri: str) -> tuple[str, str]:
    bucket, key = split_uri(uri)
    return f"s3://{bucket}", key or "/"
