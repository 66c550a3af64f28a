"""Candidates here: add one, run its cells, time them in turns, and walk a line of them."""
