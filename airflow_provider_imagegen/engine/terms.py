"""How long a worker waits by itself."""

GRACE = 10.0
"""Seconds to wait in the worker before deferring; the shortest jobs never need to."""
