"""Landing: from an untrusted address to a trustworthy S3 object.

Rooms: ``fetching`` (bytes from an untrusted address), ``pictures`` and ``vector`` (is it one?), ``formats`` (how such
files are built), ``marking`` (made by AI), ``storing`` (into S3), and ``landing``, which the job calls.
"""

from airflow_provider_imagegen.landing.landing import Landing, Treatment
from airflow_provider_imagegen.landing.pictures import decode_base64, verify
from airflow_provider_imagegen.landing.storing.destination import Destination
from airflow_provider_imagegen.landing.storing.keys import default_prefix
from airflow_provider_imagegen.landing.storing.objects import read_object
from airflow_provider_imagegen.landing.storing.options import ObjectOptions

__all__ = [
    "Destination",
    "Landing",
    "ObjectOptions",
    "Treatment",
    "decode_base64",
    "default_prefix",
    "read_object",
    "verify",
]
