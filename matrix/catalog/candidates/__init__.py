"""Candidates: builds of torch and vLLM that are not published as final releases."""
