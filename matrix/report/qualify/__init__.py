"""A qualification as text for a terminal, as Markdown for an umbrella issue, and as JSON."""
