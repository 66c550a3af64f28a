"""The default of a flag is read in upstream's source, for each torch that it depends on."""

import pytest

from matrix.rules.upstream.tests import read_flag

FLAG = "VLLM_USE_MEGA_AOT_ARTIFACT"


@pytest.mark.parametrize(
    ("source", "default"),
    [
        (f'"{FLAG}": lambda: os.environ.get("{FLAG}", "0") == "1",', {"": 0}),
        (f'"{FLAG}": lambda: bool(int(os.getenv("{FLAG}", "1"))),', {"": 1}),
        (f'"{FLAG}": use_mega,', {"<2.12.0.dev": 0, ">=2.12.0.dev": 1}),
        (f'"{FLAG}": elsewhere,', None),
        (f'"{FLAG}": lambda: ask(),', None),
        ("", None),
    ],
)
def test_the_default_of_a_flag(source: str, default: dict[str, int] | None) -> None:
    found = read_flag(
        f"""
import os

def disabled():
    return bool(int(os.getenv("VLLM_DISABLE_COMPILE_CACHE", "0")))

def use_aot():
    from vllm.utils.torch_utils import is_torch_equal_or_newer
    default = "1" if is_torch_equal_or_newer("2.10.0") and not disabled() else "0"
    return os.environ.get("VLLM_USE_AOT_COMPILE", default) == "1"

def use_mega():
    from vllm.utils.torch_utils import is_torch_equal_or_newer
    default = "1" if is_torch_equal_or_newer("2.12.0.dev") and use_aot() else "0"
    return os.environ.get("{FLAG}", default) == "1"

environment_variables: dict[str, object] = {{
    "OTHER": lambda: None,
    {source}
}}
""",
        FLAG,
    )
    assert (None if found is None else found.values) == default


def test_the_default_of_a_flag_is_unknown_in_a_file_that_is_not_python() -> None:
    assert read_flag("environment_variables = {", FLAG) is None
