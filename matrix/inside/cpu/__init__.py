"""The CPU platform: vLLM-compile's real path without a GPU, on the wheels of GPU users."""
