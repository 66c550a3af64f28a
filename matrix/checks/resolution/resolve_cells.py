"""Find out which answers of the resolver are missing, ask for them, and keep each at once."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from matrix._util.files import write_text
from matrix._util.text import clean
from matrix.catalog.cells import Cell
from matrix.catalog.releases import Releases
from matrix.checks.resolution.cache import (
    PATH,
    Question,
    Resolution,
    Resolutions,
    load_resolutions,
    off_pin_cells,
    pinned_cells,
    question,
    text_of,
)
from matrix.checks.resolution.lock import Target
from matrix.checks.resolution.resolver import Asked, ResolverFault, ask_all, tag_of
from matrix.errors import MatrixError

__all__ = ["Wish", "resolve_cells"]

_PYTHON = re.compile(r"3\.[1-9][0-9]?")
_MACHINE = re.compile(r"[a-z0-9_]+")
_GLIBC = re.compile(r"2\.[0-9]{1,2}")
_PACKAGES = ("torchvision", "torchaudio", "triton", "transformers")


@dataclass(frozen=True)
class Wish:
    """What a person wants to know: the options of `matrix resolve`.

    `stale` is a number of days, `torch` and `vllm` are specifiers such as ``>=2.9``.
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


def resolve_cells(
    wish: Wish, releases: Releases, path: Path | None = None, today: date | None = None
) -> int:
    """Tell what is known of the wished cells, ask for the rest, and keep each answer at once.

    Returns the exit status: 2 where a question had no answer. Raises MatrixError where nothing is
    wished, an option is bad, or there is no uv.
    """
    path = path or PATH
    today = today or datetime.now(timezone.utc).date()
    platform = _platform(wish)
    known = load_resolutions(path)
    wished = _wished(wish, releases, known, platform, today)
    told = [(each, known.answer(each, platform)) for each in wished]
    again = wish.refresh or wish.stale is not None
    lacking = [each for each, answer in told if answer is None or again]
    answered = [answer for each, answer in told if answer is not None and not again]
    width = max(len(_what(each)) for each in wished)
    if wish.cells:
        for answer in answered:
            print(f"{_what(answer.question):{width}}  {_said(answer)} (asked on {answer.asked})")
    return _ask(lacking, answered, wish, path, today, width)


def _ask(
    lacking: list[Question],
    answered: list[Resolution],
    wish: Wish,
    path: Path,
    today: date,
    width: int,
) -> int:
    began, faults, done = time.monotonic(), 0, len(answered)
    of = len(lacking)
    asked = ask_all(lacking, wish.machine, wish.glibc, wish.jobs, today) if lacking else ()
    for number, each in enumerate(asked, 1):
        if isinstance(each.answer, ResolverFault):
            faults += 1
        else:
            _keep(each.answer, path)
            answered.append(each.answer)
        counted = f"[{number:{len(str(of))}}/{of}] " if of > 1 else ""
        what = f"{_what(each.question):{width}}"
        print(f"{counted}{what}  {each.seconds:5.1f} s  {_told(each)}", flush=True)
    good = sum(each.ok for each in answered)
    summary = f"{good} resolve, {len(answered) - good} do not"
    if faults:
        summary += f", {faults} without an answer"
    if lacking:
        summary += f"; {len(lacking)} asked in {time.monotonic() - began:.1f} s"
    if done:
        summary += f"; {done} known before"
    print(f"matrix: {summary}", flush=True)
    return 2 if faults else 0


def _wished(
    wish: Wish, releases: Releases, known: Resolutions, platform: str, today: date
) -> list[Question]:
    pythons = wish.pythons or releases.pythons
    named = [releases.resolve(each) for each in wish.cells]
    many: list[Cell] = []
    if wish.all_pins:
        many += pinned_cells(releases, pythons)
    if wish.off_pin:
        many += off_pin_cells(releases, pythons)
    torch, vllm = _range("--torch", wish.torch), _range("--vllm", wish.vllm)
    many = [each for each in many if torch.contains(each.torch) and vllm.contains(each.vllm)]
    cells = dict.fromkeys([*named, *many])
    wished = [question(each, releases, override=wish.override) for each in cells]
    if wish.stale is not None:
        old = [each for each in known.stale(today, wish.stale) if each.platform == platform]
        wished += [each.question for each in old if not cells or each.cell in cells]
        if cells:
            keys = {(each.cell, each.override is not None) for each in old}
            wished = [each for each in wished if (each.cell, each.override is not None) in keys]
    if not wished and wish.stale is not None:
        raise MatrixError(f"no answer is older than {wish.stale} days")
    if not wished:
        raise MatrixError(
            "no cell to ask about; name one, such as py312-torch210-vllm019, or use --all-pins, "
            "--off-pin or --stale"
        )
    return wished


def _platform(wish: Wish) -> str:
    for option, text, form, example in (
        *(("--python", each, _PYTHON, "3.12") for each in wish.pythons),
        ("--machine", wish.machine, _MACHINE, "x86_64"),
        ("--glibc", wish.glibc, _GLIBC, "2.35"),
    ):
        if not form.fullmatch(text):
            raise MatrixError(f"{option} {text!r}: write it as {example}")
    return tag_of(Target("3.12", wish.machine, wish.glibc))


def _range(option: str, text: str) -> SpecifierSet:
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        raise MatrixError(f"{option} {text!r}: is not a range; write it as '>=2.9,<3'") from None


def _keep(answer: Resolution, path: Path) -> None:
    # Read again, so that what another process has written meanwhile is kept too.
    write_text(path, text_of(load_resolutions(path).with_row(answer)))


def _what(asked: Question) -> str:
    cell = asked.cell
    form = "override" if asked.override is not None else "declared"
    return f"{cell.name:24} torch {cell.torch:6} vLLM {cell.vllm:6} {form}"


def _told(asked: Asked) -> str:
    if isinstance(asked.answer, ResolverFault):
        return f"no answer: {clean(str(asked.answer))}"
    return _said(asked.answer)


def _said(answer: Resolution) -> str:
    if not answer.ok:
        return f"does not resolve: {clean(answer.reason or '')}"
    versions = ", ".join(_versions(answer))
    return f"resolves: {answer.count} packages" + (f" ({versions})" if versions else "")


def _versions(answer: Resolution) -> Iterator[str]:
    names: Iterable[str] = (name for name in _PACKAGES if name in answer.packages)
    for name in names:
        yield f"{name} {answer.packages[name]}"
