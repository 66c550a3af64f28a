"""vLLM's sources as a commit, a folder or a source distribution: where they are, what they are."""
