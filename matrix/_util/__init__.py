"""Helpers that know nothing of torch, vLLM or records: text, versions, files, processes."""
