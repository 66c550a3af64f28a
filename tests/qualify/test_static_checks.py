"""Two releases compared on the rungs that need no run.

vLLM 0.20.2 pins the baseline (2.11.0), and 0.19.1 pins 2.10.0.
"""

from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet

from judgements import words
from made import NO, YES, Answers, Told, failed, make, passed
from matrix.catalog.cells import Cell
from matrix.checks.facts import quoted
from matrix.checks.lookup import Answer
from matrix.qualify.model import FailureKind
from matrix.qualify.query import Query
from matrix.qualify.static_checks import RungChange, StaticAnswers
from matrix.record.model import ErrorKind, Platform, RunError
from matrix.report.qualify.markdown import page
from matrix.report.qualify.sentences import (
    failure_reason,
    unknown_sentence,
)
from matrix.report.qualify.text import lines
from matrix.report.reasons import reason_words
from qualifications import (
    NEXT,
    OLD,
    ask,
    held,
    kinds,
    on_cuda,
    waiver,
)


def test_what_was_built_for_the_baseline_cannot_be_asked_and_blames_nobody() -> None:
    answers = Answers(links={(NEXT, "0.20.2"): NO}, otherwise=YES)
    found = held(on_cuda(OLD), answers=answers, platforms=("cuda",))
    assert (found.verdict, found.exit_status, found.failures) == ("not enough evidence", 3, ())
    [unknown] = found.unknown
    assert (unknown.rung, unknown.blocks, unknown.cell) == ("links", True, "py311-torch212-vllm020")
    for text in (lines(found), page(found).replace("\\", "")):
        assert "vLLM 0.20.2 pins torch 2.11.0, was built for that, and does not link with" in text
        assert "Cannot be asked with these wheels: no regression, and no answer" in text
        assert "1 cell cannot be asked" in text and ", 0 not known" in text
        assert "of its cases 2 passed at py311-torch211-vllm020" in text
        # To run it would only fail.
        assert "tox -e" not in text
    # On the CPU platform nothing of vLLM's is loaded.
    [unknown] = held(make(OLD, passed()), answers=answers, platforms=("cpu",)).unknown
    assert unknown.rung is None and "resolves is as far as is known" in unknown_sentence(unknown)


def test_it_hides_no_failure_and_qualifies_nothing() -> None:
    answers = Answers(links={(NEXT, "0.20.2"): NO}, otherwise=YES)
    other = {"vllm": "0.32.0"}
    both = on_cuda(OLD), on_cuda(OLD, **other)
    assert held(*both, on_cuda(NEXT, **other), answers=answers).exit_status == 3
    assert held(*both, on_cuda(NEXT, failed(), **other), answers=answers).exit_status == 1
    # What is left out by name can be; what is accepted by name too.
    narrow = SpecifierSet(">=0.28")
    assert held(*both, on_cuda(NEXT, **other), answers=answers, under=narrow).exit_status == 0
    accepted = waiver("signature = '`_C` needs c10::f()'\nplatform = 'cuda'")
    found = held(*both, on_cuda(NEXT, **other), answers=answers, waivers=accepted)
    assert (found.exit_status, [count for _, count in found.waivers]) == (0, [1])
    assert "waived by known" in lines(found)
    # And accepting all of it is still no evidence.
    assert held(on_cuda(OLD), answers=answers, waivers=accepted).exit_status == 3


def test_a_run_that_failed_as_the_wheels_must_is_no_regression_either() -> None:
    answers = Answers(links={(NEXT, "0.20.2"): NO}, otherwise=YES)
    error = RunError(kind=ErrorKind.IMPORTS, reason="ImportError: undefined symbol: _ZN3c10E")
    ran = make(NEXT, platform="cuda", error=error)
    found = held(on_cuda(OLD), ran, answers=answers)
    assert (found.exit_status, kinds(found), found.compared) == (3, [], 0)
    assert [unknown.rung for unknown in found.unknown] == ["links"]
    assert found.matches[0].candidate.path == ran[0]
    assert (found.matches[0].compared, found.matches[0].passed) == (0, 0)
    # Where the wheels say nothing of it, the run does.
    assert (
        kinds(held(on_cuda(OLD), ran, answers=Answers(otherwise=YES)))
        == [FailureKind.REGRESSION] * 2
    )
    assert kinds(held(on_cuda(OLD), ran)) == [FailureKind.REGRESSION] * 2


@pytest.mark.parametrize(
    ("query", "answers", "records", "rung"),
    [
        # Nothing that a resolver says is of how a wheel was built.
        (
            ask("torch", NEXT, OLD),
            Answers(resolves={(NEXT, "0.20.2"): NO._replace(asked="2026-11-23")}),
            [make(OLD, passed())],
            "resolves",
        ),
        # torch promises its stable ABI to newer releases.
        (
            ask("torch", NEXT, OLD),
            Answers(links={(NEXT, "0.20.2"): NO._replace(promised=True)}),
            [on_cuda(OLD)],
            "links",
        ),
        # It linked off-pin and does no longer: vLLM 0.19.1 was built for neither.
        (
            ask("torch", NEXT, OLD),
            Answers(links={(OLD, "0.19.1"): YES, (NEXT, "0.19.1"): NO}),
            [on_cuda(OLD, vllm="0.19.1")],
            "links",
        ),
        # vLLM 0.20.2 pins this very torch.
        (
            ask("vllm", "0.20.2", "0.19.1"),
            Answers(links={(OLD, "0.20.2"): NO}),
            [on_cuda(OLD, vllm="0.19.1")],
            "links",
        ),
    ],
)
def test_what_a_first_rung_lost_is_a_regression_with_its_reason(
    query: Query, answers: StaticAnswers, records: list[Told], rung: str
) -> None:
    found = held(*records, query=query, answers=answers)
    assert (found.verdict, found.exit_status, found.compared) == ("not qualified", 1, 0)
    [failure] = found.failures
    assert (failure.kind, failure.rung, failure.ran) == (FailureKind.REGRESSION, rung, False)
    assert "needs c10::f()" in failure.signature and "2 more" in str(words(failure.detail))
    assert f", {rung}: no run, the rung alone" in lines(found)
    assert "1 regression," in page(found)
    accepted = waiver(f"signature = '{failure.signature}'")
    assert held(*records, query=query, answers=answers, waivers=accepted).exit_status == 3


def test_a_repair_needs_the_rung_that_failed_to_pass() -> None:
    """Links that pass show nothing of a rung below them that nobody asked about."""
    failed_before = {(OLD, "0.20.2"): NO._replace(facts=quoted("needs a<2, and b needs a>=2"))}
    links = {(OLD, "0.20.2"): YES, (NEXT, "0.20.2"): YES}
    for after, change in (
        (YES, RungChange.REPAIR),
        (None, RungChange.NO_CANDIDATE),
        (NO._replace(unknown=True), RungChange.NO_CANDIDATE),
    ):
        resolves = failed_before if after is None else {**failed_before, (NEXT, "0.20.2"): after}
        answers = Answers(resolves=resolves, links=links)
        found = held(on_cuda(OLD, vllm="0.32.0"), answers=answers, platforms=("cuda",))
        row = next(row for row in found.rungs if "0.20.2" in row.others)
        assert (row.baseline.fails, row.candidate.passed) == ("resolves", "links")
        assert row.change is change
        assert ("no resolves -> links" in lines(found)) and (
            ("repair: " in lines(found)) == (change is RungChange.REPAIR)
        )


@pytest.mark.parametrize("lacking", [OLD, NEXT])
def test_what_the_index_lacked_is_neither_a_regression_nor_a_repair(lacking: str) -> None:
    lacked = NO._replace(unknown=True, facts=quoted("needs certifi>=2"))
    answers = Answers(resolves={(lacking, "0.20.2"): lacked}, otherwise=YES)
    found = held(on_cuda(OLD), answers=answers, platforms=("cuda",))
    assert found.failures == ()
    assert {row.change for row in found.rungs} == {None}


def test_a_baseline_that_failed_before_fails_otherwise_or_as_it_did() -> None:
    fault = {"error": RunError(kind=ErrorKind.IMPORTS, reason="ImportError: no module x")}
    lost = Answers(resolves={(NEXT, "0.20.2"): NO})
    [failure] = held(on_cuda(OLD, **fault), answers=lost).failures
    assert (failure.kind, failure.before) == (
        FailureKind.FAILS_OTHERWISE,
        "ImportError: no module x",
    )
    both = Answers(links={(OLD, "0.19.1"): NO, (NEXT, "0.19.1"): NO})
    found = held(on_cuda(OLD, vllm="0.19.1", **fault), answers=both)
    assert (found.exit_status, found.failures) == (3, ())


def test_without_a_run_only_what_fails_at_its_own_pin_is_judged() -> None:
    query = ask("vllm", "0.20.2", "0.19.1", (Platform.CUDA,))
    ran = make(OLD, passed())  # on another platform
    pin = Answers(links={("2.11.0", "0.20.2"): NO}, otherwise=YES)
    found = held(ran, query=query, answers=pin)
    assert (found.exit_status, [failure.place.cell for failure in found.failures]) == (
        1,
        ["py310-torch211-vllm020"],
    )
    assert "so on Python 3.10, 3.11, 3.12, 3.13" in str(failure_reason(found.failures[0]))
    off = Answers(links={("2.12.1", "0.20.2"): NO}, otherwise=YES)
    found = held(ran, query=query, answers=off)
    assert (found.exit_status, found.failures) == (3, ())
    [row] = [row for row in found.rungs if row.change == RungChange.REGRESSION]
    assert (row.others, reason_words(row.reason)) == (("2.12.1",), "`_C` needs c10::f()")
    words = [line.split() for line in lines(found).splitlines()]
    text = "cuda links -> no links torch 2.12.1 on Python 3.10, 3.11, 3.12 and 3.13 regression:"
    assert [line[: len(text.split())] for line in words].count(text.split()) == 1


def test_a_python_that_the_candidate_is_not_for_cannot_be_asked() -> None:
    query = ask("vllm", "0.32.0", "0.20.2")
    records = [make("2.13.0", passed(), vllm="0.20.2", python="3.10")]
    [unknown] = held(*records, query=query, answers=Answers(otherwise=YES)).unknown
    assert unknown.rung == "declared"
    assert unknown_sentence(unknown).startswith("cannot be asked: vLLM 0.32.0 needs Python >=3.11")


def test_the_first_rungs_of_both_are_found_and_are_no_answer() -> None:
    found = held(make(OLD, passed()), answers=Answers(otherwise=YES))
    assert found.exit_status == 3
    assert {(row.platform, row.candidate.passed) for row in found.rungs} == {
        ("cuda", "links"),
        ("cpu", "resolves"),
    }
    assert "cuda  links -> links        vLLM 0.9.2 to " in lines(found)
    assert "| cuda | links → links | vLLM 0.9.2 to " in page(found)
    # Of a release that is not published nobody knows them.
    query = ask("torch", "2.12.0rc3", OLD)
    candidate = make("2.12.0rc3", passed())
    found = held(make(OLD, passed()), candidate, query=query, answers=Answers(otherwise=NO))
    assert (found.exit_status, found.rungs) == (0, ())


def test_first_rungs_that_differ_by_python_name_theirs() -> None:
    class One(Answers):
        def resolves(self, cell: Cell, platform: str) -> Answer | None:
            return YES if cell.torch == NEXT or cell.python == "3.12" else None

    query = ask("torch", NEXT, OLD, (Platform.CPU,), ("3.11", "3.12"))
    found = held(make(OLD, passed()), make(NEXT, passed()), query=query, answers=One())
    rows = [(row.baseline.passed, row.pythons) for row in found.rungs if "0.19.1" in row.others]
    assert sorted(rows, key=str) == [("resolves", ("3.12",)), (None, ("3.11",))]
    text = lines(found)
    assert "not asked -> resolves" in text and " on Python 3.11\n" in text


def test_runs_with_other_flags_that_failed_as_the_wheels_must_are_one_unknown() -> None:
    answers = Answers(links={(NEXT, "0.20.2"): NO}, otherwise=YES)
    error = RunError(kind=ErrorKind.IMPORTS, reason="ImportError: undefined symbol: _ZN3c10E")
    runs = [
        make(NEXT, platform="cuda", error=error, flags={"A": day}, day=day, file=f"{day}")
        for day in (20, 21)
    ]
    found = held(on_cuda(OLD), *runs, answers=answers)
    assert (found.exit_status, kinds(found), len(found.unknown)) == (3, [], 1)
    # Only the seconds of the one that decides would be compared.
    decides, other = found.matches
    assert (decides.candidate.path.stem, other.candidate.path.stem) == ("21", "20")
    assert decides.no_times is not None and other.no_times is None
