"""The engine: plan, claim, submit once, recover, deliver, sum up; without Airflow."""
