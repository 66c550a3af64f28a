"""Faults that are injected for real; `tox -e faults` runs them, `tox -e unit` does not."""
