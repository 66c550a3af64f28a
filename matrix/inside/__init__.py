"""All that runs inside a cell."""
