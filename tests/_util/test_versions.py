"""Versions: each is read as packaging reads it, however often and in whatever order."""

from itertools import product

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix._util.versions import (
    End,
    SpecifierError,
    VersionRange,
    VersionRangeError,
    base_of,
    chosen_versions,
    distance,
    neighbours,
    newest_patch,
    newest_patches,
    parse_specifier,
    parse_version,
    specifier_text,
)
from matrix.record.model import Case, Outcome, Platform, Record
from matrix.rules.expectations import (
    ExpectationsError,
)
from matrix.verdict.judge import judge
from matrix.verdict.states import Verdict
from rules import ANY_CASE

_releases = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(
    lambda numbers: ".".join(map(str, numbers))
)
_texts = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(("", "", "v", "1!")),
        _releases,
        st.sampled_from(("", "", "rc1", "-RC1", ".dev3", ".post1")),
        st.sampled_from(("", "", "+cu128", "+CU130")),
    ),
)


@given(st.lists(_texts, min_size=2))
def test_it_is_what_packaging_reads(texts: list[str]) -> None:
    found = [parse_version(text) for text in texts]
    assert found == [Version(text) for text in texts]
    assert list(map(str, found)) == [str(Version(text)) for text in texts]
    assert sorted(texts, key=parse_version) == sorted(texts, key=Version)


def test_equal_ones_keep_the_way_they_are_written() -> None:
    assert parse_version("2.10") == parse_version("2.10.0")
    assert [str(parse_version(text)) for text in ("2.10", "2.10.0", "2.10")] == [
        "2.10",
        "2.10.0",
        "2.10",
    ]


@pytest.mark.parametrize("text", ["", "None", "2.x", "2.11.0 under", "1" * 5000, "2." + "9" * 5000])
def test_what_is_none_is_refused_each_time(text: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidVersion) as raised:
            parse_version(text)
        assert len(str(raised.value)) < 100


def test_a_record_of_a_version_that_nobody_can_read_is_judged() -> None:
    told = {"started": "2026-11-22T18:00:00Z", "torch": "1" * 5000, "vllm": "0.19.1"}
    case = Case(case="a", outcome=Outcome.FAILED, reason="KeyError")
    record = Record(
        cell="py311-torch210-vllm019",
        platform=Platform.CPU,
        finished=True,
        provenance=told,
        cases=(case,),
    )
    assert judge(record, ANY_CASE).cases[0].expected == {}
    assert (
        judge(
            Record(cell=record.cell, platform=Platform.CPU, finished=True, provenance=told),
            ANY_CASE,
        ).verdict
        == Verdict.UNTESTED
    )


@given(st.lists(_texts), _texts)
def test_neighbours_are_the_known_ones_around(known: list[str], wanted: str) -> None:
    near = neighbours(wanted, known)
    middle = parse_version(wanted)
    below = [text for text in known if parse_version(text) < middle]
    above = [text for text in known if parse_version(text) >= middle]
    assert [parse_version(text) for text in near] == [
        *([max(map(parse_version, below))] if below else []),
        *([min(map(parse_version, above))] if above else []),
    ]
    assert near == neighbours(wanted, reversed(known))


def test_the_newest_patch_of_each_minor_release_oldest_first() -> None:
    pairs = [("b", "0.20.10"), ("a", "0.9.0"), ("c", "0.20.9"), ("d", "1.20.0")]
    assert newest_patches(pairs, lambda pair: pair[1]) == [pairs[1], pairs[0], pairs[3]]
    assert newest_patches([], str) == []


@pytest.mark.parametrize(
    ("here", "nearest_first"),
    [
        ("2.12.1", ["2.12.0", "2.13.1", "2.11.0", "2.10.1", "3.0.0", "1.13.0"]),
        ("3.0.0", ["2.1500.0", "2.15.0", "2.9.0"]),
        ("0.19.1", ["0.20.0", "0.17.0", "0.1019.0", "1.0.0"]),
    ],
)
def test_distance_orders_releases_by_how_far_they_are(here: str, nearest_first: list[str]) -> None:
    shuffled = sorted(nearest_first)
    assert sorted(shuffled, key=lambda text: distance(text, here)) == nearest_first
    for text in nearest_first:
        assert distance(text, here) == distance(here, text) > distance(here, here)


@pytest.mark.parametrize(
    "text", ["2.11.x", ">>2", "torch", "2.11 2.12", "9" * 5000, ">=" + "9" * 5000]
)
def test_a_bad_specifier_is_refused_with_the_option(text: str) -> None:
    with pytest.raises(SpecifierError, match=r"^--torch .*: is neither a release nor a specifier"):
        parse_specifier(text, "--torch")


KNOWN = ("2.11.0", "2.11.0+cu129", "2.12.0", "2.12.1rc1", "2.12.1", "2.12.10", "2.13.0rc1")


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        (None, list(KNOWN)),
        ("2.12", ["2.12.10"]),
        ("2.11", ["2.11.0"]),
        ("2.12.1", ["2.12.1"]),
        ("v2.12.1", ["2.12.1"]),
        ("2.11.0+cu129", ["2.11.0+cu129"]),
        ("2.11.0+cpu", ["2.11.0+cpu"]),
        ("2.13", ["2.13"]),  # no final release: not a candidate by surprise
        ("2.13.0rc1", ["2.13.0rc1"]),
        (">=2.12.1,<2.13", ["2.12.1", "2.12.10"]),
        ("==2.12.*", ["2.12.0", "2.12.1rc1", "2.12.1", "2.12.10"]),
    ],
)
def test_releases_are_chosen_as_a_person_means_them(text: str | None, chosen: list[str]) -> None:
    assert chosen_versions(text, KNOWN, "--torch") == chosen


@pytest.mark.parametrize("text", ["", "  ", ">=3", "the newest", ">>2", "9" * 5000, "=="])
def test_releases_that_cannot_be_chosen_are_refused(text: str) -> None:
    with pytest.raises(SpecifierError, match=r"^--torch "):
        chosen_versions(text, KNOWN, "--torch")


@given(st.lists(st.sampled_from([*KNOWN])), st.sampled_from(["2.11", "2.12", "2.13", "2.12.1"]))
def test_a_release_stays_and_a_minor_one_is_one_of_its_patches(known: list[str], text: str) -> None:
    found = newest_patch(text, known)
    assert found == text or (found in known and found.startswith(f"{text}."))
    assert newest_patch(found, known) == found


def test_a_specifier_is_read_as_a_person_means_it() -> None:
    assert parse_specifier(">=2,<3", "--torch") == SpecifierSet("<3,>=2")
    assert parse_specifier("2.11", "--torch").contains("2.11.1")
    assert not parse_specifier("2.11.0", "--torch").contains("2.11.1")
    assert specifier_text(SpecifierSet("<3.14,!=3.12,>=3.10")) == ">=3.10,<3.14,!=3.12"


@pytest.mark.parametrize("text", [">=2." + "9" * 5000, "==2." + "9" * 5000 + ".*", "torch"])
def test_a_range_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(VersionRangeError, match="is not a specifier; write it as"):
        VersionRange(text)


# Version ranges. The boundaries are small, so that a grid holds a version of every stretch.
GRID = [
    Version(".".join(map(str, release)))
    for release in product(range(4), range(4), range(4), (0, 1))
]


numbers = st.integers(0, 2).map(str)


releases = st.lists(numbers, min_size=1, max_size=3).map(".".join)


long_releases = st.lists(numbers, min_size=2, max_size=3).map(".".join)


clauses = (
    st.builds("{}{}".format, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), releases)
    | st.builds("{}{}.*".format, st.sampled_from(["==", "!="]), releases)
    | long_releases.map("~={}".format)
)


specifiers = st.lists(clauses, min_size=1, max_size=3).map(",".join)


def sampled(text: str) -> set[Version]:
    specifier = SpecifierSet(text)
    return {version for version in GRID if version in specifier}


def range_of(text: str) -> VersionRange:
    try:
        return VersionRange(text)
    except (ExpectationsError, VersionRangeError) as error:
        assert "no version satisfies" in str(error)
        assert not sampled(text)
        reject()


@given(specifiers, specifiers)
@settings(max_examples=60)
def test_implication_of_ranges_agrees_with_sampling(one: str, other: str) -> None:
    left, right = range_of(one), range_of(other)
    assert left.implies(right) == (sampled(one) <= sampled(other))


@given(specifiers, specifiers)
@settings(max_examples=60)
def test_a_shared_version_is_found_where_there_is_one(one: str, other: str) -> None:
    left, right = range_of(one), range_of(other)
    shared = left.shared(right)
    assert (shared is not None) == bool(sampled(one) & sampled(other))
    if shared is not None:
        assert left.contains(shared)
        assert right.contains(shared)


@given(specifiers)
def test_every_range_implies_itself_and_every_version(text: str) -> None:
    found = range_of(text)
    assert found.implies(found)
    assert found.implies(VersionRange())


@pytest.mark.parametrize(
    ("one", "other", "implied"),
    [
        ("==2.10.*", ">=2.10", True),
        ("==2.10.*", ">=2.10,<2.11", True),
        (">=2.10,<2.11", "==2.10.*", True),
        ("~=2.10.0", "==2.10.*", True),
        ("==2.10.0", "==2.10", True),
        (">2.9", ">=2.10", False),
        ("<2.10", "<=2.9.1", False),
        ("!=2.12.0", "<2.12", False),
        (None, ">=0", True),
        (None, ">=0.1", False),
    ],
)
def test_implication_at_the_edges(one: str | None, other: str | None, implied: bool) -> None:
    assert VersionRange(one).implies(VersionRange(other)) is implied


@pytest.mark.parametrize("version", ["2.12.0rc1+cu128", "2.12.0.dev20260401", "2.12.0.post1"])
def test_versions_are_judged_by_their_base(version: str) -> None:
    assert VersionRange(">=2.12").contains(Version(version))
    assert not VersionRange("<2.12").contains(Version(version))


@pytest.mark.parametrize(
    ("text", "bound", "inclusive", "last"),
    [
        (">=0.19,<0.34", "0.34", False, "0.33"),
        ("<=0.33.0", "0.33.0", True, "0.33.0"),
        ("==0.32.*", "0.33", False, "0.32"),
        ("~=0.3.1", "0.4", False, "0.3"),
        ("==2.1", "2.1", True, "2.1"),
        ("<0.33.2", "0.33.2", False, "0.33.1"),
        ("<2.15.0", "2.15.0", False, "2.14"),
        ("<0.9,!=0.8.*", "0.8", False, "0.7"),
        ("<1.0", "1.0", False, "<1.0"),
        ("<1", "1", False, "<1"),
    ],
)
def test_a_range_ends_where_no_version_is_left(
    text: str, bound: str, inclusive: bool, last: str
) -> None:
    end = VersionRange(text).end
    assert end == End(bound=Version(bound), inclusive=inclusive)
    assert end.last == last


@pytest.mark.parametrize("text", [None, ">=0.19", ">0.19", "!=0.5", ">=0.1,!=0.5.*"])
def test_a_range_without_an_upper_bound_has_no_end(text: str | None) -> None:
    found = VersionRange(text)
    assert found.end is None
    assert not found.ended_before(Version("9999"))


@given(specifiers, st.sampled_from(["0", "0.1", "0.1.1", "1", "1.2rc1", "2.0.1", "2.2", "3", "99"]))
def test_a_range_that_ended_before_a_version_has_neither_it_nor_a_newer_one(
    text: str, version: str
) -> None:
    found, base = range_of(text), Version(version).base_version
    above = found.shared(VersionRange(f">={base}"))
    assert found.ended_before(Version(version)) == (above is None)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (">=2.13,<2.15", "2.13"),
        ("==2.13.*", "2.13"),
        (">=2.13,!=2.13.0", None),
        (">2.9,<=2.11", None),  # nothing says which release is the first after 2.9
        ("<2.15", None),
        (None, None),
    ],
)
def test_the_first_release_of_a_range(text: str | None, first: str | None) -> None:
    found = VersionRange(text).first
    assert (found and found.text) == first


@given(specifiers, st.sampled_from(["0", "0.1", "0.1.1", "1", "1.2rc1", "2.0.1", "2.2", "3", "99"]))
def test_a_range_above_a_version_has_neither_it_nor_an_older_one(text: str, version: str) -> None:
    found, base = range_of(text), base_of(Version(version))
    if found.is_above(base):
        assert found.shared(VersionRange(f"<={base.text}")) is None
