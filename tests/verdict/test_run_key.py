"""The key of a cell: laws of what makes a record hold, and the parts that are named."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrix.catalog.cells import Cell
from matrix.record.model import Record
from matrix.record.origin import Origin
from matrix.record.startup_tests import StartupTests
from matrix.verdict import plan_reasons as reasons
from matrix.verdict.plan_reasons import KeyPart
from matrix.verdict.run_key import Packages, RunKey, WheelFile, compare, key_of
from plans import COMMIT, TESTS, record

CELL = Cell("3.11", "2.10.0", "0.19.1")
OF_CUDA = (KeyPart.GPU, KeyPart.DRIVER)
PACKAGES = {"numpy": "2.2.6", "ray": "2.48.0", "torch": "2.10.0", "vllm": "0.19.1"}
quick = settings(deadline=None, max_examples=60)


def origin(project: str, content: str | None = None, sha256: str | None = None) -> Origin:
    return Origin(project=project, content=content, sha256=sha256)


def ran(
    platform: str = "cuda", *, known: frozenset[str] = frozenset(KeyPart), **more: Any
) -> Record:
    """Return a record with a value in each part that is known."""
    gpu = {
        "name": "NVIDIA H200" if KeyPart.GPU in known else None,
        "driver": "580.159.04" if KeyPart.DRIVER in known else None,
    }
    return record(
        platform=platform,
        provenance={
            "machine": "x86_64" if KeyPart.MACHINE in known else None,
            "gpu": gpu if platform == "cuda" else None,
        },
        packages=PACKAGES if KeyPart.PACKAGES in known else {},
        origins=(
            (origin("torch", "c1", "s1"), origin("vllm", "c2", "s2"))
            if KeyPart.FILES in known
            else None
        ),
        flags={"VLLM_A": True, "VLLM_B": "x"} if KeyPart.FLAGS in known else {},
        **more,
    )


parts = st.frozensets(st.sampled_from(sorted(KeyPart)))
platforms = st.sampled_from(("cuda", "cpu"))


def own_key(made: Record) -> RunKey:
    """Return the key of a record, as of what would run: with the flags as people write them."""
    return replace(key_of(made), flags={"VLLM_A": "1", "VLLM_B": "x"})


OTHERS: Mapping[KeyPart, Mapping[str, Any]] = {
    KeyPart.RELEASES: {"cell": Cell("3.11", "2.10.0", "0.19.0")},
    KeyPart.FILES: {"files": {"torch": WheelFile("c1", "s1"), "vllm": WheelFile("c3", "s2")}},
    KeyPart.PACKAGES: {"packages": Packages({**PACKAGES, "numpy": "2.3.0"})},
    KeyPart.MACHINE: {"machine": "aarch64"},
    KeyPart.GPU: {"gpus": frozenset({"NVIDIA H100 80GB HBM3", "NVIDIA A100"})},
    KeyPart.DRIVER: {"driver": "570.86"},
    KeyPart.FLAGS: {"flags": {"VLLM_A": "0", "VLLM_B": "x"}},
}
"""Of each part of a key another value than that of `ran`; the startup tests are a part besides."""


@quick
@given(parts, platforms)
def test_a_record_holds_for_its_own_key(known: frozenset[KeyPart], platform: str) -> None:
    made = ran(platform, known=known)
    found = compare(made, own_key(made), TESTS)
    assert found.differences == ()
    applies = set(KeyPart) - (set() if platform == "cuda" else set(OF_CUDA))
    assert set(found.not_compared) == applies - known - {KeyPart.RELEASES, KeyPart.TESTS}


@quick
@given(st.sampled_from(sorted(OTHERS)), parts, platforms)
def test_a_change_of_one_part_is_named_by_exactly_that_part(
    part: KeyPart, known: frozenset[KeyPart], platform: str
) -> None:
    made = ran(platform, known=known)
    found = compare(made, replace(own_key(made), **OTHERS[part]), TESTS)
    applies = part not in OF_CUDA or platform == "cuda"
    if part is KeyPart.RELEASES or (part in known and applies):
        assert found.parts == (part,)
        assert part not in found.not_compared
    else:
        assert found.parts == ()
        assert (part in found.not_compared) is applies


@quick
@given(parts, parts, platforms)
def test_what_nobody_knows_of_here_makes_nothing_stale(
    known: frozenset[KeyPart], unknown: frozenset[KeyPart], platform: str
) -> None:
    made = ran(platform, known=known)
    blank = RunKey()
    fields = {
        name: getattr(blank, name)
        for part in unknown
        if part is not KeyPart.TESTS
        for name in ([*OTHERS[part]] if part is not KeyPart.FLAGS else [])
    }
    found = compare(made, replace(own_key(made), **fields), TESTS)
    assert found.differences == ()
    applies = set(KeyPart) - (set() if platform == "cuda" else set(OF_CUDA)) - {KeyPart.FLAGS}
    assert unknown & applies - {KeyPart.TESTS} <= set(found.not_compared)


@quick
@given(st.sets(st.sampled_from(sorted(OTHERS)), min_size=1))
def test_every_part_that_differs_is_named_once(changed: set[KeyPart]) -> None:
    made = ran()
    fields = {name: value for part in changed for name, value in OTHERS[part].items()}
    found = compare(made, replace(own_key(made), **fields), TESTS)
    # Of other releases nothing else can be compared.
    wanted = {KeyPart.RELEASES} if KeyPart.RELEASES in changed else changed
    assert set(found.parts) == wanted
    assert len(found.parts) == len(found.differences)


@quick
@given(st.randoms(use_true_random=False), st.sampled_from(sorted(OTHERS)))
def test_the_order_of_packages_and_wheels_does_not_matter(
    rng: random.Random, part: KeyPart
) -> None:
    def shuffled(items: Mapping[str, str]) -> dict[str, str]:
        pairs = list(items.items())
        rng.shuffle(pairs)
        return dict(pairs)

    made = ran()
    now = replace(own_key(made), **OTHERS[part])
    assert now.packages is not None
    mixed = replace(
        made,
        packages=shuffled(made.packages),
        origins=tuple(rng.sample(made.origins or (), 2)),
    )
    other = replace(now, packages=now.packages._replace(versions=shuffled(now.packages.versions)))
    assert compare(mixed, other, TESTS) == compare(made, now, TESTS)


def test_startup_tests_differ_by_what_can_affect_the_record() -> None:
    made = ran()
    old = replace(made, provenance={**made.provenance, "tests": {"commit": COMMIT, "version": 2}})
    found = compare(old, own_key(made), TESTS)
    assert found.differences == (reasons.TestsChanged(changes=("a case starts with images",)),)
    assert (found.parts, found.tests_changed) == ((KeyPart.TESTS,), (3,))
    unknown = replace(made, provenance={**made.provenance, "tests": None})
    assert compare(unknown, own_key(made), TESTS).differences == (reasons.UnknownTests(),)
    assert compare(made, own_key(made), StartupTests(changes=())).parts == (KeyPart.TESTS,)


def test_a_record_without_any_field_of_the_key_is_not_compared() -> None:
    bare = record()
    found = compare(bare, own_key(ran()), TESTS)
    assert found.differences == ()
    assert found.not_compared == (
        KeyPart.FILES,
        KeyPart.PACKAGES,
        KeyPart.MACHINE,
        KeyPart.GPU,
        KeyPart.DRIVER,
        KeyPart.FLAGS,
    )


@pytest.mark.parametrize("gpu", [None, "NVIDIA H200", 7, {"name": 7, "driver": None}, {}])
def test_a_gpu_that_a_record_does_not_name_is_not_compared(gpu: object) -> None:
    made = ran()
    odd = replace(made, provenance={**made.provenance, "gpu": gpu})
    found = compare(odd, own_key(made), TESTS)
    assert (found.differences, found.not_compared) == ((), OF_CUDA)


@pytest.mark.parametrize(
    ("before", "now", "differ"),
    [
        (WheelFile("c", "s"), WheelFile("c", "other"), False),  # the same, packed again
        (WheelFile("c", "s"), WheelFile("other", "s"), True),
        (WheelFile("c", None), WheelFile("d", "s"), True),
        (WheelFile(None, "s"), WheelFile("c", "s"), False),
        (WheelFile(None, "s"), WheelFile("c", "other"), True),
        (WheelFile("c", None), WheelFile(None, "s"), None),
    ],
)
def test_a_wheel_is_what_it_holds_or_else_its_file(
    before: WheelFile, now: WheelFile, differ: bool | None
) -> None:
    made = replace(ran(), origins=(origin("torch", *before), origin("vllm", "c2")))
    key = replace(own_key(made), files={"torch": now, "vllm": WheelFile("c2")})
    found = compare(made, key, TESTS)
    assert found.parts == ((KeyPart.FILES,) if differ else ())
    assert found.not_compared == ((KeyPart.FILES,) if differ is None else ())


@pytest.mark.parametrize(
    ("now", "changes"),
    [
        ({**PACKAGES, "pytest": "9.1", "pluggy": "1.6", "torch-vllm-matrix": "2"}, ()),
        ({**PACKAGES, "ray": "2.48"}, ()),  # the same version, as another tool writes it
        ({**PACKAGES, "ray": "x"}, (("ray", "2.48.0", "x"),)),
        ({**PACKAGES, "tqdm": "4"}, (("tqdm", None, "4"),)),
        ({name: PACKAGES[name] for name in ("ray", "torch", "vllm")}, (("numpy", "2.2.6", None),)),
        ({**PACKAGES, "torch": "2.10.0+cu130"}, (("torch", "2.10.0", "2.10.0+cu130"),)),
    ],
)
def test_the_packages_of_an_environment_are_compared_but_for_the_harness(
    now: Mapping[str, str], changes: tuple[tuple[str, str | None, str | None], ...]
) -> None:
    made = ran()
    found = compare(made, replace(own_key(made), packages=Packages(now)), TESTS)
    told = [tuple(package) for reason in found.differences for package in reason.changes]  # type: ignore[union-attr]
    assert tuple(told) == changes


@pytest.mark.parametrize(
    ("asked", "versions", "parts", "compared"),
    [
        ("2026-11-23", {"numpy": "2.3.0", "torch": "2.10.0"}, (KeyPart.PACKAGES,), True),
        ("2026-11-23", {"numpy": "2.2.6", "torch": "2.10.0+cpu"}, (), True),
        ("2026-11-23", {"flashinfer-python": "0.6"}, (KeyPart.PACKAGES,), True),
        # Of the day of the run nobody knows which was first.
        ("2026-11-22", {"numpy": "2.3.0"}, (), False),
        ("2026-11-21", {"numpy": "2.3.0"}, (), False),
    ],
)
def test_what_a_resolver_found_counts_where_it_was_asked_after_the_run(
    asked: str, versions: Mapping[str, str], parts: tuple[KeyPart, ...], compared: bool
) -> None:
    made = ran()
    found = compare(made, replace(own_key(made), packages=Packages(versions, asked)), TESTS)
    assert found.parts == parts
    assert (KeyPart.PACKAGES not in found.not_compared) is compared


def test_one_of_the_kinds_of_gpu_that_are_here_is_enough() -> None:
    made = ran()
    for kinds, parts in (
        ({"NVIDIA H200", "NVIDIA A100"}, ()),
        ({"NVIDIA H200 NVL"}, (KeyPart.GPU,)),
    ):
        found = compare(made, replace(own_key(made), gpus=frozenset(kinds)), TESTS)
        assert found.parts == parts


@pytest.mark.parametrize(
    ("asked", "parts", "compared"),
    [
        ({}, (), True),
        ({"VLLM_A": "true"}, (), True),
        ({"VLLM_A": "off"}, (KeyPart.FLAGS,), True),
        ({"VLLM_C": "1"}, (), False),
        ({"VLLM_A": "0", "VLLM_C": "1"}, (KeyPart.FLAGS,), False),
    ],
)
def test_flags_are_compared_as_far_as_they_are_asked_for(
    asked: Mapping[str, str], parts: tuple[KeyPart, ...], compared: bool
) -> None:
    made = ran()
    found = compare(made, replace(own_key(made), flags=asked), TESTS)
    assert found.parts == parts
    assert (KeyPart.FLAGS not in found.not_compared) is compared


def test_another_build_of_a_candidate_is_named_by_its_identity() -> None:
    def built(identity: str) -> Cell:
        return Cell("3.11", f"2.16.0+torch216rc1.{identity}", "0.19.1")

    one, other = "b" + "0" * 15, "b" + "1" * 15
    made = record("py311-torch216rc1-vllm019", provenance={"torch": f"2.16.0+torch216rc1.{one}"})
    assert compare(made, RunKey(cell=built(one)), TESTS).differences == ()
    assert compare(made, RunKey(cell=built(other)), TESTS).differences == (
        reasons.OtherBuild(candidate="torch216rc1", ran=one, here=other),
    )
    release = compare(made, RunKey(cell=CELL), TESTS)
    assert isinstance(release.differences[0], reasons.RanOtherReleases)
