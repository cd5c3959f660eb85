"""Wheel and sdist, and what a user has who installs the wheel."""
