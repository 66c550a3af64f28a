"""Advice in words, and as JSON: which pair to take, and what an upgrade changes."""
