"""A tox-driven compatibility matrix for torch and vLLM."""
