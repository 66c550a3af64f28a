"""Whether a cell's requirements resolve."""
