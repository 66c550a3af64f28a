"""Advice: which pair to take on a machine, and what an upgrade changes."""
