"""Landing: from an untrusted address or base64 to a verified file, and with it to an object in S3.

``download`` fetches bytes from an untrusted address, ``verify`` decides whether they are an image, ``formats`` reads
such files without decoding them, ``provenance`` marks them as made by AI, and ``landing`` is what the engine calls.
"""

from airflow_provider_imagegen.landing.landing import ImageProcessing, Landing
from airflow_provider_imagegen.landing.verify import verify

__all__ = ["ImageProcessing", "Landing", "verify"]
