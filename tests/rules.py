"""Expectations that several tests judge by."""

from matrix.rules.expectations_file import parse_expectations

ANY_CASE_TEXT = """
[[rule]]
id = "cold"
vllm = "<99"
start = "cold"
counters = { num_compiled_artifacts_saved = 3 }
evidence = ["a record"]

[[rule]]
id = "warm"
vllm = "<99"
start = "warm"
counters = { num_compiled_artifacts_saved = 0 }
evidence = ["a record"]
"""
ANY_CASE = parse_expectations(ANY_CASE_TEXT, "rules.toml")
"""Every case saves 3 artifacts in a cold start and none in a warm one."""
MOE_TEXT = """
[[rule]]
id = "cold"
case = "moe"
vllm = "<99"
start = "cold"
counters = { num_compiled_artifacts_saved = 3 }
evidence = ["a record"]

[[rule]]
id = "warm"
case = "moe"
vllm = "<99"
start = "warm"
counters = { num_compiled_artifacts_saved = 0, num_compiled_artifacts_loaded = 3 }
evidence = ["a record"]
"""
MOE = parse_expectations(MOE_TEXT, "rules.toml")
"""The case `moe` saves 3 artifacts in a cold start, and loads them in a warm one."""
