"""Clusters of Ray that start on this machine; `tox -e ray` runs them, `tox -e unit` does not."""
