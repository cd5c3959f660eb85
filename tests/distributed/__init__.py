"""The provider in an Airflow that is distributed: Celery workers, triggerers and schedulers that share nothing."""
