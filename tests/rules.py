"""Expectations that several tests judge by, and what they are asked with."""

from collections.abc import Mapping

from matrix.record.model import Platform
from matrix.record.startup_tests import STARTUP_TESTS_VERSION
from matrix.rules.expectations import Expected, Situation
from matrix.rules.expectations_file import parse_expectations

MEGA = "VLLM_USE_MEGA_AOT_ARTIFACT"
SAVED = "num_compiled_artifacts_saved"
LOADED = "num_compiled_artifacts_loaded"
TOTAL = "aot_autograd.total"
HIT = "aot_autograd.autograd_cache_hit"
MISS = "aot_autograd.autograd_cache_miss"


def cold_and_warm(where: str, cold: Mapping[str, int], warm: Mapping[str, int]) -> str:
    """Return a rule for the cold start and one for the warm start, as TOML.

    `where` holds the keys that both have, a line each; `cold` and `warm` what the starts count.
    """
    return "".join(
        f'''
[[rule]]
id = "{start}"
{where}
start = "{start}"
counters = {{ {", ".join(f"{counter} = {value}" for counter, value in counts.items())} }}
evidence = ["a record"]
'''
        for start, counts in (("cold", cold), ("warm", warm))
    )


ANY_CASE_TEXT = cold_and_warm('vllm = "<99"', {SAVED: 3}, {SAVED: 0})
ANY_CASE = parse_expectations(ANY_CASE_TEXT, "rules.toml")
"""Every case saves 3 artifacts in a cold start and none in a warm one."""
MOE_TEXT = cold_and_warm('case = "moe"\nvllm = "<99"', {SAVED: 3}, {SAVED: 0, LOADED: 3})
MOE = parse_expectations(MOE_TEXT, "rules.toml")
"""The case `moe` saves 3 artifacts in a cold start, and loads them in a warm one."""


def situation(
    case: str = "moe_startup[mega_aot=1]",
    platform: str = "cuda",
    torch: str = "2.10.0",
    vllm: str = "0.19.1",
    flags: dict[str, object] | None = None,
) -> Situation:
    return Situation(
        case=case,
        platform=Platform(platform),
        torch=torch,
        vllm=vllm,
        flags=flags or {},
        tests=STARTUP_TESTS_VERSION,
    )


def values(found: Mapping[str, Expected]) -> dict[str, int]:
    return {counter: expected.value for counter, expected in found.items()}
