"""Waivers: the failures that one covers and until when, and bad ones."""

from datetime import date
from typing import Any

import pytest

from matrix.record.model import CellRef, Platform
from matrix.rules.waivers import Finding, WaiversError, parse_waivers

ONE = """
[[waiver]]
id = "mega"
why = '''The default
changed.'''
link = "https://github.com/vllm-project/vllm/issues/37198"
until = 2026-12-31
"""
PLACE = CellRef(cell="py311-torch212-vllm020", platform=Platform.CPU, torch="2.12.1", vllm="0.20.2")
TODAY = date(2026, 11, 23)


def covers(more: str, **changes: Any) -> bool:
    finding = {
        "place": PLACE,
        "case": "moe_startup[mega_aot=1]",
        "start": "warm",
        "counter": "num_graphs_seen",
        "value": 0,
    }
    [waiver] = parse_waivers(ONE + more, "w.toml").every
    return waiver.covers(Finding(**{**finding, **changes}))


@pytest.mark.parametrize(
    ("more", "covered"),
    [
        ("counters = ['num_graphs_seen']", True),
        ("counters = ['aot_autograd.total', 'num_graphs_seen']", True),
        ("counters = ['aot_autograd.total']", False),
        ("counters = { num_graphs_seen = 0 }", True),
        ("counters = { num_graphs_seen = 1 }", False),
        ("counters = ['num_graphs_seen']\nstart = 'warm'", True),
        ("counters = ['num_graphs_seen']\nstart = 'cold'", False),
        ("counters = ['num_graphs_seen']\ncase = 'moe_startup'", True),
        ("counters = ['num_graphs_seen']\ncase = 'moe_startup[mega_aot=1]'", True),
        ("counters = ['num_graphs_seen']\ncase = 'moe_startup[mega_aot=0]'", False),
        ("counters = ['num_graphs_seen']\nplatform = 'cpu'", True),
        ("counters = ['num_graphs_seen']\nplatform = 'cuda'", False),
        ("counters = ['num_graphs_seen']\ncell = 'py311-torch212-vllm020'", True),
        ("counters = ['num_graphs_seen']\ncell = 'py312-torch212-vllm020'", False),
        ("counters = ['num_graphs_seen']\ntorch = '>=2.12'\nvllm = '==0.20.*'", True),
        ("counters = ['num_graphs_seen']\ntorch = '<2.12'", False),
        ("counters = ['num_graphs_seen']\nvllm = '>0.20.2'", False),
        ("signature = 'KeyError: x'", False),
    ],
)
def test_a_waiver_covers_the_counters_that_it_names(more: str, covered: bool) -> None:
    assert covers(more) is covered


def test_a_waiver_covers_a_failure_by_its_signature_alone() -> None:
    failed = {"signature": "KeyError: x", "start": None, "counter": None, "value": None}
    assert covers("signature = 'KeyError: x'", **failed)
    assert not covers("signature = 'KeyError: y'", **failed)
    assert not covers("counters = ['num_graphs_seen']", **failed)
    assert not covers("signature = 'KeyError: x'\ntorch = '==2.13.*'", **failed)


def test_a_candidate_release_is_judged_as_its_release() -> None:
    place = CellRef(
        cell="py311-torch212-vllm020", platform=Platform.CPU, torch="2.12.0rc3", vllm="0.20.2"
    )
    assert covers("counters = ['num_graphs_seen']\ntorch = '>=2.12'", place=place)


def test_the_last_day_counts_in() -> None:
    [waiver] = parse_waivers(ONE + "signature = 'x'", "w.toml").every
    assert waiver.until == date(2026, 12, 31)
    assert not waiver.expired(date(2026, 12, 31))
    assert waiver.expired(date(2027, 1, 1))
    assert waiver.why == "The default changed."


def test_one_that_holds_goes_before_one_that_has_expired() -> None:
    old = ONE.replace("mega", "old").replace("2026-12-31", "'2026-11-22'")
    told = parse_waivers(f"{old}signature = 'x'\n{ONE}signature = 'x'", "w.toml")
    finding = Finding(place=PLACE, case="moe", signature="x")
    waiver = told.waiving(finding, TODAY)
    assert waiver is not None and waiver.id == "mega"
    waiver = told.waiving(finding, date(2027, 2, 1))
    assert waiver is not None and waiver.id == "old"
    assert told.waiving(Finding(place=PLACE, case="moe", signature="y"), TODAY) is None


S = "signature = 'x'\n"
BAD = {
    "w.toml: is not TOML (": "[[waiver",
    "w.toml: waivers: unknown key; begin each with [[waiver]]": "[[waivers]]\nid = 'x'",
    "w.toml: waiver: is not a list; begin each with [[waiver]]": "waiver = 3",
    "w.toml: waiver 1: id: is missing or empty; name it": "[[waiver]]\nwhy = 'x'",
    "w.toml: waiver 'mega': id: appears twice; give each its own": ONE + S + ONE + S,
    "w.toml: waiver 'mega': untill: unknown key; did you mean 'until'?": ONE + S + "untill = 1",
    "w.toml: waiver 'mega': zzz: unknown key; known are id, why, ": ONE + S + "zzz = 1",
    "w.toml: waiver 'mega': link: is missing; add it": (
        "[[waiver]]\nid = 'mega'\nwhy = 'x'\nuntil = 2026-12-31\n"
    ),
    "w.toml: waiver 'mega': signature: is missing, and so is counters; name the waived": ONE,
    "w.toml: waiver 'mega': start: goes with counters only": ONE + S + "start = 'cold'",
    "w.toml: waiver 'mega': start: 'hot' is unknown; write \"cold\" or \"warm\"": (
        ONE + "counters = ['x']\nstart = 'hot'"
    ),
    "w.toml: waiver 'mega': until: 'soon' is not a date; write the last day as 2027-01-31": (
        ONE.replace("2026-12-31", "'soon'") + S
    ),
    "w.toml: waiver 'mega': until: '2026-02-30' is not a date": (
        ONE.replace("2026-12-31", "'2026-02-30'") + S
    ),
    "w.toml: waiver 'mega': until: 2026-12-31 10:00:00 is not a date": (
        ONE.replace("2026-12-31", "2026-12-31T10:00:00") + S
    ),
    "w.toml: waiver 'mega': until: 20261231 is not a date": ONE.replace("2026-12-31", "20261231")
    + S,
    "w.toml: waiver 'mega': why: '' is empty": ONE.replace("The default\nchanged.", "") + S,
    "w.toml: waiver 'mega': link: 'http://x' is not a link; write https://host/path": (
        ONE.replace("https://github.com/vllm-project/vllm/issues/37198", "http://x") + S
    ),
    "w.toml: waiver 'mega': link: 'https://a.b/c) <b>' is not a link": (
        ONE.replace("https://github.com/vllm-project/vllm/issues/37198", "https://a.b/c) <b>") + S
    ),
    "w.toml: waiver 'mega': owner: 'joe@x.org' is an email address; name a team": (
        ONE + S + "owner = 'joe@x.org'"
    ),
    "w.toml: waiver 'mega': cell 'py311': no torch factor": ONE + S + "cell = 'py311'",
    "w.toml: waiver 'mega': cell: 'py311-torch212' names no vLLM": (
        ONE + S + "cell = 'py311-torch212'"
    ),
    "w.toml: waiver 'mega': platform: 'tpu' is unknown; write \"cuda\" or \"cpu\"": (
        ONE + S + "platform = 'tpu'"
    ),
    "w.toml: waiver 'mega': torch: 2.12 is not a string; write \">=2.12\"": (
        ONE + S + "torch = 2.12"
    ),
    "w.toml: waiver 'mega': torch: ": ONE + S + "torch = 'new'",
    "w.toml: waiver 'mega': case: 'a b' is not a case": ONE + S + "case = 'a b'",
    "w.toml: waiver 'mega': counters: names no counter": ONE + "counters = []",
    "w.toml: waiver 'mega': counters: x = -1 is not a count": ONE + "counters = { x = -1 }",
    "w.toml: waiver 'mega': counters: x = True is not a count": ONE + "counters = { x = true }",
    "w.toml: waiver 'mega': counters: 'a b' is not the name of a counter": (
        ONE + "counters = ['a b']"
    ),
}


@pytest.mark.parametrize("said", BAD)
def test_a_bad_waiver_is_one_line_that_names_file_key_and_fix(said: str) -> None:
    with pytest.raises(WaiversError) as caught:
        parse_waivers(BAD[said], "w.toml")
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_day_that_no_calendar_has_is_one_line() -> None:
    with pytest.raises(WaiversError, match=r"^w\.toml: is not TOML \(.*\); correct it there$"):
        parse_waivers(ONE.replace("2026-12-31", "2026-02-30") + S, "w.toml")
