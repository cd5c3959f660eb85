"""Landing: from an untrusted address to a trustworthy S3 object.

Rooms: ``destination`` (where to), ``download`` (from where), ``pictures`` (is it one?), ``objects`` (into S3),
and ``landing``, which the job calls.
"""

from airflow_provider_imagegen.landing.destination import Destination
from airflow_provider_imagegen.landing.landing import Landing
from airflow_provider_imagegen.landing.objects import read_object
from airflow_provider_imagegen.landing.pictures import decode_base64, verify

__all__ = ["Destination", "Landing", "decode_base64", "read_object", "verify"]
