from __future__ import annotations

import doctest
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from matrix.attribution import observations, rules
from matrix.attribution.attribute import attribute, unanswered
from matrix.attribution.model import Attribution, Cause, Missing
from matrix.attribution.reasons import (
    Along,
    AxisChange,
    AxisChanges,
    BothAxesChange,
    Boundary,
    Confounder,
    ConfounderKind,
    Difference,
    EnvironmentChange,
    Intermittent,
    NewerRunClean,
    NoCleanNeighbour,
    OtherPlatformClean,
    OtherPythonClean,
    Precision,
    PythonAndAnotherDiffer,
    Question,
    QuestionCode,
    Reason,
    RepeatDifference,
    RepeatsDisagree,
    ShownAlong,
)
from matrix.catalog.cells import Cell
from matrix.catalog.releases import Releases, Torch, Vllm
from matrix.catalog.releases_file import load_releases
from matrix.checks.lookup import Answer
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    Platform,
    Record,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
)
from matrix.record.reader import read
from matrix.report.attribution.sentences import question_words, sentence
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import load_expectations, parse_expectations
from matrix.verdict.grid import survey
from matrix.verdict.judge import judge

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
FLAG = "VLLM_USE_MEGA_AOT_ARTIFACT"
SAVED = "num_compiled_artifacts_saved"
RULES = parse_expectations(
    f'[[rule]]\nid = "warm"\ncase = "a"\nstart = "warm"\ncounters = {{ {SAVED} = 0 }}\n'
    'evidence = ["https://github.com/vllm-project/vllm/issues/35708"]\n'
    '[[rule]]\nid = "cold"\ncase = "a"\nstart = "cold"\ncounters = { "aot_autograd.total" = 3 }\n'
    'evidence = ["https://github.com/vllm-project/vllm/issues/35708"]\n',
    "rules",
)
NO_RULES = Expectations(rules=())


def vllm(version: str, torch: str) -> Vllm:
    return Vllm(
        version=version,
        torch=torch,
        torchvision="0.1",
        torchaudio="2.1",
        python=SpecifierSet(">=3.10"),
    )


RELEASES = Releases(
    torch=tuple(Torch(version=f"2.{minor}.0") for minor in range(9, 16)),
    vllm=(
        vllm("0.19.0", "2.10.0"),
        vllm("0.20.0", "2.11.0"),
        vllm("0.21.0", "2.11.0"),
        vllm("0.22.0", "2.11.0"),
    ),
    pythons=("3.11", "3.12"),
    matrix_vllm=(),
)
KEY_ERROR = "KeyError: None"
TESTS_DIFFER = Confounder(kind=ConfounderKind.TESTS)


def record(  # a record has all that the rules look at
    torch: str,
    vllm: str = "0.20.0",
    *,
    fails: str | None = None,
    at: str = "starts warm",
    saved: int = 0,
    total: int = 3,
    python: str = "3.11",
    platform: str = "cpu",
    flags: Mapping[str, object] | None = None,
    packages: Mapping[str, str] | None = None,
    started: str = "2026-11-22T18:00:00Z",
    case: str = "a",
    **more: Any,
) -> Record:
    """The record of one case, which fails with a signature at a rung or counts this."""
    cold = Start(start=StartKind.COLD, seconds={}, counters={"aot_autograd.total": total})
    warm = Start(start=StartKind.WARM, seconds={}, counters={SAVED: saved})
    ran = (cold, warm) if fails is None else (cold,) if at == "starts warm" else ()
    seen = Case(
        case=case,
        outcome=Outcome("passed" if fails is None else "failed"),
        reason=fails,
        signature=fails,
        flags=flags or {FLAG: False},
        starts=ran,
    )
    return Record(
        cell=Cell(python, torch, vllm).name,
        platform=Platform(platform),
        finished=True,
        provenance={
            "started": started,
            "torch": f"{torch}+cu130",
            "vllm": vllm,
            "python": f"{python}.7",
            "os": "Debian",
            "tests": {"commit": "c", "fingerprint": "f"},
        },
        packages=packages or {"transformers": "5.1.0"},
        flags=flags or {FLAG: False},
        **{"cases": (seen,), "rungs": (RungResult(rung=Rung.IMPORTS, ok=True),), **more},
    )


def attributed(
    *records: Record, rules: Expectations = RULES, grid: bool = False, **asked: Any
) -> tuple[Attribution, ...]:
    known = survey(RELEASES, links=no_links) if grid else None
    return attribute([(each, judge(each, rules)) for each in records], RELEASES, known, **asked)


def no_links(cell: Cell) -> Answer | None:
    pinned = any(each.version == cell.vllm and each.torch == cell.torch for each in RELEASES.vllm)
    return Answer(ok=pinned, reason=None if pinned else "undefined symbol: c10_cuda")


def of(torch: str, *records: Record, **asked: Any) -> Attribution:
    """The one attribution in the cell of vLLM 0.20.0 under that torch, on Python 3.11."""
    name = Cell("3.11", torch, "0.20.0").name
    (found,) = attributed(*records, names=frozenset([name]), **asked)
    return found


def bad(torch: str, vllm: str = "0.20.0", **more: Any) -> Record:
    return record(torch, vllm, fails=KEY_ERROR, **more)


def along(along: Along, *clean: str, shows: Sequence[str], **ends: Boundary) -> AxisChange:
    return AxisChange(
        along=along,
        clean=clean,
        shows=tuple(shows),
        counted=None,
        since=ends.get("since"),
        until=ends.get("until"),
    )


def torch_axis(*clean: str, shows: Sequence[str] = ("2.12.0",), **ends: Boundary) -> AxisChange:
    return along(Along.TORCH, *clean, shows=shows, **ends)


def vllm_axis(*clean: str, shows: Sequence[str] = ("0.20.0",), **ends: Boundary) -> AxisChange:
    return along(Along.VLLM, *clean, shows=shows, **ends)


def minor(low: str, high: str) -> Boundary:
    return Boundary(low=low, high=high, precision=Precision.MINOR)


def shown(along: Along, *releases: str) -> ShownAlong:
    return ShownAlong(along=along, releases=releases)


SINCE_212, UNTIL_213 = minor("2.11.0", "2.12.0"), minor("2.12.0", "2.13.0")
SINCE_020, UNTIL_021 = minor("0.19.0", "0.20.0"), minor("0.20.0", "0.21.0")


# Each line: the records near the failing cell (2.12.0, 0.20.0), the answer, and its reason.
@pytest.mark.parametrize(
    ("near", "answer", "reason"),
    [
        (
            [record("2.11.0"), bad("2.13.0")],
            Cause.TORCH,
            AxisChanges(change=torch_axis("2.11.0", shows=("2.12.0", "2.13.0"), since=SINCE_212)),
        ),
        (
            [record("2.13.0")],
            Cause.TORCH,
            AxisChanges(change=torch_axis("2.13.0", until=UNTIL_213)),
        ),
        (
            [record("2.11.0"), record("2.13.0")],
            Cause.TORCH,
            AxisChanges(change=torch_axis("2.11.0", "2.13.0", since=SINCE_212, until=UNTIL_213)),
        ),
        (
            [record("2.9.0")],
            Cause.TORCH,
            AxisChanges(
                change=torch_axis(
                    "2.9.0",
                    since=Boundary(low="2.9.0", high="2.12.0", precision=Precision.RANGE),
                )
            ),
        ),
        (
            [record("2.11.0"), bad("2.12.0", "0.19.0")],
            Cause.TORCH,
            AxisChanges(
                change=torch_axis("2.11.0", since=SINCE_212),
                also_shown=shown(Along.VLLM, "0.19.0"),
            ),
        ),
        (
            [record("2.12.0", "0.19.0")],
            Cause.VLLM,
            AxisChanges(change=vllm_axis("0.19.0", since=SINCE_020)),
        ),
        (
            [record("2.12.0", "0.21.0"), bad("2.11.0")],
            Cause.VLLM,
            AxisChanges(
                change=vllm_axis("0.21.0", until=UNTIL_021),
                also_shown=shown(Along.TORCH, "2.11.0"),
            ),
        ),
        (
            [record("2.11.0"), record("2.12.0", "0.21.0")],
            Cause.PAIR,
            BothAxesChange(
                torch=torch_axis("2.11.0", since=SINCE_212),
                vllm=vllm_axis("0.21.0", until=UNTIL_021),
            ),
        ),
        # What changes on one Python alone is said with it.
        (
            [record("2.12.0", python="3.12")],
            Cause.ENVIRONMENT,
            OtherPythonClean(clean_pythons=("3.12",)),
        ),
        (
            [record("2.12.0", python="3.12"), record("2.11.0")],
            Cause.TORCH,
            AxisChanges(change=torch_axis("2.11.0", since=SINCE_212), clean_pythons=("3.12",)),
        ),
        (
            [record("2.12.0", python="3.12"), record("2.12.0", "0.19.0")],
            Cause.VLLM,
            AxisChanges(change=vllm_axis("0.19.0", since=SINCE_020), clean_pythons=("3.12",)),
        ),
        (
            [record("2.12.0", python="3.12"), record("2.11.0"), record("2.12.0", "0.19.0")],
            Cause.PAIR,
            BothAxesChange(
                torch=torch_axis("2.11.0", since=SINCE_212),
                vllm=vllm_axis("0.19.0", since=SINCE_020),
                clean_pythons=("3.12",),
            ),
        ),
        (
            [record("2.12.0", platform="cuda")],
            Cause.ENVIRONMENT,
            OtherPlatformClean(platform="cuda", counted=None),
        ),
        (
            [record("2.12.0", platform="cuda"), record("2.11.0")],
            Cause.TORCH,
            AxisChanges(change=torch_axis("2.11.0", since=SINCE_212)),
        ),
        (
            [record("2.12.0", started="2026-11-21T18:00:00Z")],
            Cause.FLAKY,
            RepeatsDisagree(shows=1, runs=2),
        ),
        (
            [
                bad("2.12.0", started="2026-11-20T18:00:00Z"),
                *(
                    record(
                        "2.12.0",
                        started=f"2026-11-{day}T18:00:00Z",
                        packages={"transformers": "4.57.6"},
                    )
                    for day in (19, 21)
                ),
            ],
            Cause.ENVIRONMENT,
            RepeatsDisagree(
                shows=2,
                runs=4,
                differences=(
                    RepeatDifference(name="transformers", shows="5.1.0", clean=("4.57.6",)),
                ),
            ),
        ),
        ([], Cause.UNKNOWN, NoCleanNeighbour()),
        (
            [bad("2.11.0")],
            Cause.UNKNOWN,
            NoCleanNeighbour(also_shown=(shown(Along.TORCH, "2.11.0"),)),
        ),
        (
            [bad("2.10.0"), record("2.11.0")],
            Cause.UNKNOWN,
            Intermittent(along=Along.TORCH),
        ),
        # Another defect says nothing of this one.
        ([record("2.11.0", fails="OSError: x")], Cause.UNKNOWN, NoCleanNeighbour()),
        # One that fails at a lower rung neither; one at a higher rung got past.
        ([bad("2.11.0", at="starts cold")], Cause.UNKNOWN, NoCleanNeighbour()),
    ],
)
def test_the_rules(near: Sequence[Record], answer: Cause, reason: Reason) -> None:
    found = of("2.12.0", bad("2.12.0"), *near, platform="cpu")
    assert (found.answer, found.reason) == (answer, reason)


def test_another_python_is_no_neighbour_of_torch() -> None:
    """Two things differ: neither is blamed, and the runs between the two are named."""
    found = of("2.12.0", bad("2.12.0"), record("2.11.0", python="3.12"))
    assert found.answer == Cause.UNKNOWN
    assert found.reason == PythonAndAnotherDiffer(
        differs=Difference.TORCH,
        platform="cpu",
        python="3.12",
        torch="2.11.0",
        vllm="0.20.0",
        counted=None,
    )
    assert [(run.name, run.question.code, run.question.subjects) for run in found.missing] == [
        ("py311-torch211-vllm020", QuestionCode.CAUSE, ("torch",)),
        ("py312-torch212-vllm020", QuestionCode.CAUSE, ("3.11",)),
        ("py311-torch212-vllm019", QuestionCode.CAUSE, ("vLLM",)),
    ]


def test_another_platform_on_another_python_is_both() -> None:
    found = of("2.12.0", bad("2.12.0"), record("2.12.0", python="3.12", platform="cuda"))
    assert found.answer == Cause.UNKNOWN
    assert isinstance(found.reason, PythonAndAnotherDiffer)
    assert (found.reason.differs, found.reason.platform) == (Difference.PLATFORM, "cuda")
    assert ("py311-torch212-vllm020", "cuda") in names(found)
    assert ("py312-torch212-vllm020", "cpu") in names(found)


def confounded(found: Attribution) -> tuple[Confounder, ...]:
    reason = found.reason
    assert isinstance(reason, AxisChanges | BothAxesChange | OtherPythonClean | OtherPlatformClean)
    return reason.confounders


def questions(found: Attribution) -> list[tuple[str, tuple[str, ...]]]:
    return [(run.name, run.question.subjects or (run.question.code,)) for run in found.missing]


def test_a_python_that_ran_with_other_tests_is_said_with_them() -> None:
    found = of("2.12.0", bad("2.12.0"), with_tests("x", record("2.12.0", python="3.12")))
    assert found.answer == Cause.ENVIRONMENT
    assert confounded(found) == (TESTS_DIFFER,)
    assert ("tests",) in [subjects for _, subjects in questions(found)]


def test_a_platform_that_ran_with_other_tests_is_said_with_them() -> None:
    """Another platform is another machine as a rule, and is not said to be one."""
    other = on_cpu("Xeon", with_tests("x", record("2.12.0", platform="cuda")))
    found = of("2.12.0", on_cpu("EPYC", bad("2.12.0")), other, platform="cpu")
    assert found.answer == Cause.ENVIRONMENT
    assert confounded(found) == (TESTS_DIFFER,)


def with_tests(fingerprint: str, record: Record) -> Record:
    told = {**record.provenance, "tests": {"commit": "c", "fingerprint": fingerprint}}
    return Record(**{**vars(record), "provenance": told})


def on_cpu(model: str, record: Record) -> Record:
    return Record(**{**vars(record), "provenance": {**record.provenance, "cpu": {"model": model}}})


@pytest.mark.parametrize(
    ("here", "there", "confounder", "subject"),
    [
        (
            with_tests("x", bad("2.12.0")),
            record("2.11.0", started="2026-11-20T18:00:00Z"),
            TESTS_DIFFER,
            "tests",
        ),
        (
            on_cpu("EPYC", bad("2.12.0")),
            on_cpu("Xeon", record("2.11.0", started="2026-11-20T18:00:00Z")),
            Confounder(
                kind=ConfounderKind.MACHINE,
                changes=(EnvironmentChange(name="the cpu's model", here="EPYC", there="Xeon"),),
            ),
            "machine",
        ),
    ],
)
def test_what_differs_too_is_said_and_its_run_named(
    here: Record, there: Record, confounder: Confounder, subject: str
) -> None:
    found = of("2.12.0", here, there)
    assert found.answer == Cause.TORCH
    assert confounded(found) == (confounder,)
    assert ("py311-torch211-vllm020", (subject,)) in questions(found)
    # A run that shows it with the tests or on the machine of the clean one takes the doubt away.
    provenance = {**there.provenance, "torch": "2.13.0+cu130"}
    assert (
        confounded(of("2.12.0", here, there, replace(bad("2.13.0"), provenance=provenance))) == ()
    )


def test_one_run_against_one_is_flaky_or_the_environment() -> None:
    other = record("2.12.0", started="2026-11-21T18:00:00Z", packages={"transformers": "4.57.6"})
    found = of("2.12.0", bad("2.12.0"), other)
    assert found.answer == Cause.UNKNOWN
    assert isinstance(found.reason, RepeatsDisagree) and found.reason.differences
    assert questions(found) == [("py311-torch212-vllm020", ("flaky",))]


def test_a_newer_run_that_is_clean_with_other_tests_is_said() -> None:
    newer = with_tests("x", record("2.12.0", started="2026-11-23T18:00:00Z", deselected=1))
    found = of("2.12.0", bad("2.12.0"), record("2.11.0"), newer)
    assert found.answer == Cause.UNKNOWN
    assert found.reason == NewerRunClean()
    assert names(found) == [("py311-torch212-vllm020", "cpu")]
    # One that fails with them as well takes its place.
    again = with_tests("x", bad("2.12.0", started="2026-11-23T19:00:00Z", deselected=1))
    assert of("2.12.0", bad("2.12.0"), record("2.11.0"), newer, again).answer == Cause.FLAKY


def test_a_cell_whose_newest_run_passes_can_be_flaky() -> None:
    older = bad("2.12.0", started="2026-11-21T18:00:00Z")
    assert of("2.12.0", older, record("2.12.0"), record("2.11.0")).answer == Cause.FLAKY
    # In the same second too, whichever comes first.
    for records in ([bad("2.12.0"), record("2.12.0")], [record("2.12.0"), bad("2.12.0")]):
        assert of("2.12.0", *records).answer == Cause.FLAKY
    # What other tests or packages found before is over.
    assert attributed(with_tests("x", older), record("2.12.0")) == ()
    assert attributed(older, record("2.12.0", packages={"transformers": "6.0.0"})) == ()


def test_a_record_from_the_future_is_the_oldest_of_its_cell() -> None:
    late = {"late": "2026-11-24T00:00:00Z"}
    future = with_tests("x", record("2.12.0", started="2031-01-01T00:00:00Z"))
    assert attributed(bad("2.12.0"), future) == ()
    assert of("2.12.0", bad("2.12.0"), future, **late).answer == Cause.UNKNOWN
    future = bad("2.11.0", started="2031-01-01T00:00:00Z")
    beside = [bad("2.12.0"), with_tests("x", record("2.11.0")), future]
    assert of("2.12.0", *beside).answer == Cause.UNKNOWN
    assert of("2.12.0", *beside, **late).answer == Cause.TORCH


def test_a_run_with_another_flag_hides_no_failure() -> None:
    """Nobody knows which of two single runs had the release's own flags."""
    fails = bad("2.12.0", flags={FLAG: True}, deselected=1)
    other = record("2.12.0", flags={FLAG: False}, deselected=1, started="2026-11-23T18:00:00Z")
    found = of("2.12.0", record("2.11.0"), fails, other)
    assert (found.answer, found.flags[0].decides) == (Cause.TORCH, True)
    # Nor does it speak for its release: 2.13 is not the first that fails.
    found = of("2.13.0", record("2.11.0"), fails, other, bad("2.13.0", flags={FLAG: True}))
    assert found.cell.torch == "2.13.0" and found.after == "2.11.0"
    assert "torch, since a release after 2.11.0 and up to 2.13.0" in sentence(found)
    assert ("py311-torch212-vllm020", "cpu") in names(found)
    # One more run with nothing given tells which are its own.
    again = bad("2.12.0", flags={FLAG: True}, deselected=1, started="2026-11-23T19:00:00Z")
    more = [record("2.11.0"), fails, other, again, bad("2.13.0", flags={FLAG: True})]
    found = of("2.13.0", *more)
    assert (found.after, found.since) == ("2.11.0", "2.12.0")


def test_the_same_defect_of_a_run_is_one_by_its_signature() -> None:
    def dead(torch: str, pid: int) -> Record:
        error = RunError(kind=ErrorKind.IMPORTS, reason=f"OSError: lock of pid {pid} held")
        return record(
            torch, cases=(), rungs=(RungResult(rung=Rung.IMPORTS, ok=False),), error=error
        )

    found = of("2.12.0", dead("2.12.0", 4711), dead("2.11.0", 12), record("2.10.0"))
    assert (found.answer, found.after, found.since) == (Cause.TORCH, "2.10.0", "2.11.0")


def test_a_cell_without_an_answer_is_named() -> None:
    crashed = record(
        "2.12.0", cases=(), error=RunError(kind=ErrorKind.INTERRUPTED, reason="Ctrl-C")
    )
    none = record("2.11.0", cases=(Case(case="a", outcome=Outcome.NOT_APPLICABLE),))
    judged = [(each, judge(each, RULES)) for each in (record("2.10.0"), none, crashed)]
    assert unanswered(judged, RELEASES) == (("py311-torch212-vllm020", "cpu"),)
    assert unanswered(judged, RELEASES, names=frozenset(["py311-torch211-vllm020"])) == ()
    assert unanswered(judged, RELEASES, platform="cuda") == ()
    assert len(unanswered(judged, RELEASES, case="b")) == 3


CELLS = st.tuples(
    st.sampled_from(["2.11.0", "2.12.0", "2.13.0"]),
    st.sampled_from(["0.19.0", "0.20.0", "0.21.0"]),
    st.sampled_from(["3.11", "3.12"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(CELLS, min_size=1, max_size=9))
@settings(max_examples=80, deadline=None)
def test_a_release_is_blamed_by_a_run_that_differs_in_it_alone(
    drawn: list[tuple[str, str, str, bool, bool, bool]],
) -> None:
    """On the same Python, and with flags of which no run says that they are not its own."""
    records = [
        record(
            torch,
            vllm,
            python=python,
            fails=KEY_ERROR if fails else None,
            flags={FLAG: flag},
            deselected=int(part),
            started=f"2026-11-{at + 1:02}T18:00:00Z",
        )
        for at, (torch, vllm, python, fails, flag, part) in enumerate(drawn)
    ]
    assert attributed(*reversed(records)) == attributed(*records)
    for found in attributed(*records):
        if found.answer not in (Cause.TORCH, Cause.VLLM, Cause.PAIR):
            continue
        at = found.cell
        clean = [
            (torch, vllm)
            for torch, vllm, python, fails, _, _ in drawn
            if python == at.python and not fails and (torch, vllm) != (at.torch, at.vllm)
        ]
        assert found.answer == Cause.VLLM or any(vllm == at.vllm for _, vllm in clean)
        assert found.answer == Cause.TORCH or any(torch == at.torch for torch, _ in clean)
        for missing in found.missing:
            runs = [each for each in drawn if Cell(each[2], each[0], each[1]).name == missing.name]
            # What ran is asked again with given flags, or where its own flags are not known.
            assert not runs or missing.flags or len({each[4] for each in runs}) == 2


def test_a_neighbour_that_fails_at_a_higher_rung_is_clean_of_it() -> None:
    found = of("2.12.0", bad("2.12.0", at="starts cold"), bad("2.11.0"))
    assert found.answer == Cause.TORCH
    assert "starts cold under torch 2.11.0" in sentence(found)


def test_runs_with_other_tests_are_no_repeats() -> None:
    old = record("2.12.0", started="2026-11-21T18:00:00Z")
    old = Record(**{**vars(old), "provenance": {**old.provenance, "tests": {"fingerprint": "x"}}})
    assert of("2.12.0", bad("2.12.0"), old).answer == Cause.UNKNOWN


def test_the_newest_run_speaks_for_a_neighbour() -> None:
    older = bad("2.11.0", started="2026-11-21T18:00:00Z")
    assert of("2.12.0", bad("2.12.0"), older, record("2.11.0")).answer == Cause.TORCH


def test_two_defects_of_one_case_are_attributed_on_their_own() -> None:
    found = attributed(
        record("2.12.0", fails="OSError: disk"), bad("2.13.0"), record("2.11.0"), platform="cpu"
    )
    said = {each.name: sentence(each) for each in found}
    assert (
        "under torch 2.11.0 and fails to start warm under 2.12.0:" in said["py311-torch212-vllm020"]
    )
    # What 2.12 does says nothing of what 2.13 does.
    assert said["py311-torch213-vllm020"].endswith(
        "torch, since a release after 2.11.0 and up to 2.13.0"
    )


def test_a_counter_is_attributed_by_what_neighbours_counted() -> None:
    found = of("2.12.0", record("2.12.0", saved=4), record("2.11.0"), bad("2.10.0"))
    assert found.answer == Cause.TORCH
    assert sentence(found) == (
        f"vLLM 0.20.0 counts warm {SAVED} 0 under torch 2.11.0 and 4 under 2.12.0: torch,"
        " since 2.12"
    )
    assert [(each.observed, each.wanted) for each in found.symptoms] == [(4, 0)]


def test_a_third_value_is_another_drift() -> None:
    found = of("2.12.0", record("2.12.0", saved=4), record("2.11.0", saved=2))
    assert found.answer == Cause.UNKNOWN


def test_counters_that_are_told_alike_are_one() -> None:
    found = of("2.12.0", record("2.12.0", saved=4, total=9), record("2.11.0"))
    assert [each.counter for each in found.symptoms] == ["aot_autograd.total", SAVED]


def test_without_an_expectation_a_cell_off_the_pin_is_held_against_its_pin() -> None:
    records = [record("2.12.0", saved=4), record("2.11.0"), record("2.10.0", saved=4)]
    found = attributed(*records, rules=NO_RULES)
    assert [(each.name, each.symptoms[0].kind) for each in found] == [
        ("py311-torch210-vllm020", "changed"),
        ("py311-torch212-vllm020", "changed"),
    ]
    assert (
        found[0].answer == Cause.UNKNOWN
    )  # 2.10 and 2.12 count it, and 2.11 between them does not


def test_what_changed_as_expected_is_told_where_it_is_asked_for() -> None:
    records = [record("2.11.0", "0.20.0"), record("2.11.0", "0.21.0", total=9)]
    rules = parse_expectations(
        '[[rule]]\nid = "x"\ncase = "a"\nvllm = ">=0.21"\nstart = "cold"\n'
        'counters = { "aot_autograd.total" = 9 }\nevidence = ["https://github.com/a/b/issues/1"]\n',
        "rules",
    )
    assert attributed(*records, rules=rules) == ()
    (found,) = attributed(*records, rules=rules, changes=True)
    assert (found.answer, found.since) == (Cause.VLLM, "0.21.0")


def flagged(torch: str, value: bool, **more: Any) -> Record:
    return record(torch, flags={FLAG: value}, **more)


@pytest.mark.parametrize(
    ("more", "decides", "said"),
    [
        ((), None, f"with another default of {FLAG} (False at torch 2.11.0, True here)"),
        # The same cell with the flag of its neighbour is clean: the flag does it.
        ((flagged("2.12.0", False, deselected=1),), True, "alone: with the other value it is gone"),
        ((flagged("2.11.0", True, saved=4, deselected=1),), True, "alone: with the other value"),
        # It stays: torch does it, whatever the flag.
        ((flagged("2.12.0", False, saved=4, deselected=1),), False, "and not by the default of"),
        ((flagged("2.11.0", True, deselected=1),), False, "with the other value it stays"),
    ],
)
def test_a_flag_that_differs_is_named(
    more: tuple[Record, ...], decides: bool | None, said: str
) -> None:
    found = of("2.12.0", flagged("2.12.0", True, saved=4), flagged("2.11.0", False), *more)
    assert found.answer == Cause.TORCH
    (flag,) = found.flags
    assert (flag.flag, flag.here, flag.there, flag.decides) == (FLAG, True, False, decides)
    assert said in sentence(found)
    asked = Missing(
        name="py311-torch212-vllm020",
        platform="cpu",
        question=Question(code=QuestionCode.FLAG),
        flags=((FLAG, "0"),),
    )
    assert (asked in found.missing) is (decides is None)


def test_a_flag_is_not_blamed_for_what_other_tests_may_do() -> None:
    there, own = flagged("2.11.0", False), flagged("2.12.0", True, saved=4)
    newer = "2026-11-23T18:00:00Z"
    given = with_tests("x", flagged("2.12.0", False, deselected=1, started=newer))
    found = of("2.12.0", own, there, given)
    assert [each.decides for each in found.flags] == [None]
    whys = [(question_words(each.question), each.flags) for each in found.missing]
    assert ("whether it is the flag or the tests", ()) in whys
    # With these tests too its own flag shows it, and then the flag is all that is left.
    again = with_tests("x", flagged("2.12.0", True, saved=4, deselected=1, started=newer))
    assert [each.decides for each in of("2.12.0", own, there, given, again).flags] == [True]


def test_other_packages_that_differ_are_said() -> None:
    other = record("2.11.0", packages={"transformers": "4.57.6", "triton": "3.6.0"})
    found = of("2.12.0", bad("2.12.0"), other)
    assert sentence(found).endswith("transformers 4.57.6 there, 5.1.0 here)")


def test_what_does_not_import_is_attributed_as_the_run() -> None:
    dead = record(
        "2.12.0",
        cases=(),
        rungs=(RungResult(rung=Rung.IMPORTS, ok=False, reason="undefined symbol"),),
        error=RunError(kind=ErrorKind.IMPORTS, reason="undefined symbol"),
    )
    found = of("2.12.0", dead, record("2.11.0"))
    assert (found.case, found.answer) == ("", Cause.TORCH)
    assert "is imported under torch 2.11.0 and is not imported under 2.12.0" in sentence(found)


@pytest.mark.parametrize("kind", ["no_space", "gpu_fault", "interrupted"])
def test_a_fault_of_the_machine_is_nobodys(kind: str) -> None:
    faulty = Record(
        **{**vars(record("2.12.0", fails="x")), "error": RunError(kind=ErrorKind(kind), reason="x")}
    )
    found = [each.answer for each in attributed(faulty, record("2.11.0"))]
    assert found == ([Cause.TORCH] if kind == "interrupted" else [])


def names(found: Attribution) -> list[tuple[str, str]]:
    return [(each.name, each.platform) for each in found.missing]


def test_missing_runs_are_named_as_environments() -> None:
    found = of("2.12.0", bad("2.12.0"))
    assert names(found) == [("py311-torch211-vllm020", "cpu"), ("py311-torch212-vllm019", "cpu")]
    found = of("2.12.0", bad("2.12.0"), bad("2.11.0"))
    assert names(found) == [("py311-torch210-vllm020", "cpu"), ("py311-torch212-vllm019", "cpu")]


def test_between_two_releases_the_middle_one_is_missing() -> None:
    found = of("2.15.0", bad("2.15.0"), record("2.9.0"), bad("2.15.0", "0.19.0"))
    assert names(found) == [("py311-torch212-vllm020", "cpu")]
    assert (found.after, found.since) == ("2.9.0", "2.15.0")


def test_only_runs_that_can_work_are_missing() -> None:
    """On CUDA nothing off the pin links: it is another vLLM with the same pin, or the CPU."""
    failing = bad("2.11.0", platform="cuda")
    found = of("2.11.0", failing, grid=True, platform="cuda")
    assert names(found) == [("py311-torch211-vllm021", "cuda")]
    shown = [bad("2.11.0", f"0.{minor}.0", platform="cuda") for minor in (21, 22)]
    found = of("2.11.0", failing, *shown, grid=True, platform="cuda")
    assert names(found) == [("py311-torch211-vllm020", "cpu")]
    assert of("2.11.0", failing, *shown, bad("2.11.0"), grid=True, platform="cuda").missing == ()


def test_what_did_not_import_is_not_run_again() -> None:
    dead = record(
        "2.11.0",
        cases=(),
        rungs=(RungResult(rung=Rung.IMPORTS, ok=False, reason="undefined symbol"),),
        error=RunError(kind=ErrorKind.IMPORTS, reason="undefined symbol"),
    )
    found = of("2.12.0", bad("2.12.0"), dead)
    assert names(found) == [("py311-torch210-vllm020", "cpu"), ("py311-torch212-vllm019", "cpu")]


def test_off_the_pin_it_must_be_known_to_link() -> None:
    def links(cell: Cell) -> Answer | None:
        return Answer(ok=True) if cell.torch == "2.13.0" else None

    failing = bad("2.12.0", platform="cuda")
    judged = [(failing, judge(failing, RULES))]
    (found,) = attribute(judged, RELEASES, survey(RELEASES, links=links))
    assert names(found) == [("py311-torch211-vllm020", "cuda")]  # its pin
    more = bad("2.11.0", platform="cuda")
    judged.append((more, judge(more, RULES)))
    found = attribute(judged, RELEASES, survey(RELEASES, links=links))[1]
    assert names(found) == [("py311-torch213-vllm020", "cuda")]


def test_cells_platforms_and_cases_are_chosen() -> None:
    records = [bad("2.12.0"), bad("2.12.0", platform="cuda"), bad("2.13.0", case="m[x=1]")]
    assert len(attributed(*records)) == 3
    assert [each.platform for each in attributed(*records, platform="cuda")] == ["cuda"]
    assert [each.case for each in attributed(*records, case="m")] == ["m[x=1]"]
    assert attributed(*records, case="m[x=2]") == ()


def test_a_record_of_no_known_cell_is_left_out() -> None:
    other = record(
        "2.12.0", error=RunError(kind=ErrorKind.WRONG_CELL, reason="ran another torch"), fails="x"
    )
    assert attributed(other) == ()


@st.composite
def lines(draw: st.DrawFn) -> tuple[list[Record], int, int]:
    """Records along torch with one change point: the first bad minor, the last good one."""
    minors = sorted(draw(st.sets(st.integers(9, 15), min_size=2)))
    first = draw(st.sampled_from(minors[1:]))
    records = [bad(f"2.{each}.0") if each >= first else record(f"2.{each}.0") for each in minors]
    return draw(st.permutations(records)), first, max(each for each in minors if each < first)


@given(lines())
@settings(max_examples=40, deadline=None)
def test_one_change_along_torch_is_torch_since_then(
    line: tuple[list[Record], int, int],
) -> None:
    records, first, before = line
    for found in attributed(*records):
        assert found.answer == Cause.TORCH
        assert (found.after, found.since) == (f"2.{before}.0", f"2.{first}.0")


@given(
    st.lists(st.sampled_from(["ok", "bad", "other", "none"]), min_size=7, max_size=7), st.randoms()
)
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_records_changes_nothing(outcomes: list[str], rand: random.Random) -> None:
    kinds = {"ok": None, "bad": KEY_ERROR, "other": "OSError"}
    records = [
        record(f"2.{9 + at}.0", fails=kinds[each])
        for at, each in enumerate(outcomes)
        if each != "none"
    ]
    found = attributed(*records)
    rand.shuffle(records)
    assert attributed(*records) == found
    # An answer names a clean neighbour, and nothing is missing that ran.
    ran = {each.cell for each in records}
    for each in found:
        assert (each.answer in (Cause.TORCH, Cause.PAIR, Cause.VLLM)) <= bool(
            each.after or each.until
        )
        assert not ran & {missing.name for missing in each.missing if each.answer != Cause.UNKNOWN}


# --- history, by records of real runs ---


def history(*places: str, rules: Expectations | None = None, **asked: Any) -> list[Attribution]:
    records = [read(ROOT / place) for place in places]
    known = load_expectations() if rules is None else rules
    judged = [(each, judge(each, known)) for each in records]
    return list(attribute(judged, load_releases(), **asked))


# As published when the runs beside them were made: with other tests these would be no neighbours.
TORCH_211 = "tests/attribution/published/py311-torch211-vllm020.json"
TORCH_212 = "tests/attribution/published/py311-torch212-vllm020.json"
PUBLISHED = ("results/cpu/py311-torch211-vllm020.json", "results/cpu/py311-torch212-vllm020.json")
SAVE = {
    "0.17": "results/cpu/py311-torch210-vllm017.json",
    "0.18": "results/cpu/py311-torch210-vllm018.json",
    "0.19": "results/cpu/py311-torch210-vllm019.json",
}


# What changed is told with no rules, as when it was new, and by the rules of today, which expect it
# of the mega artifact's flag: then it is asked for as a change.
AS_NEW_AND_AS_EXPECTED = pytest.mark.parametrize(
    "asked", [{"rules": NO_RULES}, {"changes": True}], ids=["as new", "as expected"]
)


@AS_NEW_AND_AS_EXPECTED
@pytest.mark.parametrize("case", ["model_startup[deepseek_v3.2]", "model_startup[kimi_k2.5]"])
def test_history_the_startup_of_torch_2_12(case: str, asked: dict[str, Any]) -> None:
    """pytorch/pytorch #180912: warm_artifacts_saved is 0 under torch 2.12, for these two models."""
    (found,) = history(TORCH_211, TORCH_212, case=case, **asked)
    assert (found.answer, found.after, found.since) == (Cause.TORCH, "2.11.0", "2.12.1")
    assert sentence(found).startswith(
        f"vLLM 0.20.2 counts warm {SAVED} 4 under torch 2.11.0 and 0 under 2.12.1: torch,"
        " since 2.12"
    )
    changed = {(each.counter, each.wanted, each.observed) for each in found.symptoms}
    assert {(SAVED, 4, 0), ("num_compiled_artifacts_loaded", 0, 4)} < changed


@AS_NEW_AND_AS_EXPECTED
def test_history_the_startup_of_torch_2_12_and_after_by_its_flag(asked: dict[str, Any]) -> None:
    """The same with a run under 2.13, and runs of both pairs with the flag of the other."""
    more = ("torch-213/py311-torch213-vllm020", "mega-off/py311-torch212-vllm020")
    places = [f"tests/attribution/{each}.json" for each in more]
    found = history(TORCH_211, TORCH_212, *places, case="small_startup[dense]", **asked)
    found += history(
        *(TORCH_211, TORCH_212, *places),
        case="model_startup[deepseek_v3.2]",
        names=frozenset(["py311-torch212-vllm020"]),
        **asked,
    )
    assert {each.name for each in found} == {"py311-torch212-vllm020", "py311-torch213-vllm020"}
    for each in found:
        assert (each.answer, each.after, each.since) == (Cause.TORCH, "2.11.0", "2.12.1")
    assert sentence(found[-1]) == (
        f"vLLM 0.20.2 counts warm {SAVED} 4 under torch 2.11.0 and 0 under 2.12.1 and 2.13.0:"
        f" torch, since 2.12, by the default of {FLAG} (False at torch 2.11.0, True here) alone:"
        " with the other value it is gone"
    )


def test_history_what_the_missing_run_told() -> None:
    """vLLM 0.19.1 under torch 2.12, as `matrix attribute --run` ran it: torch, and not the pair."""
    runs = ("torch-213/py311-torch213-vllm020", "mega-off/py311-torch212-vllm020")
    places = [TORCH_211, TORCH_212, *(f"tests/attribution/{each}.json" for each in runs)]
    asked = {"case": "small_startup[dense]", "names": frozenset(["py311-torch212-vllm020"])}
    (found,) = history(*places, rules=NO_RULES, **asked)
    assert [each.name for each in found.missing] == ["py311-torch212-vllm019"]
    last = "tests/attribution/vllm-019/py311-torch212-vllm019.json"
    (found,) = history(*places, last, rules=NO_RULES, **asked)
    assert (found.answer, found.missing) == (Cause.TORCH, ())
    assert "and torch 2.12.1 with vLLM 0.19.1 shows it too: torch, since 2.12" in sentence(found)


@pytest.mark.parametrize("places", [(TORCH_211, TORCH_212), PUBLISHED], ids=["then", "today"])
@AS_NEW_AND_AS_EXPECTED
def test_history_the_default_of_the_mega_artifact(
    asked: dict[str, Any], places: tuple[str, str]
) -> None:
    """vllm-project/vllm #37198: it is on by default from torch 2.12."""
    found = history(*places, **asked)
    assert {each.case for each in found} == {
        *(f"model_startup[{name}]" for name in ("deepseek_v3.2", "kimi_k2.5", "gpt_oss_120b")),
        *("model_startup[glm_4.5]", "model_startup[minimax_m2.5]"),
        *("small_startup[dense]", "small_startup[moe]"),
    }  # and not moe_startup, whose two cases say themselves whether it is on
    for each in found:
        assert each.answer == Cause.TORCH
        assert [(flag.flag, flag.there, flag.here) for flag in each.flags] == [(FLAG, False, True)]
        assert f"with another default of {FLAG} (False at torch 2.11.0" in sentence(each)


def test_history_what_the_flag_explains_is_no_fault() -> None:
    """Each start counts what it should with its value of the flag, so nothing drifts."""
    assert history(TORCH_211, TORCH_212) == []


def test_history_the_warm_save_mended_in_vllm_0_18() -> None:
    """vllm-project/vllm #35708: 0.17 saves an artifact again on the warm start."""
    (found,) = history(*SAVE.values(), case="moe_startup[mega_aot=0]", changes=True)
    assert found.name == "py311-torch210-vllm018"
    assert (found.answer, found.after, found.since) == (Cause.VLLM, "0.17.1", "0.18.1")
    assert sentence(found) == (
        f"torch 2.10.0 counts warm {SAVED} 1 with vLLM 0.17.1 and 0 with 0.18.1 and 0.19.1: vLLM,"
        " since 0.18"
    )


def test_history_the_warm_save_as_a_drift() -> None:
    """The same, judged by what vLLM does since: 0.17 drifts, until 0.18."""
    rules = parse_expectations(
        f'[[rule]]\nid = "s"\ncase = "moe_startup"\nstart = "warm"\ncounters = {{ {SAVED} = 0 }}\n'
        'evidence = ["https://github.com/vllm-project/vllm/issues/35708"]\n',
        "rules",
    )
    (found,) = history(*SAVE.values(), rules=rules)
    assert (found.name, found.case) == ("py311-torch210-vllm017", "moe_startup[mega_aot=0]")
    assert (found.answer, found.until) == (Cause.VLLM, "0.18.1")
    assert sentence(found).endswith("vLLM, until 0.18, where it is gone")


@pytest.mark.parametrize("module", [observations, rules])
def test_the_examples_hold(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
