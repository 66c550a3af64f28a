"""Evidence without a run: what is declared, what resolves, what links."""
