"""Failure modes and how they are handled: one class for every failure that the provider must survive."""
