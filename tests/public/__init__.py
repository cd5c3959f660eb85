"""What users and other programs rely on, as files, and the rule by which it may change: ``python -m tests.public``."""
