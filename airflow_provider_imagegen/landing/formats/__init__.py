"""The anatomy of image files: where their parts begin and end, and whether all of them are there."""

from airflow_provider_imagegen.landing.formats import gif, jpeg, png, webp
from airflow_provider_imagegen.landing.formats.parts import ImageFormat

FORMATS: tuple[ImageFormat, ...] = (png, jpeg, webp, gif)
"""Formats with pixels, which are accepted without being asked for."""
