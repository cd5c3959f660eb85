"""The anatomy of image files: where their parts begin and end, and whether all of them are there."""
