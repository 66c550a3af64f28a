"""The Atom feed of what changed: RFC 4287, stable ids, hostile text, which records change what."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.record.model import Case, ErrorKind, Record, RunError, Start, StartKind
from matrix.report import feed
from matrix.verdict.changes import changes
from matrix.verdict.judge import judge
from pages import make
from rules import MOE

ATOM = "{http://www.w3.org/2005/Atom}"
CELL = "py311-torch210-vllm019", "2.10.0+cu128", "0.19.1"


def moe(loaded: int = 3, **more: Any) -> Case:
    starts = (
        Start(start=StartKind.COLD, counters={"num_compiled_artifacts_saved": 3}),
        Start(
            start=StartKind.WARM,
            counters={"num_compiled_artifacts_saved": 0, "num_compiled_artifacts_loaded": loaded},
        ),
    )
    return Case(**{"case": "moe", "outcome": "passed", "starts": starts, **more})


def ran(day: int, *cases: Case, platform: str = "cuda", **more: Any) -> tuple[Path, Record]:
    started = {"started": f"2026-11-{day:02}T18:00:00Z"}
    return make(*CELL, *cases, platform=platform, provenance=started, **more)


def of(*records: tuple[Path, Record], late: str | None = None) -> ET.Element:
    judged = [(record, judge(record, MOE)) for _, record in records]
    return ET.fromstring(feed.render(changes(judged, late)))


def texts(root: ET.Element, name: str) -> list[str]:
    return [str(entry.findtext(ATOM + name)) for entry in root.iter(f"{ATOM}entry")]


def valid(root: ET.Element) -> None:
    """Hold a feed to what RFC 4287 demands of a feed like this one."""
    assert root.tag == f"{ATOM}feed" and root.find(f"{ATOM}author/{ATOM}name") is not None
    ids = [element.text for element in root.iter(f"{ATOM}id")]
    assert len(ids) == len(set(ids))
    for element in (root, *root.iter(f"{ATOM}entry")):
        for name in ("id", "title", "updated"):
            (found,) = element.findall(ATOM + name)
            assert found.text
        links = element.findall(f"{ATOM}link")
        assert len([link for link in links if link.get("rel") == "alternate"]) == 1
        assert str(element.findtext(f"{ATOM}id")).startswith("urn:uuid:")
        assert str(element.findtext(f"{ATOM}updated")).endswith("Z")


FAILS = moe(outcome="failed", starts=(), reason="RuntimeError: no room")


def test_a_verdict_that_appeared_or_changed_is_an_entry() -> None:
    root = of(ran(3, moe()), ran(1, moe()), ran(4, FAILS), ran(2, moe()), ran(5, FAILS))
    valid(root)
    pair = "torch 2.10.0+cu128 × vLLM 0.19.1 on cuda"
    assert texts(root, "title") == [
        f"{pair}: incompatible (starts cold); before: compatible",
        f"{pair}: compatible",
    ]
    assert texts(root, "updated") == ["2026-11-04T18:00:00Z", "2026-11-01T18:00:00Z"]
    assert texts(root, "summary")[0] == "moe: RuntimeError: no room; Python 3.11.7"
    links = [link.get("href") for link in root.findall(f"{ATOM}entry/{ATOM}link")]
    assert links == ["index.html#platform=cuda&at=2.10.0,0.19.1,3.11"] * 2
    assert root.findtext(f"{ATOM}updated") == "2026-11-04T18:00:00Z"


def test_each_platform_has_its_own_history() -> None:
    root = of(ran(1, moe()), ran(2, moe(), platform="cpu"))
    valid(root)
    assert len(texts(root, "id")) == 2


def test_an_id_stays_when_records_come_or_go() -> None:
    first = texts(of(ran(1, moe()), ran(4, FAILS)), "id")
    more = texts(of(ran(1, moe()), ran(4, FAILS), ran(6, moe())), "id")
    assert more[1:] == first
    assert texts(of(ran(4, FAILS)), "id") == first[:1]


def test_what_has_no_answer_or_comes_from_the_future_changes_nothing() -> None:
    error = RunError(kind=ErrorKind.NO_SPACE, reason="the disk is full")
    root = of(ran(1, moe()), ran(2, error=error), ran(9, FAILS), late="2026-11-05T00:00:00Z")
    assert len(texts(root, "id")) == 1
    valid(of())


def test_a_partial_run_changes_nothing() -> None:
    """The cases that a partial run leaves out may have made another verdict of it."""
    whole = ran(1, moe(), moe(case="other"), selected=2)
    part = ran(2, FAILS, selected=1, deselected=1)
    titles = texts(of(whole), "title")
    assert texts(of(whole, part), "title") == titles
    assert texts(of(whole, part, ran(3, moe(), moe(case="other"))), "title") == titles
    assert texts(of(part), "title") == []


def test_a_feed_has_its_newest_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_MOST", 10)
    root = of(*(ran(day, moe(loaded=3 + day % 2)) for day in range(1, 29)))
    valid(root)
    updated = texts(root, "updated")
    assert len(updated) == 10 and updated[0] == "2026-11-28T18:00:00Z"


def test_the_same_record_twice_is_one_entry() -> None:
    root = of(ran(1, moe()), ran(1, FAILS))
    valid(root)
    assert len(texts(root, "id")) == 1


@given(st.text(), st.text())
def test_no_record_breaks_the_feed(reason: str, python: str) -> None:
    case = moe(outcome="failed", starts=(), reason=reason)
    started = {"started": "2026-11-01T18:00:00Z", "python": python}
    _, record = make(*CELL, case, platform="cuda", provenance=started)
    text = feed.render(changes([(record, judge(record, MOE))]))
    valid(ET.fromstring(text))
