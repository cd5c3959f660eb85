"""The whole product on one machine: emulator, S3, PostgreSQL and Airflow, for the demo and the end-to-end tests."""
