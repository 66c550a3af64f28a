"""Which GPU code the wheels of torch and vLLM have, and for which chips it is."""
