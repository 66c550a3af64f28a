"""Attributions as sentences, as text for a terminal, as Markdown, and as JSON."""
