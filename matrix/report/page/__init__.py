"""The table as one HTML page."""
