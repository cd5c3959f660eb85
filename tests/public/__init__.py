"""The public API and data formats as files, and the compatibility rule: ``python -m tests.public``."""
