"""Build vLLM from its sources without compiling: the rung *builds*."""
