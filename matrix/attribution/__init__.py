"""Whose change a failure or a difference is, and since when."""
