"""Badges: one for each pair."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from matrix.record.model import Case, ErrorKind, Outcome, Platform, Record, RunError
from matrix.report import badges
from matrix.rules.expectations import Expectations
from matrix.verdict.states import VERDICTS, Verdict
from matrix.verdict.table import tabulate

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
EXPECTATIONS = Expectations(rules=())


def record(platform: str, python: str = "311", **more: object) -> tuple[Path, Record]:
    cell = f"py{python}-torch210-vllm019"
    provenance = {"started": "2026-11-22T18:00:00Z", "torch": "2.10.0", "vllm": "0.19.1"}
    values = {"cases": (Case(case="a", outcome=Outcome.FAILED, reason="no"),), **more}
    return Path(f"{cell}.json"), Record(
        cell=cell,
        platform=Platform(platform),
        finished=True,
        provenance=provenance,
        **values,  # type: ignore[arg-type]
    )


def test_a_pair_has_a_badge_that_says_its_verdict() -> None:
    made = badges.render(tabulate([record("cpu"), record("cpu", "312")], EXPECTATIONS))
    assert list(made) == ["badges/torch210-vllm019.svg"]
    root = ET.fromstring(made["badges/torch210-vllm019.svg"])
    label = "torch 2.10 | vLLM 0.19: incompatible (cpu)"
    assert root.get("aria-label") == label and root.get("role") == "img"
    title = root.find(f"{SVG}title")
    assert title is not None and title.text is not None
    assert title.text.endswith("vLLM 0.19: incompatible (cpu, Python 3.11, 2026-11-22)")
    assert [item.text for item in root.iter(f"{SVG}text")] == [
        "torch 2.10 | vLLM 0.19",
        "incompatible (cpu)",
    ]
    cuda = badges.render(tabulate([record("cuda"), record("cpu")], EXPECTATIONS))
    assert 'vLLM 0.19: incompatible"' in cuda["badges/torch210-vllm019.svg"]


def test_the_platform_that_decides_is_told_where_it_says_something() -> None:
    nothing = record("cuda", cases=(), error=RunError(kind=ErrorKind.NO_GPU, reason="none"))
    made = badges.render(tabulate([nothing, record("cpu")], EXPECTATIONS))
    assert "incompatible (cpu, Python 3.11" in made["badges/torch210-vllm019.svg"]
    made = badges.render(tabulate([nothing], EXPECTATIONS))
    assert "untested (cuda" in made["badges/torch210-vllm019.svg"]


def test_all_of_its_words_are_shown_under_a_pointer() -> None:
    part = record("cpu", deselected=8)
    [text] = badges.render(tabulate([part], EXPECTATIONS)).values()
    root = ET.fromstring(text)
    title = root.find(f"{SVG}title")
    assert title is not None and title.text is not None
    assert "vLLM 0.19: incompatible, 1 of 9 cases (cpu, Python 3.11" in title.text


def test_nothing_ran() -> None:
    assert badges.render(tabulate([], EXPECTATIONS)) == {}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_what_it_says_is_escaped(verdict: Verdict) -> None:
    label = "<script>\"&'</script>"
    root = ET.fromstring(badges.badge(label, verdict, label))
    assert root.get("aria-label") == f"{label}: {verdict}"
    assert {item.tag for item in root.iter()} == {
        SVG + tag for tag in ("svg", "title", "clipPath", "rect", "g", "text")
    }
    assert not root.findall(f".//{SVG}script")


def test_its_own_badges_are_told_from_others() -> None:
    [(path, text)] = badges.render(tabulate([record("cpu")], EXPECTATIONS)).items()
    name = path.rpartition("/")[2]
    assert badges.is_own(name, text)
    for other, message in (
        ("torch210-vllm018.svg", text),  # another pair's name
        ("logo.svg", text),
        (name, text.replace("torch 2.10", "torch")),
        (name, f"<!-- mine -->{text}"),
        (name, "<svg/>"),
        (name, ""),
    ):
        assert not badges.is_own(other, message)


def test_the_published_badges_are_its_own() -> None:
    found = list((ROOT / "results" / "badges").iterdir())
    assert found and all(badges.is_own(path.name, path.read_text("utf-8")) for path in found)
