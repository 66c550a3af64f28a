"""What tests of tox share."""

from toxed import server, tox

__all__ = ["server", "tox"]
