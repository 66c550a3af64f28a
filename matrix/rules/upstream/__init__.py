"""Upstream's own numbers, from the startup tests of vLLM, compared with the rules."""
