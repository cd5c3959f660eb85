"""The gallery: pages in Airflow's UI that show the images which the operators landed."""
