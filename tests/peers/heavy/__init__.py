"""Peers of hundreds of megabytes, for `make peers`."""
