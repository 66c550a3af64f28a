"""A resolver's or pip's words for a Python that a release does not accept."""

import pytest

from explained import apart, commands, lines, only
from matrix.explain.model import FaultKind, Meaning

UV = (
    "  x No solution found when resolving dependencies:\n"
    "  Because the current Python version ({}) does not satisfy Python>=3.11,<3.15 and"
    " vllm==0.33.0 depends on Python>=3.11,<3.15, we can conclude that vllm==0.33.0 cannot be used."
)
IGNORED = (
    "ERROR: Ignored the following versions that require a different python version: 0.32.0"
    " Requires-Python <3.15,>=3.11; 0.33.0 Requires-Python <3.15,>=3.11"
)
LISTED = (
    "\nERROR: Could not find a version that satisfies the requirement vllm==0.32.0 (from versions:"
    f" {'0.1.0, ' * 5000})\nERROR: No matching distribution found for vllm==0.32.0"
)
NEWEST = apart("0.33.0", "2.14.0", "cuda-python>=13")


@pytest.mark.parametrize(("python", "order"), [("3.10.12", "old"), ("3.15.0", "new")])
def test_uv_names_the_python_that_is_too_old_or_too_new(python: str, order: str) -> None:
    text = UV.format(python)
    answer = only(text)
    assert (answer.fault.kind, answer.meaning) == (FaultKind.CONFLICT, Meaning.OTHER_PYTHON)
    assert lines(text)["means"] == (
        f"Python {python} is too {order} for vLLM 0.33.0, which needs Python>=3.11,<3.15"
    )
    assert commands(answer) == [NEWEST]


def test_a_python_before_an_open_range_is_too_old() -> None:
    text = UV.replace(">=3.11,<3.15", ">3.10").replace("vllm==0.33.0", "torch==2.14.0+cu130")
    assert lines(text.format("3.8.18"))["means"] == (
        "Python 3.8.18 is too old for torch 2.14.0+cu130, which needs Python>3.10"
    )
    assert commands(only(text.format("3.8.18"))) == [NEWEST]


def test_it_names_the_vllm_that_accept_the_python() -> None:
    assert lines(UV.format("3.10.12"))["releases"] == "vLLM 0.9.0 to 0.31.0 accept Python 3.10.12"


def test_a_project_requests_a_range_of_pythons() -> None:
    text = UV.format(">=3.10").replace("current", "requested")
    assert lines(text)["means"].startswith("the requested Python, >=3.10, is too old for vLLM")
    assert lines(text)["releases"] == "not known"


@pytest.mark.parametrize(
    ("more", "version", "first"),
    [
        ("\nERROR: No matching distribution found for vllm==0.33.0", "0.33.0", NEWEST),
        (
            "\nERROR: No matching distribution found for vllm==0.32.0",
            "0.32.0",
            apart("0.32.0", "2.13.0", "cuda-python>=13"),
        ),
        (
            LISTED,
            "0.32.0",
            apart("0.32.0", "2.13.0", "cuda-python>=13"),
        ),
        ("\nERROR: No matching distribution found for vllm", "0.33.0", NEWEST),
        ("", "0.33.0", NEWEST),
    ],
)
def test_pip_names_the_versions_that_it_ignored(more: str, version: str, first: str) -> None:
    text = IGNORED + more
    assert lines(text)["means"] == (
        f"this Python is too old or too new for vLLM {version}, which needs Python>=3.11,<3.15"
    )
    assert commands(only(text)) == [first]


def test_a_range_with_blanks_is_read_to_its_end() -> None:
    text = IGNORED.replace("<3.15,>=3.11", ">=3.11, <3.15, !=3.12.1")
    assert lines(text)["means"].endswith(", which needs Python>=3.11,<3.15,!=3.12.1")


def test_the_versions_of_another_package_get_no_command() -> None:
    text = IGNORED.replace("0.33.0", "7.1").replace("0.32.0", "7.0")
    assert lines(text)["means"].startswith("this Python is too old or too new for a release")
    named = only(f"{text}\nNo matching distribution found for other>=7")
    assert (named.operands["who"], named.remedies) == ("other 7.1", ())


def test_a_version_that_was_not_ignored_is_not_there() -> None:
    answer = only(f"{IGNORED}\nNo matching distribution found for vllm==9.9")
    assert answer.meaning is Meaning.NO_SUCH_VERSION


def test_a_range_that_is_none_is_repeated() -> None:
    text = UV.format("3.10.12").replace("Python>=3.11,<3.15", "Python>=x")
    assert lines(text)["means"].endswith(
        "too old or too new for vLLM 0.33.0, which needs Python>=x"
    )
