"""What the page knows, packed: each text, counter and rung stands in it once.

Pure. The page's script unpacks it; the keys of `pack` are what `templates/page.js` reads. Whatever
a record says is text here, and stays text there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from matrix._util.text import clean, clip
from matrix.attribution.model import Attribution
from matrix.attribution.symptoms import SymptomKind
from matrix.catalog.cells import Cell
from matrix.record.model import PLATFORMS, RUNGS, STARTS, Case
from matrix.report.attribution.sentences import counter_words, missing_runs, sentence
from matrix.report.model import Report
from matrix.report.timings import import_seconds
from matrix.rules.expectations import Expected
from matrix.rules.notes import Note
from matrix.verdict.grid import Grid, Square, ran_cell
from matrix.verdict.judge import CaseVerdict
from matrix.verdict.ladder import Progress, Step
from matrix.verdict.states import VERDICTS, StepState, Verdict
from matrix.verdict.table import Entry, Table

ALPHABET = "".join(chr(at) for at in range(33, 127) if chr(at) not in "\"&'<>\\")
"""The 88 characters of `coded`: none of them ends a string, or means anything to HTML."""

_ONE, _TWO = 60, 27
"""How many of the alphabet are a number by themselves, and how many begin one of two characters."""

History = Mapping[tuple[str, str, str, str], Sequence[tuple[str, float]]]
"""The total seconds of a start over time, by cell, platform, case and start, oldest first."""

_STATES = (StepState.PASSED, StepState.FAILED, StepState.UNKNOWN, StepState.NOT_NEEDED)
_CASE_VERDICTS = (*VERDICTS, Verdict.NOT_APPLICABLE)
_NUMBER = re.compile(r"(?<!\w)(0|[1-9][0-9]{0,8})(?!\w)", re.ASCII)
_TEXT, _LINE, _LINES, _POINTS, _SENTENCE = 600, 240, 60, 60, 400
_MOST_CHANGES = 50
"""Of how many counters that only changed it is told whose doing that is, so that the page stays
small. Of what fails or drifts it always is."""
_SHOWN_PACKAGES = ("torch", "torchvision", "torchaudio", "triton", "vllm", "transformers")
_PROVENANCE = (
    "torch",
    "vllm",
    "python",
    "triton",
    "cuda",
    "driver",
    "gpu",
    "cpu",
    "memory_mib",
    "os",
    "machine",
    "model_source",
    "jobs",
    "tests",
)
_WORDS = {
    "vllm": "vLLM",
    "python": "Python",
    "cuda": "CUDA",
    "gpu": "GPU",
    "cpu": "CPU",
    "memory_mib": "memory, MiB",
    "os": "OS",
    "model_source": "models from",
    "jobs": "side by side",
}
_NOT_TOLD = {"command", "seconds", "started"}
"""What the page tells elsewhere: the command that repeats the cell, when it ran and how long."""


def pack(
    report: Report, environments: Mapping[str, Cell] | None = None, history: History | None = None
) -> dict[str, object]:
    """The table as plain lists for the page.

    The `environments` say which cells have a name of their own that runs them, and place a record
    that does not know its versions.
    """
    packing = _Packing(environments or {}, history or {})
    return packing.report(report)


def first_platform(table: Table) -> str:
    """The platform that the page opens on: the first one on which something ran."""
    return next(iter(table.platforms), PLATFORMS[0])


def embedded(content: object) -> str:
    """JSON that may stand inside a script element: nothing in it ends the element or starts one.

    >>> embedded("</script>&")
    '"\\\\u003c/script\\\\u003e\\\\u0026"'
    """
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    # A lone surrogate, which JSON may hold, is no UTF-8; `clean` leaves none of them.
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def coded(numbers: Iterable[int]) -> str:
    """Whole numbers from 0 up as text, most of them in one or two characters.

    The first 60 of the alphabet are themselves; the next 27 begin one of two digits; the last says
    that the number of digits follows, and then the digits, in base 88.

    >>> coded([0, 59, 60, 2435, 2436])
    '!bc!}~~#!'
    """
    told = list(numbers)
    try:
        return "".join(map(_SHORT.__getitem__, told))
    except IndexError:
        return "".join([_SHORT[each] if each < _LONG else _long(each) for each in told])


def _long(number: int) -> str:
    number -= _LONG
    digits: list[str] = []
    while number or not digits:
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return ALPHABET[-1] + ALPHABET[len(digits)] + "".join(reversed(digits))


_SHORT = (
    *ALPHABET[:_ONE],
    *(first + second for first in ALPHABET[_ONE : _ONE + _TWO] for second in ALPHABET),
)

_LONG = len(_SHORT)


class _Pool:
    """Things, each once, by the place where each stands; place 0 is nothing."""

    def __init__(self) -> None:
        self.held: list[object] = [0]
        self.places: dict[object, int] = {}

    def place(self, key: object, thing: object) -> int:
        """Where the thing stands; `key` is what makes it the same."""
        at = self.places.get(key)
        if at is None:
            at = self.places[key] = len(self.held)
            self.held.append(thing)
        return at

    def known(self, key: object) -> int:
        """Where what has this key stands; 0 where it is not held."""
        return self.places.get(key, 0)

    def packed(self, numbers: tuple[int, ...]) -> int:
        """Where these numbers stand, as text."""
        at = self.places.get(numbers)
        return self.place(numbers, coded(numbers)) if at is None else at


class _Packing:
    """One packing: the pools that it fills."""

    def __init__(self, environments: Mapping[str, Cell], history: History) -> None:
        self._environments, self._history = environments, history
        self._texts, self._lines = _Pool(), _Pool()
        self._asked: dict[int, tuple[int, object]] = {}
        self._split: dict[str, tuple[int, ...]] = {}
        self._steps, self._climbs, self._squares = _Pool(), _Pool(), _Pool()
        self._names, self._counts, self._expected = _Pool(), _Pool(), _Pool()
        self._changes = 0
        self._whats, self._traces, self._facts, self._pairs = _Pool(), _Pool(), _Pool(), _Pool()

    def report(self, report: Report) -> dict[str, object]:
        table, grid = report.table, report.grid
        places: dict[tuple[str, str, str], tuple[int, int]] = {}
        content: dict[str, object] = {
            "newest": table.newest,
            "rungs": RUNGS,
            "verdicts": _CASE_VERDICTS,
            "states": _STATES,
            "starts": STARTS,
            "platforms": PLATFORMS,
            "first": first_platform(table),
            "torch": [],
            "vllm": [],
            "pythons": [],
            "grid": {},
            "named": "",
            "apart": {"torch": [], "vllm": []},
        }
        if grid is not None:
            content |= self._grid(grid)
            places = {
                (platform, torch.version, vllm.version): (row, column)
                for platform in grid.platforms
                for row, vllm in enumerate(grid.rows)
                for column, torch in enumerate(grid.columns)
            }
        blamed: dict[tuple[Cell, str], list[Attribution]] = {}
        for told in report.attributions:
            blamed.setdefault((told.cell, told.platform), []).append(told)
        content["entries"] = [self._entry(each, places, grid, blamed) for each in table.entries]
        notes = [
            [PLATFORMS.index(platform), *place, self._note(each)]
            for each in report.notes
            for (platform, torch, vllm), place in places.items()
            if each.covers(platform, torch, vllm)
        ]
        return content | {
            "texts": self._texts.held,
            "notes": notes,
            "lines": self._lines.held,
            "steps": self._steps.held,
            "climbs": self._climbs.held,
            "squares": self._squares.held,
            "names": self._names.held,
            "counts": self._counts.held,
            "expected": self._expected.held,
            "whats": self._whats.held,
            "traces": self._traces.held,
            "facts": self._facts.held,
            "pairs": self._pairs.held,
            "alphabet": ALPHABET,
        }

    def _grid(self, grid: Grid) -> dict[str, object]:
        pairs = [(torch.version, vllm.version) for vllm in grid.rows for torch in grid.columns]
        return {
            "torch": [[each.version, self._yanked(each.yanked)] for each in grid.columns],
            "vllm": [[each.version, each.torch, self._yanked(each.yanked)] for each in grid.rows],
            "pythons": grid.pythons,
            "apart": {
                "torch": [each.version for each in grid.torch if each not in grid.columns],
                "vllm": [each.version for each in grid.vllm if each not in grid.rows],
            },
            "grid": {
                platform: coded(
                    self._square(grid.squares[platform, torch, vllm]) for torch, vllm in pairs
                )
                for platform in grid.platforms
            },
            "named": "".join(self._is_named(*pair) for pair in pairs),
        }

    def _is_named(self, torch: str, vllm: str) -> str:
        """Whether the environment of that name is this very pair, on any Python."""
        return str(
            int(
                any(
                    self._environments.get(cell.name) == cell
                    for python in ("3.12", "3.10", "3.14")
                    for cell in [Cell(python, torch, vllm)]
                )
            )
        )

    def _yanked(self, reason: str | None) -> int:
        return 0 if reason is None else self._text(reason or "no reason given")

    def _text(self, text: str | None) -> int:
        if not text:
            return 0
        at = self._texts.places.get(text)
        return self._texts.place(text, clip(clean(text), _TEXT)) if at is None else at

    def _note(self, note: Note) -> int:
        text = f"{note.text} Evidence: {', '.join(note.evidence)}"
        return self._texts.place(text, clean(text))

    def _square(self, square: Square) -> int:
        shown = square.cells.index(square.shown)
        packed = coded((shown, *(self._progress(each) for each in square.cells)))
        return self._squares.place(packed, packed)

    def _progress(self, progress: Progress) -> int:
        packed = (
            VERDICTS.index(progress.verdict),
            _rung(progress.reached),
            _rung(progress.fails),
            int(progress.off_pin) + 2 * (progress.ran is not None) + 4 * bool(progress.skipped),
            coded(self._step(each) for each in progress.steps),
            tuple(self._text(each) for each in progress.contradictions),
        )
        return self._climbs.place(packed, packed)

    def _step(self, step: Step) -> int:
        packed = _STATES.index(step.state), self._text(step.reason), int(step.by_record)
        return self._steps.place(packed, packed)

    def _entry(
        self,
        entry: Entry,
        places: Mapping[tuple[str, str, str], tuple[int, int]],
        grid: Grid | None,
        blamed: Mapping[tuple[Cell, str], Sequence[Attribution]],
    ) -> list[object]:
        record, verdict = entry.record, entry.verdict
        cell = ran_cell(record) or self._environments.get(record.cell)
        row, column = (-1, -1)
        if cell is not None:
            row, column = places.get((record.platform, cell.torch, cell.vllm), (-1, -1))
        pythons = grid.pythons if grid is not None else ()
        python = pythons.index(entry.factors.python) if entry.factors.python in pythons else -1
        # A name that its place in the grid tells, and a file of that name, are made by the script.
        named = cell is not None and row >= 0 and python >= 0 and cell.name == record.cell
        return [
            0 if named else self._text(record.cell),
            PLATFORMS.index(record.platform),
            row if python >= 0 else -1,
            column,
            python,
            VERDICTS.index(verdict.verdict),
            _rung(verdict.rung),
            self._text(verdict.reason),
            int(entry.off_pin),
            self._text(entry.part),
            0 if entry.file == f"{record.cell}.json" else self._text(entry.file),
            record.started,
            self._flags(record.flags),
            _tenths(import_seconds(record)),
            _tenths(_number(record.provenance.get("seconds"))),
            self._provenance(entry),
            "".join([self._case(case, judged) for case, judged in entry.cases]),
            self._past(entry),
            [] if cell is None else self._blame(entry, blamed.get((cell, record.platform), ())),
        ]

    def _case(self, case: Case, verdict: CaseVerdict) -> str:
        """What a case showed, of which many are equal, what it counted, and its seconds."""
        cold, warm = (case.started(start) for start in STARTS)
        shape = (
            self._text(case.case),
            self._text(case.outcome),
            _CASE_VERDICTS.index(verdict.verdict),
            _rung(verdict.rung),
            self._text(verdict.reason),
            self._text(verdict.signature),
            self._text(case.model),
            self._flags(case.flags),
            self._trace(case.failure),
            self._named(cold.seconds) if cold else 0,
            self._named(warm.seconds) if warm else 0,
            self._rules(verdict.expected.get("cold")),
            self._rules(verdict.expected.get("warm")),
        )
        ran = [start for start in (cold, warm) if start is not None]
        numbers = [self._whats.packed(shape)]
        numbers += [self._counted(start.counters) for start in ran]
        numbers += [round(each * 10) for start in ran for each in start.seconds.values()]
        return coded(numbers)

    def _counted(self, counters: Mapping[str, int]) -> int:
        return self._counts.packed((self._named(counters), *counters.values()))

    def _rules(self, expected: Mapping[str, Expected] | None) -> int:
        if not expected:
            return 0
        known = self._asked.get(id(expected))
        if known is not None:
            return known[0]
        packed = (
            self._named(expected),
            tuple(each.value for each in expected.values()),
            tuple(self._text(each.rule) for each in expected.values()),
        )
        # Held with its place: its id is its own only while it lives.
        self._asked[id(expected)] = self._expected.place(packed, packed), expected
        return self._asked[id(expected)][0]

    def _named(self, of: Mapping[str, object]) -> int:
        names = tuple(of)
        known = self._names.known(names)
        return known or self._names.place(names, [self._text(each) for each in names])

    def _flags(self, flags: Mapping[str, object]) -> int:
        return self._told((key, _flag(flags[key])) for key in sorted(flags)) if flags else 0

    def _told(self, pairs: Iterable[tuple[str, str]]) -> int:
        """Names with their values; each pair stands in the page once."""
        keyed = ((self._text(key), self._text(value)) for key, value in pairs if value)
        packed = coded(self._pairs.place(each, each) for each in keyed)
        return self._facts.place(packed, packed) if packed else 0

    def _provenance(self, entry: Entry) -> int:
        found, packages = entry.record.provenance, entry.record.packages
        known = (key for key in _PROVENANCE if found.get(key) is not None)
        told = [(_WORDS.get(key, key), _fact(found[key])) for key in known]
        told += [(key, _fact(found[key])) for key in sorted({*found} - {*_PROVENANCE} - _NOT_TOLD)]
        if packages:
            some = (f"{name} {packages[name]}" for name in _SHOWN_PACKAGES if name in packages)
            told.append(("packages", f"{len(packages)}: {', '.join(some)}, ..."))
        return self._told(told)

    def _trace(self, failure: str | None) -> int:
        """The end of a failure, line by line: traces share most of their lines but for numbers."""
        if not failure or not failure.strip():
            return 0
        lines = failure.rstrip().split("\n")
        cut = len(lines) - _LINES
        numbers = [max(0, cut)]
        for line in lines[-_LINES:]:
            if line not in self._split:
                self._split[line] = tuple(self._numbers(_line(line)))
            numbers += self._split[line]
        packed = coded(numbers)
        return self._traces.place(packed, packed)

    def _numbers(self, line: str) -> list[int]:
        """A line as the place of its shape, and its numbers."""
        shape, found = _split(line)
        return [self._lines.place(shape, shape), *found]

    def _blame(self, entry: Entry, attributions: Iterable[Attribution]) -> list[object]:
        """Whose fault: the place of the case (-1 is the run), the answer, and lines of text.

        These are its sentence, the counters that it is of, and what would decide. Sentences share
        most of their words but for the versions in them.
        """
        places = {case.case: at for at, (case, _) in enumerate(entry.cases)}
        told: list[object] = []
        left_out = 0
        for each in attributions:
            if each.symptoms[0].kind is SymptomKind.CHANGED:
                self._changes += 1
                if self._changes > _MOST_CHANGES:
                    left_out += 1
                    continue
            lines = sentence(each), counter_words(each), *missing_runs(each)
            told.append([places.get(each.case, -1), self._text(each.answer), self._said(lines)])
        if left_out:
            line = f"of {left_out} more changes it stands in compatibility.json"
            told.append([-1, self._text("not told here"), self._said([line, ""])])
        return told

    def _said(self, lines: Iterable[str]) -> str:
        """Lines of text, packed."""
        return coded(at for line in lines for at in self._numbers(clip(clean(line), _SENTENCE)))

    def _past(self, entry: Entry) -> list[object]:
        """The seconds of each start over time, where there are two at least."""
        told: list[object] = []
        for at, (case, _) in enumerate(entry.cases):
            for start in STARTS:
                key = entry.record.cell, entry.record.platform, case.case, start
                points = self._history.get(key, ())[-_POINTS:]
                if len(points) > 1:
                    days = self._text(points[0][0][:10]), self._text(points[-1][0][:10])
                    tenths = coded([round(took * 10) for _, took in points])
                    told.append([at, STARTS.index(start), *days, tenths])
        return told


def _rung(rung: str | None) -> int:
    """The place of a rung from 1 up; 0 for none, and for what is not one (a hostile record's)."""
    return RUNGS.index(rung) + 1 if rung in RUNGS else 0


def _tenths(value: float | None) -> int:
    """Seconds in tenths, which is what is shown; -1 where they are not known."""
    return -1 if value is None else max(0, round(value * 10))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _line(line: str) -> str:
    """One line of a failure with its indent, which a Python trace needs to be read."""
    if not line.isprintable():
        indent = len(line) - len(line.lstrip(" "))
        line = " " * min(indent, 40) + clean(line)
    return clip(line, _LINE)


def _split(line: str) -> tuple[str, list[int]]:
    """The line with a mark for each number, and the numbers: of a trace, its line numbers.

    >>> _split('File "a.py", line 12, in f')
    ('File "a.py", line \\x00, in f', [12])
    """
    parts = _NUMBER.split(line)
    return "\0".join(parts[::2]), [int(each) for each in parts[1::2]]


def _flag(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {each}" for key, each in value.items() if each is not None)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return " ".join(map(str, value))
    return str(value)
