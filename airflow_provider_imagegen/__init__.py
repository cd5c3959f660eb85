"""Apache Airflow provider for image generation.

Import the operators, hooks and triggers from their own modules; nothing heavy happens here.
"""

__version__ = "0.1.0"
