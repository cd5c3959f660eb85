"""Many images from one Airflow task: rows in, submitted, watched and landed within one budget, a summary out."""
