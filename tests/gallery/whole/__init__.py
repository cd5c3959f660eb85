"""Tests that need a whole Airflow; ``test_in_airflow`` collects them."""
