"""The answers of uv as data, and which of them are missing."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from matrix.catalog.cells import Cell, CellError
from matrix.catalog.release import Torch, Vllm
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.checks.facts import Fact, FactCode, facts_key, quoted
from matrix.checks.resolution.cache import (
    KEPT_PACKAGES,
    PLATFORM,
    RESOLUTIONS_FILE,
    Resolution,
    Resolutions,
    ResolutionsError,
    ResolverQuestion,
    load_resolutions,
    off_pin_cells,
    pinned_cells,
    question,
    text_of,
)
from matrix.checks.resolution.cause import KEPT_CAUSES, ConflictCause
from matrix.report.facts import facts_words

TODAY = date(2026, 11, 23)
CELL = Cell("3.12", "2.10.0", "0.19.1")
FORCED = {"torch": "2.10.0", "torchvision": "0.25.0", "torchaudio": "2.10.0"}
GOOD = Resolution(
    cell=CELL,
    platform=PLATFORM,
    asked=TODAY,
    ok=True,
    count=179,
    packages={"torch": "2.10.0+cu128"},
)
BAD = Resolution(
    cell=CELL,
    platform=PLATFORM,
    asked=TODAY,
    ok=False,
    cause=ConflictCause.CONFLICT,
    facts=(Fact(code=FactCode.NEEDS, package="a", version="1", wanted="b>=2"),),
)
ROW: dict[str, Any] = {
    "vllm": "0.19.1",
    "torch": "2.10.0",
    "python": "3.12",
    "platform": PLATFORM,
    "asked": "2026-11-23",
    "ok": True,
    "count": 179,
    "packages": {"torch": "2.10.0"},
}
FAILED = {key: ROW[key] for key in ("vllm", "torch", "python", "platform", "asked")} | {
    "ok": False,
    "cause": "conflict",
    "reason": "a 1 needs b>=2",
}

LACKS = {"code": "needs", "package": "a", "version": "1", "wanted": "b>=2"}


def why(facts: object) -> dict[str, object]:
    """Return a row with these facts."""
    return {**{key: FAILED[key] for key in FAILED if key != "reason"}, "facts": facts}


def releases() -> Releases:
    old, new = SpecifierSet(">=3.10,<3.13"), SpecifierSet(">=3.11")
    return Releases(
        torch=(
            Torch(version="2.9.1", python=old, torchvision="0.24.1", torchaudio="2.9.1"),
            Torch(version="2.10.0", python=new),
            Torch(version="2.11.0", python=new, torchvision="0.26.0", torchaudio="2.11.0"),
            Torch(
                version="2.11.1",
                python=new,
                torchvision="0.26.1",
                torchaudio="2.11.0",
                yanked="broken",
            ),
            Torch(version="2.12.0", python=new, torchvision="0.27.0", torchaudio="2.11.0"),
            Torch(version="2.12.1", python=new),
        ),
        vllm=(
            Vllm(
                version="0.16.0",
                torch="2.9.1",
                torchvision="0.24.1",
                torchaudio="2.9.1",
                python=old,
            ),
            Vllm(
                version="0.19.0",
                torch="2.9.1",
                torchvision="0.24.1",
                torchaudio="2.9.1",
                python=old,
            ),
            Vllm(
                version="0.19.1",
                torch="2.10.0",
                torchvision="0.25.0",
                torchaudio="2.10.0",
                python=new,
            ),
            Vllm(
                version="0.20.0",
                torch="2.11.0",
                torchvision="0.26.0",
                torchaudio="2.11.0",
                python=new,
            ),
        ),
        pythons=("3.10", "3.12"),
        matrix_vllm=("0.16.0", "0.19.1"),
    )


def write(path: Path, *rows: object) -> Path:
    path.write_text(json.dumps({"resolutions": rows}), encoding="utf-8")
    return path


def test_the_answers_of_the_package_are_as_they_would_be_written() -> None:
    known = load_resolutions()
    assert RESOLUTIONS_FILE.read_text(encoding="utf-8") == text_of(known)
    assert known.rows
    for row in known.rows:
        assert row.packages.keys() <= set(KEPT_PACKAGES)
        assert list(row.packages) == [name for name in KEPT_PACKAGES if name in row.packages]


def test_the_answers_of_the_package_hold_together() -> None:
    pins = {vllm.version: vllm.torch for vllm in load_releases().vllm}
    for row in load_resolutions().rows:
        pin = pins.get(row.cell.vllm)
        if row.ok and row.override is None and pin is not None:
            assert row.cell.torch == pin, "only the pin resolves as declared"
        if row.ok and row.override is not None:
            assert {name: row.packages[name] for name in row.override} == row.override


def test_an_answer_is_found_as_the_cell_is_installed() -> None:
    forced = replace(BAD, override=FORCED)
    both = Resolutions(rows=(GOOD, forced))
    assert both.resolved(CELL) == forced
    assert Resolutions(rows=(GOOD,)).resolved(CELL) == GOOD
    assert both.resolved(CELL, "manylinux_2_28_x86_64") is None
    assert both.resolved(replace(CELL, python="3.11")) is None
    assert both.answer(ResolverQuestion(cell=CELL)) == GOOD
    assert both.answer(ResolverQuestion(cell=CELL, override=FORCED)) == forced
    assert (
        both.answer(ResolverQuestion(cell=CELL, override={**FORCED, "torchvision": "0.25.1"}))
        is None
    )


def test_a_newer_answer_takes_the_place_of_an_older_one() -> None:
    other = replace(GOOD, cell=replace(CELL, python="3.9"))
    known = Resolutions().with_row(GOOD).with_row(other).with_row(BAD)
    assert known.rows == (other, BAD)
    assert Resolutions(rows=(GOOD,)).rows == (GOOD,)


def test_an_answer_grows_old() -> None:
    known = Resolutions(rows=(GOOD, replace(BAD, override=FORCED, asked=date(2026, 10, 1))))
    assert [row.asked.month for row in known.stale(TODAY, 30)] == [10]
    assert known.stale(TODAY, 53) == ()
    assert known.stale(date(2027, 1, 1), 30) == known.rows


def test_no_file_has_no_answers(tmp_path: Path) -> None:
    assert load_resolutions(tmp_path / "none.json").rows == ()
    assert json.loads(text_of(Resolutions())) == {"resolutions": []}


VERSIONS = st.builds("{}.{}.{}".format, *[st.integers(0, 9)] * 3)
TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)


def facts_of(code: FactCode, *operands: str) -> st.SearchStrategy[Fact]:
    every = st.fixed_dictionaries(dict.fromkeys(operands, TEXTS))
    return every.map(lambda found: Fact(code=code, **found))


FACTS = st.builds(quoted, TEXTS) | st.tuples(
    facts_of(FactCode.NEEDS, "package", "version", "wanted"),
    facts_of(FactCode.UP_TO, "package", "wanted")
    | facts_of(FactCode.NO_WHEEL, "package", "specifier", "python", "platform"),
)


@st.composite
def rows(draw: st.DrawFn) -> Resolution:
    torch = draw(VERSIONS)
    cell = Cell(f"3.{draw(st.integers(9, 20))}", torch, draw(VERSIONS))
    forced = {"torch": torch, "torchvision": draw(VERSIONS)}
    asked = draw(st.dates(date(2020, 1, 1)))
    row = Resolution(
        cell=cell,
        platform=PLATFORM,
        asked=asked,
        ok=True,
        override=draw(st.sampled_from([None, forced])),
    )
    if draw(st.booleans()):
        return replace(row, count=draw(st.integers(1, 999)), packages={"torch": torch})
    cause = draw(st.sampled_from(KEPT_CAUSES))
    return replace(row, ok=False, cause=cause, facts=draw(FACTS))


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("vllm 0.19.1 needs a>=5, and the index has up to 4.1", "not published"),
        ("vllm 0.19.1 needs a>5, and b<=1.0 needs a<2", "conflict"),
        ("vllm 0.19.1 needs a>=2.5,<3.5, and the index has no such version", "conflict"),
    ],
)
def test_a_row_from_before_the_cause_not_published_is_read_so(
    reason: str, cause: str, tmp_path: Path
) -> None:
    path = tmp_path / "r.json"
    row = replace(
        GOOD, ok=False, count=None, packages={}, cause=ConflictCause.CONFLICT, facts=quoted(reason)
    )
    path.write_text(text_of(Resolutions(rows=(row,))))
    assert json.loads(path.read_text("utf-8"))["resolutions"][0]["reason"] == reason
    (found,) = load_resolutions(path).rows
    assert facts_words(found.facts) == facts_key(found.facts) == reason
    assert (found.cause, found.is_unknown) == (cause, cause == "not published")


@given(some=st.lists(rows(), max_size=5))
def test_what_is_written_is_read_again(
    some: list[Resolution], tmp_path_factory: pytest.TempPathFactory
) -> None:
    known = Resolutions()
    for row in some:
        known = known.with_row(row)
    text = text_of(known)
    assert len(text.splitlines()) == (len(known.rows) + 4 if known.rows else 3)
    path = tmp_path_factory.getbasetemp() / "resolutions.json"
    path.write_text(text, encoding="utf-8")
    assert load_resolutions(path) == known


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ('{"resolutions": [', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not an object; restore it"),
        ('{"resolutions": {}}', "resolutions: is not a list of rows"),
        ('{"resolutions": [], "more": 1}', "more: unknown key"),
        ("\ufffd\udcff".encode("utf-8", "surrogateescape"), "is not JSON"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ResolutionsError, match=message) as raised:
        load_resolutions(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "1: is not an object"),
        ({**ROW, "sum": 1}, "1: sum: unknown key"),
        ({key: ROW[key] for key in ROW if key != "asked"}, "1: asked: is missing"),
        ({**ROW, "torch": 2.1}, "1: torch: 2.1 is not a string"),
        ({**ROW, "torch": "new"}, "'new' is not a version"),
        ({**ROW, "python": "3"}, "is not a minor release"),
        ({**ROW, "platform": "cuda"}, "platform: 'cuda' is not a platform tag"),
        ({**ROW, "asked": "yesterday"}, "asked: 'yesterday' is not a date"),
        ({**ROW, "asked": "20261123"}, "asked: '20261123' is not a date"),
        ({**ROW, "ok": 1}, "ok: 1 is not true or false"),
        ({**ROW, "more_indexes": "no"}, "more_indexes: 'no' is not true or false"),
        ({**ROW, "count": 0}, "count: 0 is not a number"),
        ({**ROW, "count": True}, "count: True is not a number"),
        ({**ROW, "packages": []}, "packages: is not an object"),
        ({**ROW, "packages": {"torch": "x"}}, "packages: torch: 'x' is not a version"),
        ({**ROW, "packages": {"torch": "2.9.0"}}, "packages: torch is not 2.10.0"),
        ({**ROW, "packages": {}}, "packages: torch is not 2.10.0"),
        ({**ROW, "reason": "x"}, "reason: has no place in what resolves"),
        ({**ROW, "override": []}, "override: is not an object"),
        ({**ROW, "override": {"torch": "2.11.0"}}, "override: torch is not 2.10.0"),
        ({**ROW, "override": {"torch": None}}, "override: torch: None is not a version"),
        ({**FAILED, "count": 3}, "count: has no place in what does not resolve"),
        ({**FAILED, "cause": "index"}, "cause: 'index' is not one of conflict, no wheel, python"),
        ({**FAILED, "reason": "two\nlines"}, "reason: 'two"),
        ({**FAILED, "reason": " "}, "reason: ' ' is not one line"),
        ({**FAILED, "reason": None}, "reason: None is not one line"),
        ({key: FAILED[key] for key in FAILED if key != "cause"}, "cause: is missing in what"),
        ({key: FAILED[key] for key in FAILED if key != "reason"}, "facts: is missing in what"),
        ({**FAILED, "facts": [LACKS]}, "facts: has no place in what does not resolve"),
        ({**ROW, "facts": [LACKS]}, "facts: has no place in what resolves"),
        (why({}), "facts: is not a list of facts"),
        (why([]), "facts: is not a list of facts"),
        (why(["x"]), "facts 1: is not an object"),
        (why([LACKS, {**LACKS, "code": "likes"}]), "facts 2: code: 'likes' is not one of needs"),
        (why([{**LACKS, "code": ["needs"]}]), "facts 1: code: .* is not one of needs"),
        (why([{"code": "quoted", "text": "x"}]), "facts 1: code: 'quoted' is not one of"),
        (why([{"code": "needs", "package": "a"}]), "facts 1: wanted: is missing"),
        (why([{**LACKS, "text": "x"}]), "facts 1: text: unknown key"),
        (why([{**LACKS, "wanted": "a\nb"}]), "facts 1: wanted: .* is not one line of text"),
        (why([{**LACKS, "version": 1}]), "facts 1: version: 1 is not one line of text"),
    ],
)
def test_a_row_that_is_none(tmp_path: Path, row: object, message: str) -> None:
    path = write(tmp_path / "r.json", row)
    with pytest.raises(ResolutionsError, match=message) as raised:
        load_resolutions(path)
    error = str(raised.value)
    assert f"{path}: resolutions 1" in error and "\n" not in error


def test_an_answer_that_is_there_twice(tmp_path: Path) -> None:
    load_resolutions(write(tmp_path / "r.json", ROW, {**FAILED, "override": FORCED}))
    path = write(tmp_path / "r.json", ROW, FAILED)
    with pytest.raises(ResolutionsError, match="resolutions 2: py312-torch210-vllm019 appears tw"):
        load_resolutions(path)


def test_the_cells_of_the_pins() -> None:
    cells = set(pinned_cells(releases(), ["3.10", "3.12"]))
    assert cells == {
        Cell("3.10", "2.9.1", "0.16.0"),
        Cell("3.12", "2.9.1", "0.16.0"),
        Cell("3.10", "2.9.1", "0.19.0"),
        Cell("3.12", "2.9.1", "0.19.0"),
        Cell("3.12", "2.10.0", "0.19.1"),
        Cell("3.12", "2.11.0", "0.20.0"),
    }


def test_the_cells_off_the_pin_leave_out_what_was_withdrawn() -> None:
    cells = list(off_pin_cells(releases(), (python for python in ["3.12", "3.13"])))
    assert len(cells) == len(set(cells))
    by_vllm: dict[str, set[tuple[str, str]]] = {}
    for cell in cells:
        by_vllm.setdefault(cell.vllm, set()).add((cell.python, cell.torch))
    assert by_vllm["0.16.0"] == {("3.12", "2.10.0"), ("3.12", "2.11.0"), ("3.12", "2.12.1")}
    assert by_vllm["0.19.1"] == {
        (python, torch) for python in ("3.12", "3.13") for torch in ("2.11.0", "2.12.1")
    }
    assert by_vllm["0.20.0"] == {
        ("3.12", "2.9.1"),
        ("3.12", "2.10.0"),
        ("3.13", "2.10.0"),
        ("3.12", "2.12.1"),
        ("3.13", "2.12.1"),
    }


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("py312-torch210", Cell("3.12", "2.10.0", "0.19.1")),
        ("py312-torch210-vllm019", Cell("3.12", "2.10.0", "0.19.1")),
        ("py312-torch29-vllm019", Cell("3.12", "2.9.1", "0.19.0")),
        ("py312-torch211-vllm019", Cell("3.12", "2.11.0", "0.19.1")),
        ("py312-torch212-vllm016", Cell("3.12", "2.12.1", "0.16.0")),
    ],
)
def test_a_cell_is_named_on_and_off_the_pin(name: str, cell: Cell) -> None:
    assert releases().resolve(name) == cell


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("py313-torch212-vllm016", "vLLM 0.16.0 needs Python"),
        ("py310-torch29-vllm020", "vLLM 0.20.0 needs Python >=3.11, so py310 cannot"),
        ("py313-torch29-vllm020", "torch 2.9.1 needs Python >=3.10,<3.13, so py313 cannot"),
        ("py313-torch29-vllm016", "vLLM 0.16.0 needs Python"),
        ("py312-torch212-vllm099", "vLLM 0.99 is not known here"),
        ("py312-torch299-vllm019", "torch 2.99 is not known here"),
        ("torch212", "no py factor"),
    ],
)
def test_a_name_that_is_no_cell(name: str, message: str) -> None:
    with pytest.raises(CellError, match=message):
        releases().resolve(name)


@pytest.mark.parametrize(
    ("cell", "companions"),
    [
        (Cell("3.12", "2.10.0", "0.19.1"), ("0.25.0", "2.10.0")),  # what vLLM pins
        (Cell("3.12", "2.11.0", "0.19.1"), ("0.26.0", "2.11.0")),  # torch's own
        (Cell("3.12", "2.10.0", "0.20.0"), ("0.25.0", "2.10.0")),  # what another vLLM pins
    ],
)
def test_what_is_forced(cell: Cell, companions: tuple[str, str]) -> None:
    asked = question(cell, releases(), override=True)
    forced = dict(zip(("torchvision", "torchaudio"), companions, strict=True))
    assert asked == ResolverQuestion(cell=cell, override={"torch": cell.torch, **forced})
    assert question(cell, releases()) == ResolverQuestion(cell=cell, override=None)


def test_what_cannot_be_forced() -> None:
    with pytest.raises(CellError, match=r"no torchvision is known that goes with torch 2\.12"):
        question(Cell("3.12", "2.12.1", "0.19.1"), releases(), override=True)
