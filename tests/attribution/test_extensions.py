"""An extension of vLLM that does not link: neither release alone is blamed for what it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attributions import (
    FLAG,
    KEY_ERROR,
    NO_RULES,
    TESTS_DIFFER,
    attributed,
    bad,
    minor,
    names,
    of,
    record,
    torch_axis,
    vllm_axis,
    with_tests,
)
from matrix.attribution import reasons
from matrix.attribution.attribute import attribute
from matrix.attribution.extensions import Features
from matrix.attribution.known import KnownPairs
from matrix.attribution.model import Attribution, Cause
from matrix.catalog.cells import Cell
from matrix.catalog.releases_file import load_releases
from matrix.checks.lookup import load_answers
from matrix.record.model import Record
from matrix.record.reader import read
from matrix.report.attribution.sentences import question_words, sentence
from matrix.verdict.judge import judge

ROOT = Path(__file__).parents[2]
HERE = ("2.12.0", "0.20.0")
NAMES_IT = "RuntimeError: the CUDA op requires DeepGEMM support"
SINCE_212 = minor("2.11.0", "2.12.0")

clean = partial(record, platform="cuda")
fails = partial(bad, platform="cuda")
here = partial(of, "2.12.0", platform="cuda")


def lacking(*pairs: tuple[str, str], unknown: tuple[tuple[str, str], ...] = ()) -> Features:
    """Return that DeepGEMM links but in these pairs, and that nobody knows of some others."""

    def features(cell: Cell) -> Mapping[str, bool] | None:
        pair = cell.torch, cell.vllm
        return None if pair in unknown else {"DeepGEMM": pair not in pairs, "FlashMLA": True}

    return features


LACKS = lacking(HERE)


def differs(found: Attribution) -> reasons.ExtensionDiffers:
    assert isinstance(found.reason, reasons.ExtensionDiffers)
    return found.reason


@pytest.mark.parametrize(
    "text",
    [
        NAMES_IT,
        "RuntimeError: deep_gemm is not there",
        "ImportError: vllm.utils.deep-gemm",
        "AssertionError: has_Deep Gemm()",
    ],
)
def test_a_failure_that_names_the_extension_is_the_pair_s(text: str) -> None:
    failing = clean("2.12.0", fails=text)
    found = here(failing, with_tests("x", clean("2.11.0")), features=LACKS)
    assert (found.answer, found.after, found.since) == (Cause.PAIR, "2.11.0", "2.12.0")
    assert found.reason == reasons.ExtensionDiffers(
        extensions=("DeepGEMM",),
        change=torch_axis("2.11.0", since=SINCE_212),
        lacks=("2.12.0",),
        links=("2.11.0",),
        shown_by=reasons.ExtensionEvidence.NAMED,
    )
    # Nothing else that differs speaks against what the failure says, and no run is missing.
    assert (found.missing, found.flags, found.defaults) == ((), (), ())


def test_along_vllm_the_extension_is_that_of_two_releases() -> None:
    failing = clean("2.12.0", fails=NAMES_IT)
    found = here(failing, clean("2.12.0", "0.19.0"), features=LACKS)
    assert found.answer == Cause.PAIR
    assert differs(found).change == vllm_axis("0.19.0", since=minor("0.19.0", "0.20.0"))
    assert (
        "DeepGEMM of vLLM 0.20.0 does not link with torch 2.12.0, and that of 0.19.0 does: the pair"
    ) in sentence(found)
    # A newer vLLM that does without it takes nothing away.
    newer = clean("2.12.0", "0.21.0")
    features = lacking(HERE, ("2.12.0", "0.21.0"))
    found = here(failing, clean("2.12.0", "0.19.0"), newer, features=features)
    assert (found.answer, differs(found).links) == (Cause.PAIR, ("0.19.0",))
    # A vLLM that does not bring it is not one in which it links.
    old = {"FlashMLA": True}

    def brings(cell: Cell) -> Mapping[str, bool] | None:
        return old if cell.vllm == "0.19.0" else LACKS(cell)

    assert here(failing, clean("2.12.0", "0.19.0"), features=brings).answer == Cause.VLLM


def test_several_that_show_it_without_the_extension_are_the_pair_s() -> None:
    runs = [fails("2.12.0"), with_tests("x", clean("2.11.0")), fails("2.13.0")]
    found = here(*runs, features=lacking(HERE, ("2.13.0", "0.20.0")))
    assert (found.answer, found.since) == (Cause.PAIR, "2.12.0")
    assert found.reason == reasons.ExtensionDiffers(
        extensions=("DeepGEMM",),
        change=torch_axis("2.11.0", shows=("2.12.0", "2.13.0"), since=SINCE_212),
        lacks=("2.12.0", "2.13.0"),
        links=("2.11.0",),
        shown_by=reasons.ExtensionEvidence.ALIKE,
        confounders=(TESTS_DIFFER,),
    )
    # It may still be the tests.
    assert [run.question.subjects for run in found.missing] == [("tests",)]
    # One that shows it and of which nobody knows whether it links: too few are known.
    features = lacking(HERE, unknown=(("2.13.0", "0.20.0"),))
    assert here(*runs, features=features).answer == Cause.UNKNOWN


def test_what_comes_and_goes_with_the_extension_is_the_pair_s() -> None:
    runs = [fails("2.12.0"), clean("2.11.0"), fails("2.10.0")]
    features = lacking(HERE, ("2.10.0", "0.20.0"))
    found = here(*runs, features=features)
    assert (found.answer, found.after, found.since) == (Cause.PAIR, None, None)
    change = torch_axis("2.11.0", shows=("2.10.0", "2.12.0"))
    assert differs(found).change == change
    assert differs(found).lacks == ("2.10.0", "2.12.0")
    assert sentence(found).endswith(
        "DeepGEMM of vLLM 0.20.0 does not link with torch 2.10.0 and 2.12.0, and does with 2.11.0:"
        " the pair"
    )
    # Along vLLM the same, also where torch alone would be blamed otherwise.
    other = [clean("2.12.0", "0.21.0"), fails("2.12.0", "0.22.0")]
    found = here(*PLAIN, *other, features=lacking(HERE, ("2.12.0", "0.22.0")))
    assert found.answer == Cause.PAIR
    assert differs(found).change == vllm_axis("0.21.0", shows=("0.20.0", "0.22.0"))
    # Without what links in both nothing follows.
    known = lacking(HERE, unknown=(("2.10.0", "0.20.0"),))
    for features in (known, LACKS, lacking()):
        assert here(*runs, features=features).reason == reasons.Intermittent(
            along=reasons.Along.TORCH
        )


def test_one_that_shows_it_without_the_extension_is_not_enough() -> None:
    features = lacking(HERE, ("2.14.0", "0.20.0"), ("2.9.0", "0.20.0"))
    found = here(fails("2.12.0"), with_tests("x", clean("2.11.0")), features=features)
    assert (found.answer, found.since) == (Cause.UNKNOWN, None)
    assert found.reason == reasons.ExtensionDiffers(
        extensions=("DeepGEMM",),
        change=torch_axis("2.11.0", since=SINCE_212),
        lacks=("2.12.0",),
        links=("2.11.0",),
        confounders=(TESTS_DIFFER,),
    )
    # The nearest release without it shows whether it is it.
    assert names(found)[0] == ("py311-torch214-vllm020", "cuda")
    assert question_words(found.missing[0].question) == "whether it is DeepGEMM"
    assert question_words(found.missing[1].question) == "whether it is the tests"
    assert "unknown: torch or DeepGEMM can be the cause (the tests differ too" in sentence(found)
    decided = here(fails("2.12.0"), clean("2.11.0"), fails("2.14.0"), features=features)
    assert decided.answer == Cause.PAIR
    cleared = here(fails("2.12.0"), clean("2.11.0"), clean("2.14.0"), features=features)
    assert cleared.answer == Cause.TORCH
    # Along vLLM the same.
    found = here(fails("2.12.0"), clean("2.12.0", "0.19.0"), features=LACKS)
    assert found.answer == Cause.UNKNOWN
    assert "unknown: vLLM or DeepGEMM can be the cause" in sentence(found)


def test_without_such_a_release_another_with_the_extension_is_asked() -> None:
    """Clean it makes it the pair, for both axes change; else the extension is not the cause."""
    found = here(fails("2.12.0"), clean("2.11.0"), features=LACKS)
    assert found.answer == Cause.UNKNOWN
    assert names(found) == [("py311-torch212-vllm019", "cuda")]
    shows = here(fails("2.12.0"), clean("2.11.0"), fails("2.12.0", "0.19.0"), features=LACKS)
    assert shows.answer == Cause.TORCH
    both = here(fails("2.12.0"), clean("2.11.0"), clean("2.12.0", "0.19.0"), features=LACKS)
    assert both.answer == Cause.PAIR
    assert isinstance(both.reason, reasons.BothAxesChange)
    # Where nothing can run that would tell, none is named.
    nowhere = lacking(*((HERE[0], f"0.{minor}.0") for minor in range(19, 23)))
    assert here(fails("2.12.0"), clean("2.11.0"), features=nowhere).missing == ()


EVERY = [(f"2.{torch}.0", f"0.{vllm}.0") for torch in range(9, 16) for vllm in range(19, 23)]
PLAIN = [fails("2.12.0"), clean("2.11.0")]


@pytest.mark.parametrize(
    ("runs", "features"),
    [
        # A run shows it where the extension links, along either axis.
        ([*PLAIN, fails("2.13.0")], LACKS),
        ([*PLAIN, fails("2.12.0", "0.21.0")], LACKS),
        # One is clean in which it does not.
        ([*PLAIN, clean("2.10.0")], lacking(HERE, ("2.10.0", "0.20.0"))),
        # So is the same pair on another Python.
        ([*PLAIN, clean("2.12.0", python="3.12")], LACKS),
        # It links nowhere, or in the cell, or nobody knows.
        (PLAIN, lacking(*EVERY)),
        (PLAIN, lacking(("2.11.0", "0.20.0"))),
        (PLAIN, lacking(HERE, unknown=(("2.11.0", "0.20.0"),))),
        (PLAIN, lacking(unknown=(HERE,))),
        # No extension is loaded on the CPU.
        ([bad("2.12.0"), record("2.11.0")], LACKS),
    ],
)
def test_an_extension_that_does_not_matter_changes_nothing(
    runs: list[Record], features: Features
) -> None:
    found = of("2.12.0", *runs, features=features)
    assert found.answer == Cause.TORCH
    assert found == of("2.12.0", *runs)


def test_a_clean_python_of_which_nobody_knows_what_links_clears_nothing() -> None:
    def features(cell: Cell) -> Mapping[str, bool] | None:
        return None if cell.python == "3.12" else LACKS(cell)

    found = here(*PLAIN, clean("2.12.0", python="3.12"), features=features)
    assert found.answer == Cause.UNKNOWN


def test_a_flag_that_decides_clears_the_extension() -> None:
    """The same pair is clean with the flag of its neighbour, and without the extension."""
    runs = [
        fails("2.12.0", flags={FLAG: True}),
        fails("2.12.0", flags={FLAG: True}, started="2026-11-20T18:00:00Z"),
        clean("2.11.0"),
    ]
    found = here(*runs, features=LACKS)
    assert found.answer == Cause.UNKNOWN
    assert [run.question.code for run in found.missing] == [
        reasons.QuestionCode.EXTENSION,
        reasons.QuestionCode.FLAG,
    ]
    assert f"can be the cause, with another default of {FLAG}" in sentence(found)
    given = clean("2.12.0", flags={FLAG: False})
    found = here(*runs, given, features=LACKS)
    assert (found.answer, found.flags[0].decides) == (Cause.TORCH, True)


def test_extensions_that_nothing_tells_apart_are_named_together() -> None:
    def features(cell: Cell) -> Mapping[str, bool] | None:
        links = cell.torch == "2.11.0"
        return {"DeepGEMM": links, "FlashMLA": True, "QuTLASS": links}

    found = here(*PLAIN, features=features)
    assert differs(found).extensions == ("DeepGEMM", "QuTLASS")
    assert (
        "DeepGEMM and QuTLASS of vLLM 0.20.0 do not link with torch 2.12.0 and do with 2.11.0:"
        " unknown: torch or DeepGEMM or QuTLASS can be the cause"
    ) in sentence(found)
    assert question_words(found.missing[0].question) == "whether it is DeepGEMM or QuTLASS"
    # The one that the failure names is the cause.
    found = here(clean("2.12.0", fails=NAMES_IT), clean("2.11.0"), features=features)
    assert (found.answer, differs(found).extensions) == (Cause.PAIR, ("DeepGEMM",))


PAIRS = st.sampled_from(EVERY)
RUNS = st.lists(
    st.tuples(PAIRS, st.sampled_from([None, KEY_ERROR, NAMES_IT])), min_size=1, max_size=9
)
LINKS = st.dictionaries(PAIRS, st.sampled_from([True, False, None]), max_size=28)


@given(RUNS, LINKS, st.sampled_from(["cpu", "cuda"]))
@settings(max_examples=150, deadline=None)
def test_linkage_only_takes_the_blame_from_a_release(
    drawn: list[tuple[tuple[str, str], str | None]],
    linked: dict[tuple[str, str], bool | None],
    platform: str,
) -> None:
    """It blames none that was not, and speaks of a cell alone in which something does not link."""
    records = [record(*pair, fails=text, platform=platform) for pair, text in drawn]

    def features(cell: Cell) -> Mapping[str, bool] | None:
        links = linked.get((cell.torch, cell.vllm))
        return None if links is None else {"DeepGEMM": links}

    plain, found = attributed(*records), attributed(*records, features=features)
    for before, after in zip(plain, found, strict=True):
        assert (before.cell, before.symptoms) == (after.cell, after.symptoms)
        if isinstance(after.reason, reasons.ExtensionDiffers):
            assert platform == "cuda"
            assert linked[after.cell.torch, after.cell.vllm] is False
            assert before.answer != Cause.PAIR or after.answer == Cause.PAIR
            assert (after.answer == Cause.PAIR) == (after.reason.shown_by is not None)
        else:
            assert before == after


TORCH = ("2.11", "2.13", "2.14")


def real(case: str, *torch: str) -> Callable[[str], Attribution]:
    """Return what finds the attribution of a case of vLLM 0.32.0 under a torch, by its counter."""
    releases = load_releases()
    folder = ROOT / "results/cuda"
    records = [
        read(path)
        for name in torch
        for path in folder.glob(f"py312-torch{name.replace('.', '')}-vllm032*.json")
    ]
    known = KnownPairs(features=load_answers(releases).features)
    found = attribute(
        [(run, judge(run, NO_RULES)) for run in records],
        releases,
        known,
        names=frozenset(["py312-torch214-vllm032"]),
        case=case,
    )

    def by_counter(counter: str) -> Attribution:
        (wanted,) = (
            answer
            for answer in found
            if any(str(symptom.counter or "") == counter for symptom in answer.symptoms)
        )
        return wanted

    return by_counter


def test_deepseek_without_deepgemm() -> None:
    """vLLM 0.32.0 is built for torch 2.13, and its DeepGEMM does not link with 2.11 and 2.14."""
    found = real("model_startup[deepseek_v3.2]", *TORCH)("")
    assert found.answer == Cause.PAIR
    assert sentence(found) == (
        "vLLM 0.32.0 starts cold under torch 2.13.0 and fails to start cold under 2.11.0 and"
        " 2.14.1, and DeepGEMM of vLLM 0.32.0 does not link with torch 2.11.0 and 2.14.1, and does"
        " with 2.13.0: the pair, because the failure names DeepGEMM"
    )
    # The failure names it, so two records are enough.
    found = real("model_startup[deepseek_v3.2]", "2.13", "2.14")("")
    assert (found.answer, found.after, found.since) == (Cause.PAIR, "2.13.0", "2.14.1")
    assert (
        "DeepGEMM of vLLM 0.32.0 does not link with torch 2.14.1 and does with 2.13.0"
        in sentence(found)
    )


def test_minimax_without_deepgemm() -> None:
    """It counts one graph less under both, and the warm start another number under each."""
    misses = "aot_autograd.autograd_cache_miss"
    found = real("model_startup[minimax_m2.5]", *TORCH)
    assert found(misses).answer == Cause.PAIR
    assert differs(found(misses)).shown_by is reasons.ExtensionEvidence.ALIKE
    assert differs(found(misses)).lacks == ("2.11.0", "2.14.1")
    found = real("model_startup[minimax_m2.5]", "2.13", "2.14")
    assert found(misses).answer == Cause.UNKNOWN
    assert names(found(misses))[0] == ("py312-torch215-vllm032", "cuda")
