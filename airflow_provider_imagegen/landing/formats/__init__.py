"""The anatomy of picture files: where their parts begin and end, and whether all of them are there."""
