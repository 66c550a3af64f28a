"""The cause in what uv printed (tests/conflicts: uv 0.13.9; `older`: uv 0.8.24)."""

from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.catalog.candidates.model import TORCH_COMPANIONS
from matrix.catalog.cells import Cell
from matrix.checks.facts import facts_key
from matrix.checks.resolution.cache import Resolution, Resolutions, load_resolutions, text_of
from matrix.checks.resolution.cause import ConflictCause
from matrix.checks.resolution.uv_output import (
    Conflict,
    conflict_of,
    error_of,
    index_lacks,
    read_conflict,
    why_install_failed,
)
from matrix.record.model import ErrorKind, RunError
from matrix.report.facts import facts_words

CORPUS = Path(__file__).parents[1] / "conflicts"
PLATFORM = "manylinux_2_31_x86_64"
UP_TO = "vllm 0.33.0 needs certifi>=2026.10.19, and the index has up to 2026.10.18"
NO_SUCH = "and the index has no such version"


class Expected(NamedTuple):
    """A conflict in words: a key of a failure, too."""

    cause: ConflictCause
    reason: str


def told(found: Conflict) -> Expected:
    """Return what was read, in words; the key of its facts has to be the same ones."""
    assert (found.cause is ConflictCause.INDEX) == bool(found.error) == (not found.facts)
    assert facts_key(found.facts) == facts_words(found.facts)
    return Expected(cause=found.cause, reason=facts_words(found.facts) or found.error)


EXPECTED: dict[str, Expected | tuple[dict[str, str], Expected]] = {
    # What the index answered of real releases.
    "off-pin": (
        {"vllm": "0.19.1", "torch": "2.11.0"},
        Expected(
            cause=ConflictCause.CONFLICT,
            reason="vllm 0.19.1 needs torch==2.10.0, and torch==2.11.0 was asked for",
        ),
    ),
    "not-published-yet": (
        {"vllm": "0.33.0", "torch": "2.14.0"},
        Expected(cause=ConflictCause.NOT_PUBLISHED, reason=UP_TO),
    ),
    "python": (
        {"vllm": "0.32.0", "torch": "2.13.0"},
        Expected(
            cause=ConflictCause.PYTHON, reason="vllm 0.32.0 needs Python >=3.11,<3.15, not 3.11"
        ),
    ),
    "no-wheel-for-the-platform": (
        {"vllm": "0.19.1", "torch": "2.10.0"},
        Expected(
            cause=ConflictCause.NO_WHEEL,
            reason=f"vllm 0.19.1 has no wheel for Python 3.11 on {PLATFORM}",
        ),
    ),
    "no-wheel-of-a-dependency": (
        {"vllm": "0.14.1", "torch": "2.9.1"},
        Expected(
            cause=ConflictCause.NO_WHEEL,
            reason="vllm 0.14.1 needs outlines-core, and outlines-core 0.2.11 has no wheel for"
            f" Python 3.11 on {PLATFORM}",
        ),
    ),
    "long-chain": (
        {"vllm": "0.23.0", "torch": "2.11.0"},
        Expected(
            cause=ConflictCause.CONFLICT,
            reason="torch 2.11.0 needs cuda-toolkit==13.0.2, and cuda-tile>=1.6.0rc7 needs"
            " cuda-toolkit>=13.2,<13.5",
        ),
    ),
    "damaged": (
        {"vllm": "0.1", "torch": "2.10.0"},
        Expected(
            cause=ConflictCause.INDEX, reason="the index's vllm 0.1 has an invalid package format"
        ),
    ),
    # Small packages of our own, to have each form once.
    "small-0.1": (
        {"vllm": "0.1", "torch": "2.11.0"},
        Expected(
            cause=ConflictCause.CONFLICT,
            reason="vllm 0.1 needs torch==2.10.0, and torch==2.11.0 was asked for",
        ),
    ),
    "small-0.2": Expected(
        cause=ConflictCause.NOT_PUBLISHED, reason="vllm 0.2 needs a>=5, and the index has up to 4.1"
    ),
    "small-0.3": Expected(
        cause=ConflictCause.CONFLICT, reason="vllm 0.3 needs a>=2, and b<=1.0 needs a<2"
    ),
    "small-0.4": Expected(
        cause=ConflictCause.CONFLICT, reason="vllm 0.4 needs a>=4, and b<=1.0 needs a<2"
    ),
    "small-0.5": Expected(
        cause=ConflictCause.NO_WHEEL, reason=f"vllm 0.5 has no wheel for {PLATFORM}"
    ),
    "small-0.6": Expected(cause=ConflictCause.INDEX, reason="the index has no nothere"),
    "small-0.7": Expected(
        cause=ConflictCause.NO_WHEEL,
        reason="vllm 0.7 needs e, and e 1.0 has no wheel for Python 3.11",
    ),
    "small-0.8": Expected(
        cause=ConflictCause.PYTHON,
        reason="vllm 0.8 needs g, and every g needs Python >=3.13, not 3.11",
    ),
    "small-0.9": Expected(
        cause=ConflictCause.PYTHON, reason="vllm 0.9 needs Python >=3.12, not 3.11"
    ),
    "small-0.10": Expected(
        cause=ConflictCause.CONFLICT, reason=f"vllm 0.10 needs a>=2.5,<3.5, {NO_SUCH}"
    ),
    "small-0.11": Expected(
        cause=ConflictCause.CONFLICT, reason="vllm 0.11 needs a>=3, and b<=1.0 needs a<2"
    ),
    "small-0.12": Expected(
        cause=ConflictCause.CONFLICT, reason=f"vllm 0.12 needs a>4.0,<4.1 or a>4.1, {NO_SUCH}"
    ),
    "small-0.13": Expected(cause=ConflictCause.INDEX, reason="the index has no nothere2"),
    "small-0.14": Expected(
        cause=ConflictCause.CONFLICT,
        reason="k<=1.0 needs torch<2.9, and torch==2.10.0 was asked for",
    ),
    "small-0.15": Expected(
        cause=ConflictCause.CONFLICT, reason="every m needs a>=1.2,<2, and every l needs a>=2"
    ),
    "small-0.99": Expected(cause=ConflictCause.INDEX, reason="the index has no vllm 0.99"),
    "older-0.7": Expected(
        cause=ConflictCause.NO_WHEEL,
        reason="vllm 0.7 needs e, and e 1.0 has no wheel for Python 3.11",
    ),
    "older-0.11": Expected(
        cause=ConflictCause.CONFLICT, reason="vllm 0.11 needs a>=3, and b 1.0 needs a<2"
    ),
    "older-0.12": Expected(
        cause=ConflictCause.CONFLICT, reason=f"vllm 0.12 needs a>4.0,<4.1 or a>4.1, {NO_SUCH}"
    ),
    "older-0.15": Expected(
        cause=ConflictCause.CONFLICT, reason="m 1.0 needs a>=1.2,<2, and l 1.0 needs a>=2"
    ),
}


def output_of(name: str) -> str:
    return (CORPUS / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "output",
    [
        "error: No interpreter found for CPython 3.14 in managed installations or search path\n",
        "error: No interpreter found for Python 3.14 in search path\n",
        "\x1b[31merror\x1b[39m: Request failed\n  cause: Failed to download `https://example.com/1/cpython-3.14.10%2B20261110-x86_64.tar.gz`",
    ],
)
def test_a_python_that_is_missing_is_named_with_the_fix(output: str) -> None:
    error = why_install_failed(output)
    assert error.kind == ErrorKind.NO_PYTHON
    assert error.reason.startswith("Python 3.14 is missing on this machine, ")
    assert "install python3.14" in error.reason and "http" not in error.reason


@pytest.mark.parametrize(
    ("facts", "lacks"),
    [
        ("only a<=4.1 is available and vllm==0.2 depends on a>=5", True),
        ("only a<=4.1 is available and vllm==0.2 depends on a==5.0", True),
        ("only a<=4.1 is available and you require a==5", True),
        ("there is no version of vllm==0.99 and you require vllm==0.99", True),
        ("a was not found in the package registry and vllm==0.2 depends on a", True),
        # A release in between, or older than all, will not come with another day.
        ("there are no versions of a>=2.5,<3.5 and vllm==0.2 depends on a>=2.5,<3.5", False),
        ("only a==4.1 is available and vllm==0.2 depends on a<4", False),
        ("b==1 depends on a<4 and vllm==0.2 depends on a>=4", False),
        ("vllm==0.2 depends on torch==2.10.0 and you require torch==2.11.0", False),
        # Where two demands exclude each other too, a newer release repairs nothing.
        (
            (
                "only a<=4.1 is available and vllm==0.2 depends on a>=5 and torch==2.10.0, we can"
                " conclude that it cannot be used. And because you require torch==2.11.0"
            ),
            False,
        ),
        ("nobody knows", False),
        ("", False),
    ],
)
def test_a_newer_release_that_the_index_lacks_is_told_from_a_conflict(
    facts: str, lacks: bool
) -> None:
    text = f"Because {facts}, we can conclude that your requirements are unsatisfiable."
    assert index_lacks(text if facts else "") is lacks


def test_every_message_of_the_corpus_is_expected() -> None:
    assert {path.stem for path in CORPUS.glob("*.txt")} == {*EXPECTED, "offline"}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_cause_of_what_uv_said(name: str) -> None:
    expected = EXPECTED[name]
    if isinstance(expected, Expected):
        asked = {"vllm": name.partition("-")[2], "torch": "2.10.0"}
    else:
        asked, expected = expected
    conflict = conflict_of(output_of(name))
    assert conflict is not None
    assert told(read_conflict(conflict, asked, "3.11", PLATFORM)) == expected


def test_a_disabled_network_is_no_conflict() -> None:
    assert conflict_of(output_of("offline")) is None
    assert "vllm was not found in the cache" in error_of(output_of("offline"))


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        (
            (
                "hint: An index URL (https://a.example/simple) could not be queried due to a"
                " lack of valid authentication credentials (401 Unauthorized)"
            ),
            "the index did not give vllm: 401 Unauthorized",
        ),
        (
            "hint: An index (https://a.example/simple) returned a 403 Forbidden error. Check it",
            "the index did not give vllm: 403 Forbidden error",
        ),
    ],
)
def test_an_index_that_refuses_is_told_without_its_address(hint: str, reason: str) -> None:
    output = (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because vllm was not found in the package registry and you require vllm==0.1, we"
        f" can conclude that your requirements are unsatisfiable.\n\n{hint}\n"
    )
    found = read_conflict(conflict_of(output) or "", {"vllm": "0.1"}, "3.11", PLATFORM)
    assert told(found) == Expected(cause=ConflictCause.INDEX, reason=reason)


def test_releases_of_one_package_do_not_exclude_each_other() -> None:
    text = (
        "Because b==1.0 depends on a<2 and b==2.0 depends on a>=5, we can conclude that b needs"
        " much. And because c==1 depends on a>=3,<4 and you require c==1, we can conclude that your"
        " requirements are unsatisfiable."
    )
    found = read_conflict(text, {"c": "1"}, "3.11", PLATFORM)
    assert told(found).reason == "c 1 needs a>=3,<4, and b 1.0 needs a<2"


def test_each_of_several_ranges_is_told() -> None:
    text = (
        "Because only a<=1 is available and b==1 depends on one of: a>1,<2 a>2,<3 a>3 we can"
        " conclude that b==1 cannot be used."
    )
    found = read_conflict(text, {"b": "1"}, "3.11", PLATFORM)
    assert told(found).reason == "b 1 needs a>1,<2 or a>2,<3 or a>3, and the index has up to 1"


def test_an_unknown_form_is_told_as_it_is_and_cut() -> None:
    found = read_conflict("Because of " + "x " * 300, {}, "3.11", PLATFORM)
    assert found.cause == "conflict"
    assert told(found).reason.startswith("Because of x x") and len(told(found).reason) == 199


WORDS = st.sampled_from(
    [
        *("Because", "And because", "and", "you require", "we can conclude that", ", ", ". "),
        *("a", "a==1", "b<=2", "b[c]>=3", "all versions of", "d{os == 'x'}", "(e.g., `cp311`)"),
        *("depends on", "depends on one of:", "requires Python >=3.12", "depends on Python>=3,<4"),
        *("only", "is available", "only the following versions of", "are available:"),
        *(
            "there is no version of",
            "was not found in the package registry",
            "has no usable wheels",
        ),
        *("has no wheels with a matching platform tag", "has an invalid package format", "hint: x"),
    ]
)


@given(text=st.lists(WORDS).map(" ".join) | st.text())
def test_any_text_ends_in_one_line_that_can_be_kept(text: str, tmp_path_factory: Any) -> None:
    found = read_conflict(text, {"a": "1"}, "3.11", PLATFORM)
    assert found.cause in ConflictCause
    assert 0 < len(told(found).reason) <= 200
    assert told(found).reason.isprintable()
    if found.cause is ConflictCause.INDEX:
        return
    cell, asked = Cell("3.11", "2.10.0", "0.19.1"), date(2026, 11, 23)
    row = Resolution(
        cell=cell, platform=PLATFORM, asked=asked, ok=False, cause=found.cause, facts=found.facts
    )
    path = tmp_path_factory.getbasetemp() / "kept.json"
    path.write_text(text_of(Resolutions(rows=(row,))), encoding="utf-8")
    assert load_resolutions(path).rows[0].facts == found.facts


NEW_UV = """Using Python 3.11.7 environment at: .tox/x
error: No solution found when resolving dependencies
  cause: Because only a<=1 is available and b>=3 depends on a>=2, we can conclude
         that b>=3 cannot be used.
         And because you require b==3, we can conclude that it is unsatisfiable.

hint: try something else
"""
OLD_UV = """\x1b[31m  \u00d7 No solution found when resolving dependencies:\x1b[0m
  \u2570\u2500\u25b6 Because there is no version of a==9 and you
      require a==9, it is unsatisfiable.
"""
OFFLINE = """error: No solution found
  cause: Because a was not found in the cache

hint: Packages were unavailable because the network was disabled.
"""
NO_NETWORK = """error: Request failed after 3 retries
  cause: Failed to fetch: `https://ann:secret@index.invalid/simple/a/`
  cause: dns error
"""
PIP = """ERROR: Cannot install a==1 and b==2 because these versions have conflicting dependencies.

The conflict is caused by:
    a 1 depends on c==3
    b 2 depends on c<3

ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/
"""
NOT_MADE = "the environment could not be made: "


@pytest.mark.parametrize(
    ("output", "kind", "reason"),
    [
        (
            NEW_UV,
            "not_published",
            (
                "Because only a<=1 is available and b>=3 depends on a>=2, we can conclude that b>=3"
                " cannot be used. And because you require b==3, we can conclude that it is"
                " unsatisfiable."
            ),
        ),
        (
            OLD_UV,
            "not_published",
            "Because there is no version of a==9 and you require a==9, it is unsatisfiable.",
        ),
        (
            "ERROR: No matching distribution found for torch==9",
            "resolves",
            "ERROR: No matching distribution found for torch==9",
        ),
        (PIP, "resolves", "a 1 needs c==3, and b 2 needs c<3"),
        (
            OFFLINE,
            "internal",
            f"{NOT_MADE}No solution found: Because a was not found in the cache",
        ),
        (
            NO_NETWORK,
            "internal",
            f"{NOT_MADE}Request failed after 3 retries: Failed to fetch: a",
        ),
        (
            "error: Failed to extract\n  cause: No space left on device (os error 28)",
            "no_space",
            "cause: No space left on device (os error 28)",
        ),
        ("", "internal", f"{NOT_MADE}the installer gave no reason"),
    ],
)
def test_why_an_install_failed(output: str, kind: str, reason: str) -> None:
    assert why_install_failed(output) == RunError(kind=ErrorKind(kind), reason=reason)


def test_why_an_index_was_not_reached_is_told_without_its_address() -> None:
    output = (
        "error: Failed to fetch: `https://index.example:8443/simple/torchvision/`\n"
        "  cause: error sending request for url (https://index.example:8443/simple/torchvision/)\n"
        "  cause: invalid peer certificate: UnknownIssuer\n"
    )
    for text in (output, output.replace("`", "")):
        error = why_install_failed(text)
        assert (error.kind, error.reason) == (
            "internal",
            (
                "the environment could not be made: Failed to fetch: torchvision: "
                "error sending request for url (torchvision)"
            ),
        )


def test_a_companion_that_a_candidate_s_index_lacks_is_not_the_pair_s_fault() -> None:
    output = (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because there is no version of triton==3.8.0 and torch==2.16.0 depends on"
        " triton==3.8.0, we can conclude that torch==2.16.0 cannot be used.\n"
        "   And because only torch==2.16.0 is available and you require torch, we can conclude"
        " that your requirements are unsatisfiable.\n"
    )
    assert why_install_failed(output).kind is ErrorKind.RESOLVES
    error = why_install_failed(output, TORCH_COMPANIONS)
    assert error.kind is ErrorKind.NOT_PUBLISHED
    assert "there is no version of triton==3.8.0" in error.reason
