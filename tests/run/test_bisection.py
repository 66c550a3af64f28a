"""A line of candidates is searched: steps are made when their turn comes, run, and skipped."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candidates import torch_candidate, vllm_candidate, with_candidates
from matrix.attribution.bisect import BisectionError, BisectionOutcome, EndsError, SkipCode
from matrix.attribution.observations import Observation, ObservationEnd
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.file import load_candidates
from matrix.catalog.candidates.model import Candidate
from matrix.catalog.candidates.series import StepError
from matrix.catalog.candidates.steps import LineStep
from matrix.catalog.cells import Cell
from matrix.catalog.projects import Project
from matrix.catalog.releases_file import load_releases
from matrix.errors import MatrixError
from matrix.record.model import Platform, Rung
from matrix.run.bisection import BisectionProgress, Ends, SeenSteps, bisect_line
from matrix.run.candidates.line import Line, Other, change_of, other_half

OTHER = Other(factor="vllm033", version="0.33.0")
RELEASES = load_releases()


@dataclass
class Nights:
    """Torch of a few nights; those that are `gone` cannot be made."""

    count: int
    gone: set[int] = field(default_factory=set)
    made: list[str] = field(default_factory=list)
    project: Project = Project.TORCH
    where: str = "nightly/cu130"
    repository: str | None = "https://github.com/o/r"

    @property
    def steps(self) -> Sequence[LineStep]:
        days = [f"202611{day:02}" for day in range(1, self.count + 1)]
        return [
            LineStep(
                name=f"torchnightly{day}", label=f"2.16.0.dev{day}", point=day,
                version=f"2.16.0.dev{day}",
            )
            for day in days
        ]  # fmt: skip

    def revision(self, step: LineStep, candidate: Candidate | None) -> str | None:
        return None if candidate is None else f"r{step.point}"

    def make(self, step: LineStep) -> Candidate:
        self.made.append(step.name)
        if int(step.point[-2:]) - 1 in self.gone:
            raise StepError("it is gone")
        return torch_candidate(step.name, step.label)

    def is_of(self, step: LineStep, candidate: Candidate) -> bool:
        return candidate.version == step.version


@dataclass
class Cells:
    """What cells do when they run: from `first` on they fail, and `mute` ones say nothing."""

    first: int
    mute: set[int] = field(default_factory=set)
    ran: dict[str, str] = field(default_factory=dict)
    fixed: bool = False

    def run(self, name: str) -> list[str]:
        assert name not in self.ran, "no cell runs twice"
        number = int(name.split("-")[1][-2:]) - 1
        word = "bad" if (number >= self.first) is not self.fixed else "good"
        self.ran[name] = "mute" if number in self.mute else word
        return []

    def look(self, cells: Mapping[str, Cell]) -> SeenSteps:
        found = {
            name: Observation(
                cell=cells[name], platform=Platform.CPU, case="a", started="2026",
                ended=ObservationEnd.RAN if word == "good" else ObservationEnd.FAILED,
                rung=None if word == "good" else Rung.STARTS_WARM,
                signature=None if word == "good" else "KeyError",
            )
            for name, word in self.ran.items()
            if word != "mute" and name in cells
        }  # fmt: skip
        details = {name: "a full disk" for name, word in self.ran.items() if word == "mute"}
        return SeenSteps(observations=found, details=details)


def line_of(
    series: Nights,
    folder: Path,
    *,
    other: Other = OTHER,
    python: str = "3.12",
    shared: bool = False,
) -> Line:
    return Line(
        series,
        other=other,
        python=python,
        releases=RELEASES,
        file=folder / "steps.toml",
        shared=shared,
    )


def bisected(
    series: Nights, cells: Cells, folder: Path, ends: Ends = Ends.ANY
) -> tuple[BisectionProgress, Line]:
    line = line_of(series, folder)
    return bisect_line(line, cells.look, cells.run, ends), line


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, int, set[int], set[int]]:
    """How many steps there are, the first bad one, those that are gone, those that say nothing."""
    count = draw(st.integers(2, 28))
    first = draw(st.integers(1, count - 1))
    inside = st.sets(st.sampled_from(range(1, count - 1))) if count > 2 else st.just(set[int]())
    return count, first, draw(inside), draw(inside)


@given(histories(), st.booleans())
def test_the_answer_brackets_the_change_in_a_logarithmic_number_of_runs(
    history: tuple[int, int, set[int], set[int]], fixed: bool
) -> None:
    count, first, gone, mute = history
    series, cells = Nights(count, gone), Cells(first, mute, fixed=fixed)
    with tempfile.TemporaryDirectory() as folder:
        found, line = bisected(series, cells, Path(folder))
    change = change_of(line, found.search)
    assert change is not None
    numbers = [int(step.point[-2:]) - 1 for step in change.between]
    last = int(change.last.point[-2:]) - 1
    assert last < first <= numbers[-1] and first in numbers
    assert set(numbers[:-1]) <= gone | mute
    skipped = sum(word == "mute" for word in cells.ran.values())
    # Two are the ends; what cannot be made takes no run.
    assert found.runs == len(cells.ran) <= 2 + math.ceil(math.log2(count)) + skipped
    assert len(series.made) == len(set(series.made))
    skips = {name for name, word in found.search.outcomes.items() if word is BisectionOutcome.SKIP}
    assert skips == set(found.search.skips)


@given(histories())
def test_what_did_not_tell_is_neither_good_nor_bad(
    history: tuple[int, int, set[int], set[int]],
) -> None:
    count, first, gone, mute = history
    with tempfile.TemporaryDirectory() as folder:
        found, _ = bisected(Nights(count, gone), Cells(first, mute), Path(folder))
    for name, outcome in found.search.outcomes.items():
        number = int(name.split("-")[1][-2:]) - 1
        if number in gone | mute:
            assert outcome in (None, BisectionOutcome.SKIP)
        elif outcome is not None:
            assert outcome is (BisectionOutcome.BAD if number >= first else BisectionOutcome.GOOD)


def test_an_end_that_cannot_be_had_moves_inwards(tmp_path: Path) -> None:
    found, line = bisected(Nights(9, {0, 8}), Cells(4, {1}), tmp_path)
    change = change_of(line, found.search)
    assert change is not None and [step.point for step in change.between] == ["20261105"]
    assert change.page == "https://github.com/o/r/compare/r20261104...r20261105"
    skips = found.search.skips
    assert {name[-10:-8]: (skip.code, skip.detail) for name, skip in skips.items()} == {
        "01": (SkipCode.NOT_MADE, "it is gone"),
        "02": (SkipCode.NO_RESULT, "a full disk"),
        "09": (SkipCode.NOT_MADE, "it is gone"),
    }
    with pytest.raises(BisectionError, match=r"only .*20261101-vllm033 of 4 .* \(it is gone\)"):
        bisected(Nights(4, {0, 1, 2, 3}), Cells(2), tmp_path / "other")


def test_each_step_is_in_the_file_of_the_bisection_alone(tmp_path: Path) -> None:
    series, cells = Nights(9), Cells(4)
    bisected(series, cells, tmp_path)
    names = [candidate.name for candidate in load_candidates(tmp_path / "steps.toml").every]
    assert names == sorted(series.made) and len(names) == len(cells.ran) < 9
    # The next search knows their cells, so it runs and makes none again.
    again = Nights(9)
    found = bisect_line(line_of(again, tmp_path), cells.look, cells.run)
    assert found.runs == 0 and again.made == []


def test_without_a_run_the_next_step_is_made_and_a_dry_one_writes_nothing(tmp_path: Path) -> None:
    cells = Cells(4)
    found = bisect_line(line_of(Nights(9), tmp_path), cells.look, None, dry=True)
    assert found.search.bisection.next == "py312-torchnightly20261109-vllm033"
    assert not (tmp_path / "steps.toml").exists()
    assert found.search.bisection.steps == 5
    bisect_line(line_of(Nights(9), tmp_path), cells.look, None)
    (only,) = load_candidates(tmp_path / "steps.toml").every
    assert only.name == "torchnightly20261109" and not cells.ran


def test_the_other_half_may_be_a_candidate(tmp_path: Path) -> None:
    releases = with_candidates(vllm_candidate(), torch_candidate())
    other = other_half("vllmmain", Project.VLLM, releases)
    line = Line(
        Nights(3), other=other, python="3.12", releases=releases, file=tmp_path / "steps.toml",
        shared=False,
    )  # fmt: skip
    bisect_line(line, Cells(1).look, None)
    names = [candidate.name for candidate in load_candidates(tmp_path / "steps.toml").every]
    assert names == ["torchnightly20261103", "vllmmain"]


def test_a_name_of_the_users_own_file_is_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "steps.toml"
    cells = Cells(1)
    bisect_line(line_of(Nights(3), tmp_path), cells.look, None)
    text = file.read_text(encoding="utf-8")
    other = re.sub(r'sha256 = "[0-9a-f]{8}', 'sha256 = "12345678', text)
    other = other.replace("https://rc.example", "https://else.example")
    file.write_text(other, encoding="utf-8")
    with pytest.raises(CandidateError, match="the name is taken"):
        line_of(Nights(3), tmp_path, shared=True).make("py312-torchnightly20261103-vllm033")
    line_of(Nights(3), tmp_path).make("py312-torchnightly20261103-vllm033")
    assert file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("first", "fixed", "ends", "fault"),
    [
        (4, True, Ends.GOOD_BAD, "2.16.0.dev20261101, which is to be good, fails at starts warm"),
        (4, False, Ends.BAD_GOOD, "2.16.0.dev20261109, which is to be good, fails at starts warm"),
        (9, False, Ends.GOOD_BAD, "2.16.0.dev20261109, which is to be bad, runs to its end"),
        (0, False, Ends.GOOD_BAD, "2.16.0.dev20261101, which is to be good, fails at starts warm"),
    ],
)
def test_ends_that_are_not_as_asked_are_named_after_two_runs(
    tmp_path: Path, first: int, fixed: bool, ends: Ends, fault: str
) -> None:
    cells = Cells(first, fixed=fixed)
    with pytest.raises(EndsError) as caught:
        bisected(Nights(9), cells, tmp_path, ends)
    assert fault in str(caught.value) and "\n" not in str(caught.value)
    assert len(cells.ran) == 2


def test_ends_as_asked_are_searched(tmp_path: Path) -> None:
    for fixed, ends in ((False, Ends.GOOD_BAD), (True, Ends.BAD_GOOD)):
        found, _ = bisected(Nights(9), Cells(4, fixed=fixed), tmp_path / str(fixed), ends)
        assert found.search.bisection.first_bad == "py312-torchnightly20261105-vllm033"


def test_a_fault_of_the_whole_line_ends_it(tmp_path: Path) -> None:
    class Down(Nights):
        def make(self, step: LineStep) -> Candidate:
            raise MatrixError(f"the index does not answer {step.name}")

    with pytest.raises(MatrixError, match="does not answer torchnightly20261109"):
        bisected(Down(9), Cells(4), tmp_path)


def test_an_environment_of_another_release_is_skipped(tmp_path: Path) -> None:
    line = line_of(Nights(3), tmp_path, other=Other(factor="vllm033", version="0.33.9"))
    with pytest.raises(StepError, match=r"has vllm033 as 0\.33\.0, not 0\.33\.9"):
        line.make("py312-torchnightly20261103-vllm033")
    newer = line_of(Nights(3), tmp_path, python="3.14")
    with pytest.raises(StepError, match=r"Python 3\.14"):
        newer.make("py314-torchnightly20261103-vllm033")


@pytest.mark.parametrize(
    ("text", "project", "fault"),
    [
        ("x", Project.VLLM, "--vllm 'x': is neither a release nor the name of a candidate"),
        ("9.9.9", Project.TORCH, "--torch 9.9.9: is not known"),
        ("vllmnone", Project.VLLM, "candidate 'vllmnone': is not known"),
        ("0.20.0", Project.VLLM, "--vllm 0.20.0: its environment vllm020 stands for 0.20.2"),
    ],
)
def test_the_half_that_stays_is_known(text: str, project: Project, fault: str) -> None:
    with pytest.raises(MatrixError) as caught:
        other_half(text, project, load_releases())
    assert fault in str(caught.value)


def test_a_minor_release_is_whatever_patch_its_environment_has() -> None:
    releases = load_releases()
    assert other_half("0.33", Project.VLLM, releases) == Other(factor="vllm033")
    assert other_half("2.14.0", Project.TORCH, releases) == Other(
        factor="torch214", version="2.14.0"
    )
