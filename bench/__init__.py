"""Reproducible load: `make bench` (or `python -m bench --help`). Reports, never asserts."""
