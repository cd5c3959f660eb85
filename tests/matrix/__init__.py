"""The suite on every Airflow and Python that is promised: ``make matrix``."""
