"""The gallery: pages in Airflow's UI that show the pictures which the operators landed."""
