"""Witnesses of hundreds of megabytes, for `make witnesses`."""
