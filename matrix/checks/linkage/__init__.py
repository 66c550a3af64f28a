"""Whether vLLM's extensions link against a torch."""
