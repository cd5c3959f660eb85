"""``make hostile``: a gateway that attacks a whole Airflow for minutes, and what others notice of it meanwhile."""
