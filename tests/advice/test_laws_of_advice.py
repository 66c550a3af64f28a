"""Laws of `recommend` over the package's own releases and the published records."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from matrix._util.versions import parse_version
from matrix.advice.evidence import PairRuns
from matrix.advice.fits import MachineTables
from matrix.advice.kinds import EvidenceKind, is_enough
from matrix.advice.recommend import AdviceFacts, Choice, declarations, recommend
from matrix.advice.wish import Wish
from matrix.catalog.hardware import HardwareTable, driver_of
from matrix.catalog.hardware_file import load_hardware
from matrix.catalog.releases_file import load_releases
from matrix.checks.gpu_code.fits import CodeFit
from matrix.checks.gpu_code.wheels import load_wheels
from matrix.checks.lookup import load_answers
from matrix.record.reader import read_many
from matrix.rules.expectations_file import load_expectations

RESULTS = Path(__file__).parents[2] / "results"
HARDWARE: HardwareTable = load_hardware()


@cache
def package() -> AdviceFacts:
    releases = load_releases()
    records, _ = read_many([RESULTS])
    return AdviceFacts(
        releases=releases,
        declared=declarations(releases),
        tables=MachineTables(hardware=HARDWARE, wheels=load_wheels()),
        answers=load_answers(releases),
        runs=PairRuns(records, lambda: load_expectations(None)),
    )


def ranges(*texts: str) -> st.SearchStrategy[SpecifierSet | None]:
    return st.none() | st.sampled_from(texts).map(SpecifierSet)


drivers = st.sampled_from(
    ["520", "525.60.13", "550", "570", "575.51.03", "580", "580.65.06", "610"]
)
gpus = st.sampled_from(
    ["v100", "t4", "a100", "l4", "h100", "h200", "b200", "gb300", "gb10", "thor"]
)
wishes = st.builds(
    Wish,
    driver=st.none() | drivers.map(driver_of),
    gpu=st.none() | gpus.map(HARDWARE.gpu),
    python=st.none() | st.sampled_from(["3.10", "3.11", "3.12", "3.13", "3.14"]),
    cuda=ranges("==12.*", "==12.9", "==13.0", "<13"),
    machine=st.sampled_from(["x86_64", "aarch64"]),
    glibc=st.none() | st.sampled_from(["2.17", "2.28", "2.31", "2.35", "2.39"]),
    model=st.none() | st.just("model_startup[glm_4.5]"),
    torch=st.none(),
    vllm=ranges(">=0.20", "<0.20", "==0.26.*", "<0.14"),
    evidence=st.sampled_from(list(EvidenceKind)),
)


def satisfies(choice: Choice, wish: Wish) -> bool:
    """Tell whether a choice fits each constraint as far as anything is known, by its own facts."""
    vllm, torch = choice.pair.vllm, choice.pair.torch
    for needs in choice.needs:
        if wish.driver and needs.driver and wish.driver.is_older(needs.driver.least):
            return False
        if wish.gpu and needs.code and needs.code.fit is CodeFit.NONE:
            return False
        glibcs = [text for text in (needs.glibc, needs.wheel_glibc) if text]
        if wish.glibc and any(parse_version(text) > parse_version(wish.glibc) for text in glibcs):
            return False
    cuda = choice.needs[0].cuda
    return (
        all(row.python is None or row.python.contains(choice.python) for row in (vllm, torch))
        and wish.python in (None, choice.python)
        and (wish.cuda is None or cuda is None or wish.cuda.contains(cuda))
        and any(tag.endswith(wish.machine) for tag in vllm.wheels)
        and (wish.vllm is None or wish.vllm.contains(vllm.version))
        and (wish.torch is None or wish.torch.contains(torch.version))
        and is_enough(choice.evidence.kind, wish.evidence)
    )


def newest(wish: Wish) -> tuple[object, ...]:
    found = recommend(wish, package()).choice
    return (parse_version("0"),) if found is None else (parse_version(found.pair.vllm.version),)


@given(wishes)
def test_a_recommended_pair_fits_each_constraint(wish: Wish) -> None:
    found = recommend(wish, package())
    if found.choice is None:
        assert all(excluded.reason.code for excluded in found.newer)
    else:
        assert satisfies(found.choice, wish)
        newer = [parse_version(excluded.pair.vllm.version) for excluded in found.newer]
        assert all(version > parse_version(found.choice.pair.vllm.version) for version in newer)


@given(wishes, st.data())
def test_to_drop_a_constraint_never_takes_an_older_pair(wish: Wish, data: st.DataObject) -> None:
    """A constraint never yields a newer pair.

    A GPU is asked of evidence too: `measured` on any kind is less than measured on that one. The
    processor is left out: another one is another machine.
    """
    names = [field.name for field in fields(Wish) if field.name != "machine"]
    name = data.draw(st.sampled_from(names))
    free: Any = EvidenceKind.STATIC if name == "evidence" else None
    assert newest(replace(wish, **{name: free})) >= newest(wish)


@given(wishes, st.sampled_from(["==2.10.*", "==2.11.0", ">=2.13"]))
def test_a_torch_that_was_asked_for_is_taken(wish: Wish, torch: str) -> None:
    found = recommend(replace(wish, torch=SpecifierSet(torch)), package()).choice
    assert found is None or SpecifierSet(torch).contains(found.pair.torch.version)
