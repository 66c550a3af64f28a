"""Versions: each is read as packaging reads it, however often and in whatever order."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import InvalidVersion, Version

from matrix._util import versions as module
from matrix._util.versions import version
from matrix.record.model import Case, Record
from matrix.verdict.judge import UNTESTED, judge
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
    found = [version(text) for text in texts]
    assert found == [Version(text) for text in texts]
    assert list(map(str, found)) == [str(Version(text)) for text in texts]
    assert sorted(texts, key=version) == sorted(texts, key=Version)


def test_equal_ones_keep_the_way_they_are_written() -> None:
    assert version("2.10") == version("2.10.0")
    assert [str(version(text)) for text in ("2.10", "2.10.0", "2.10")] == ["2.10", "2.10.0", "2.10"]


@pytest.mark.parametrize("text", ["", "None", "2.x", "2.11.0 under", "1" * 5000, "2." + "9" * 5000])
def test_what_is_none_is_refused_each_time(text: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidVersion) as raised:
            version(text)
        assert len(str(raised.value)) < 100


def test_a_record_of_a_version_that_nobody_can_read_is_judged() -> None:
    told = {"started": "2026-11-22T18:00:00Z", "torch": "1" * 5000, "vllm": "0.19.1"}
    case = Case("a", "failed", reason="KeyError")
    record = Record("py311-torch210-vllm019", "cpu", True, told, cases=(case,))
    assert judge(record, ANY_CASE).cases[0].expected == {}
    assert judge(Record(record.cell, "cpu", True, told), ANY_CASE).verdict == UNTESTED


def test_the_examples_hold() -> None:
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed
