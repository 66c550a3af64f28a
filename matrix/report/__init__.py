"""Verdicts shown: the table as Markdown and as JSON, and one record on a terminal."""
