"""The ``airflow imagegen`` commands."""
