"""Find out which answers of the resolver are missing, ask for them, and keep each at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path

from packaging.specifiers import SpecifierSet

from matrix._util.files import write_text
from matrix._util.versions import chosen_specifier
from matrix.catalog.cells import Cell
from matrix.catalog.releases import Releases
from matrix.checks.resolution.cache import (
    RESOLUTIONS_FILE,
    Resolution,
    Resolutions,
    ResolverQuestion,
    candidates_path,
    load_candidate_resolutions,
    load_resolutions,
    off_pin_cells,
    pinned_cells,
    question,
    text_of,
)
from matrix.checks.resolution.lock import LockFileError, Target
from matrix.checks.resolution.of_candidate import question_of
from matrix.checks.resolution.resolver import ResolverError, TimedAnswer, ask_all, tag_of
from matrix.errors import MatrixError

_PYTHON = re.compile(r"3\.[1-9][0-9]?")
_MACHINE = re.compile(r"[a-z0-9_]+")
_GLIBC = re.compile(r"2\.[0-9]{1,2}")


@dataclass(frozen=True, kw_only=True)
class ResolveRequest:
    """The request of a person: the options of `matrix resolve`.

    `stale` is a number of days, `torch` and `vllm` are releases or ranges, as ``2.9`` or ``>=2.9``.
    `off_pin` implies `override` for its own cells.
    """

    cells: tuple[str, ...] = ()
    all_pins: bool = False
    off_pin: bool = False
    stale: int | None = None
    pythons: tuple[str, ...] = ()
    torch: str = ""
    vllm: str = ""
    override: bool = False
    refresh: bool = False
    machine: str = "x86_64"
    glibc: str = "2.35"
    jobs: int = 4


@dataclass(frozen=True, kw_only=True)
class ResolvePlan:
    """The questions of a request: all of them, the answers known before, and those to ask."""

    questions: tuple[ResolverQuestion, ...]
    known: tuple[Resolution, ...]
    missing: tuple[ResolverQuestion, ...]


def plan_questions(
    request: ResolveRequest, releases: Releases, path: Path | None = None, today: date | None = None
) -> ResolvePlan:
    """Return which questions the request asks, and which of them the file answers already.

    An answer that only says what the index did not have yet counts for a day.

    Raises MatrixError if it requests nothing, an option is bad, or the file is not valid.
    """
    platform, today = _platform(request), today or _today()
    recorded = load_resolutions(path).including(load_candidate_resolutions())
    questions = _questions(request, releases, recorded, platform, today)
    again = request.refresh or request.stale is not None
    answers = [None if again else recorded.answer(query, platform) for query in questions]
    answers = [
        None if answer is not None and answer.is_unknown and answer.is_older(today, 0) else answer
        for answer in answers
    ]
    return ResolvePlan(
        questions=tuple(questions),
        known=tuple(answer for answer in answers if answer is not None),
        missing=tuple(
            query for query, answer in zip(questions, answers, strict=True) if answer is None
        ),
    )


def ask_missing(
    plan: ResolvePlan, request: ResolveRequest, path: Path | None = None, today: date | None = None
) -> Iterator[TimedAnswer]:
    """Ask what the plan lacks, keep each answer in the file at once, and yield it.

    Raises MatrixError if uv is missing.
    """
    path = path or RESOLUTIONS_FILE
    if not plan.missing:
        return
    for answered in ask_all(
        plan.missing, request.machine, request.glibc, request.jobs, today or _today()
    ):
        if not isinstance(answered.answer, ResolverError):
            of_candidate = bool(answered.answer.cell.builds)
            if of_candidate:
                _keep(answered.answer, load_candidate_resolutions(), candidates_path())
            else:
                _keep(answered.answer, load_resolutions(path), path)
        yield answered


def _today() -> date:
    return datetime.now(timezone.utc).date()


def _questions(
    request: ResolveRequest, releases: Releases, recorded: Resolutions, platform: str, today: date
) -> list[ResolverQuestion]:
    pythons = request.pythons or releases.pythons
    named = [releases.resolve(name) for name in request.cells]
    many: list[Cell] = []
    if request.all_pins:
        many += pinned_cells(releases, pythons)
    # As declared each of these only fails at its pin: they are asked as their cells install them.
    off_pin = dict.fromkeys(off_pin_cells(releases, pythons) if request.off_pin else ())
    many += off_pin
    known = releases.published
    torch = _range("--torch", request.torch, known["torch"])
    vllm = _range("--vllm", request.vllm, known["vllm"])
    many = [cell for cell in many if torch.contains(cell.torch) and vllm.contains(cell.vllm)]
    cells = dict.fromkeys([*named, *many])
    questions = [
        _question(cell, releases, override=request.override or cell in off_pin) for cell in cells
    ]
    if request.stale is not None:
        old = [row for row in recorded.stale(today, request.stale) if row.platform == platform]
        # Those of candidates are asked again where they are named: they may be gone.
        again = [row for row in old if not row.cell.builds]
        questions += [row.question for row in again if not cells or row.cell in cells]
        if cells:
            keys = {(row.cell, row.override is not None) for row in old}
            questions = [
                query for query in questions if (query.cell, query.override is not None) in keys
            ]
    if not questions and request.stale is not None:
        raise MatrixError(f"no answer is older than {request.stale} days")
    if not questions:
        raise MatrixError(
            "no cell to ask about; name one, such as py312-torch210-vllm019, or use --all-pins, "
            "--off-pin or --stale"
        )
    return questions


def _question(cell: Cell, releases: Releases, *, override: bool) -> ResolverQuestion:
    if cell.builds:
        return question_of(cell, releases)
    return question(cell, releases, override=override)


def _platform(request: ResolveRequest) -> str:
    for option, text, form, example in (
        *(("--python", python, _PYTHON, "3.12") for python in request.pythons),
        ("--machine", request.machine, _MACHINE, "x86_64"),
        ("--glibc", request.glibc, _GLIBC, "2.35"),
    ):
        if not form.fullmatch(text):
            raise MatrixError(f"{option} {text!r}: write it as {example}")
    target = Target(python="3.12", machine=request.machine, glibc=request.glibc)
    try:
        _ = target.uv_platform
    except LockFileError as error:
        raise MatrixError(f"--glibc: {error}") from None
    return tag_of(target)


def _range(option: str, text: str, known: Iterable[str]) -> SpecifierSet:
    return chosen_specifier(text, known, option) if text else SpecifierSet()


def _keep(answer: Resolution, others: Resolutions, path: Path) -> None:
    # The others were read again, to keep also what another process has written meanwhile.
    write_text(path, text_of(others.with_row(answer)))
