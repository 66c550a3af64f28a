"""Upstream's own numbers: the startup tests of vLLM's releases, read and held against our rules."""
