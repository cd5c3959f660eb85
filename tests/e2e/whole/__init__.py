"""Tests that share one whole Airflow, one after the other: each looks at its own runs and prompts only."""
