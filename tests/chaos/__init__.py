"""``make chaos``: a whole Airflow, its processes killed at random, and the audit of what was paid for meanwhile."""
