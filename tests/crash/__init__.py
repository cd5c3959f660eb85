"""Crash tests: workers are killed at every point where they have a side effect."""
