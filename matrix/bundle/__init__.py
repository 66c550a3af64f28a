"""Cells for machines without a network."""
