"""The data of the page, packed: each text, counter and rung stands in it once.

Pure. The page's script unpacks it; it reads the keys that `pack` writes. All that comes from a
record is text here, and the script shows it as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from matrix._util.text import clean, clip
from matrix.attribution.model import Attribution
from matrix.attribution.symptoms import SymptomKind
from matrix.catalog.cells import Cell
from matrix.catalog.release import Torch, Vllm
from matrix.record.model import PLATFORMS, RUNGS, STARTS, Case, Platform, Rung, StartKind
from matrix.report import marks, prediction, stock
from matrix.report.attribution.sentences import counter_words, missing_runs, sentence
from matrix.report.model import Report
from matrix.report.origin import vllm_made
from matrix.report.page.commands import commands
from matrix.report.page.encoding import ALPHABET, Pool, coded, split_numbers
from matrix.report.page.extras import Extras, extras_of
from matrix.report.reasons import contradiction_words, event_words, reason_words, recompiles_words
from matrix.report.timings import import_seconds
from matrix.rules.expectations import Expected
from matrix.rules.notes import Note
from matrix.verdict.events import telling
from matrix.verdict.grid import Grid, Square, ran_cell
from matrix.verdict.judge import CaseVerdict
from matrix.verdict.ladder import LadderStep, Progress
from matrix.verdict.predictions import Predictions
from matrix.verdict.states import VERDICTS, StepState, Verdict
from matrix.verdict.table import Entry, Table

SecondsOverTime = Mapping[tuple[str, str, str, str], Sequence[tuple[str, float]]]
"""The total seconds of a start over time, by cell, platform, case and start, oldest first."""

_STATES = (StepState.PASSED, StepState.FAILED, StepState.UNKNOWN, StepState.NOT_NEEDED)
SHOWN_RUNGS = (*RUNGS, Rung.BUILDS)
"""The rungs in the order of `Progress.steps`: *builds* is the last, where a cell has it."""
_CASE_VERDICTS = (*VERDICTS, Verdict.NOT_APPLICABLE)
_TEXT, _LINE, _LINES, _POINTS, _SENTENCE = 600, 240, 60, 60, 400
_MOST_CHANGES = 50
"""How many attributions of counters that only changed the page shows, so that it stays small.
Failures and drifts are always attributed."""
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
_SHOWN_ELSEWHERE = {"command", "seconds", "started"}
"""Provenance with a place of its own in the page, or that the page words from other values."""


def pack(
    report: Report,
    environments: Mapping[str, Cell] | None = None,
    history: SecondsOverTime | None = None,
    extras: Extras | None = None,
) -> dict[str, object]:
    """Return the table as plain lists for the page.

    The `environments` are the cells that a name stands for. They also give the place in the grid of
    a record without versions.
    """
    extras = extras or extras_of(report, environments or {})
    packing = _Packing(environments or {}, history or {}, report.predictions, extras)
    return packing.report(report)


def first_platform(table: Table) -> Platform:
    """Return the platform that the page opens on: the first one on which something ran."""
    return next(iter(table.platforms), PLATFORMS[0])


def shown_rows(grid: Grid) -> tuple[Vllm, ...]:
    """Return the vLLM releases of the page's rows, newest first."""
    return grid.rows[::-1]


def shown_columns(grid: Grid) -> tuple[Torch, ...]:
    """Return the torch releases of the page's columns, newest first."""
    return grid.columns[::-1]


class _Packing:
    """One packing: the pools that it fills."""

    def __init__(
        self,
        environments: Mapping[str, Cell],
        history: SecondsOverTime,
        predictions: Predictions,
        extras: Extras,
    ) -> None:
        self._environments, self._history = environments, history
        self._predictions, self._extras = predictions, extras
        self._named_pairs = {(cell.torch, cell.vllm) for cell in environments.values()}
        self._texts, self._lines = Pool(), Pool()
        self._steps, self._climbs, self._squares = Pool(), Pool(), Pool()
        self._names, self._counts, self._expected = Pool(), Pool(), Pool()
        self._changes = 0
        self._whats, self._traces, self._facts, self._pairs = Pool(), Pool(), Pool(), Pool()

    def report(self, report: Report) -> dict[str, object]:
        table, grid = report.table, report.grid
        places: dict[tuple[Platform, str, str], tuple[int, int]] = {}
        content: dict[str, object] = {
            "newest": table.newest,
            "rungs": SHOWN_RUNGS,
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
            versions = [row.version for row in shown_columns(grid)]
            vllms = [row.version for row in shown_rows(grid)]
            content |= self._grid(grid) | commands(report.installs, versions, vllms, self._text)
            places = {
                (platform, torch.version, vllm.version): (row, column)
                for platform in grid.platforms
                for row, vllm in enumerate(shown_rows(grid))
                for column, torch in enumerate(shown_columns(grid))
            }
        attributed: dict[tuple[Cell, str], list[Attribution]] = {}
        for attribution in report.attributions:
            key = attribution.cell, attribution.platform
            attributed.setdefault(key, []).append(attribution)
        content["entries"] = [
            self._entry(entry, places, grid, attributed) for entry in table.entries
        ]
        notes = [
            [PLATFORMS.index(platform), *place, self._note(note)]
            for note in report.notes
            for (platform, torch, vllm), place in places.items()
            if note.covers(platform, torch, vllm)
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
        rows, columns = shown_rows(grid), shown_columns(grid)
        pairs = [(torch.version, vllm.version) for vllm in rows for torch in columns]
        return {
            "torch": [[torch.version, self._yanked(torch.yanked)] for torch in columns],
            "vllm": [[vllm.version, vllm.torch, self._yanked(vllm.yanked)] for vllm in rows],
            "pythons": grid.pythons,
            "apart": {
                "torch": [torch.version for torch in grid.torch if torch not in grid.columns],
                "vllm": [vllm.version for vllm in grid.vllm if vllm not in grid.rows],
            },
            "grid": {
                platform: coded(
                    self._square(grid.squares[platform, torch, vllm]) for torch, vllm in pairs
                )
                for platform in grid.platforms
            },
            "named": "".join(str(int(pair in self._named_pairs)) for pair in pairs),
        }

    def _yanked(self, reason: str | None) -> int:
        return 0 if reason is None else self._text(reason or "no reason given")

    def _text(self, text: str | None) -> int:
        if not text:
            return 0
        place = self._texts.places.get(text)
        return self._texts.place(text, clip(clean(text), _TEXT)) if place is None else place

    def _note(self, note: Note) -> int:
        text = f"{note.text} Evidence: {', '.join(note.evidence)}"
        return self._texts.place(text, clean(text))

    def _square(self, square: Square) -> int:
        shown = square.cells.index(square.shown)
        packed = coded((shown, *(self._progress(progress) for progress in square.cells)))
        return self._squares.place(packed, packed)

    def _progress(self, progress: Progress) -> int:
        predicted = self._predictions.of_progress(progress)
        packed: tuple[object, ...] = (
            VERDICTS.index(progress.verdict),
            _rung(progress.reached),
            _rung(progress.fails),
            int(progress.off_pin)
            + 2 * (progress.ran is not None)
            + 4 * bool(progress.skipped)
            + 8 * bool(progress.not_stock)
            + 16 * (progress.provisional is not None)
            + 32 * bool(progress.ran and progress.ran.recompiling)
            + 64 * bool(progress.ran and progress.ran.part)
            + 128 * (predicted is not None)
            + 256 * self._extras.is_stale(progress)
            + 512 * bool(progress.ran and any(progress.ran.issues)),
            coded(self._step(step) for step in progress.steps),
            tuple(
                self._text(contradiction_words(contradiction))
                for contradiction in progress.contradictions
            ),
            self._text(", ".join(marks.others(progress.ran))),
        )
        if predicted is not None:  # of thousands of cells few are
            words = prediction.short(predicted), prediction.sentence(predicted)
            packed += tuple(map(self._text, words))
        return self._climbs.place(packed, packed)

    def _step(self, step: LadderStep) -> int:
        packed = (
            _STATES.index(step.state),
            self._text(reason_words(step.reason)),
            int(step.by_record),
        )
        return self._steps.place(packed, packed)

    def _entry(
        self,
        entry: Entry,
        places: Mapping[tuple[Platform, str, str], tuple[int, int]],
        grid: Grid | None,
        attributed: Mapping[tuple[Cell, str], Sequence[Attribution]],
    ) -> list[object]:
        record, verdict = entry.record, entry.verdict
        cell = ran_cell(record) or self._environments.get(record.cell)
        row, column = (-1, -1)
        if cell is not None:
            row, column = places.get((record.platform, cell.torch, cell.vllm), (-1, -1))
        pythons = grid.pythons if grid is not None else ()
        python = pythons.index(entry.factors.python) if entry.factors.python in pythons else -1
        # The script makes a name that follows from the place in the grid, and a file of that name.
        named = cell is not None and row >= 0 and python >= 0 and cell.name == record.cell
        return [
            0 if named else self._text(record.cell),
            PLATFORMS.index(record.platform),
            row if python >= 0 else -1,
            column,
            python,
            VERDICTS.index(verdict.verdict),
            _rung(verdict.rung),
            self._text(reason_words(verdict.reason)),
            int(entry.off_pin),
            self._text(marks.part(entry.part)),
            0 if entry.file == f"{record.cell}.json" else self._text(entry.file),
            record.started,
            self._flags(record.flags),
            _tenths(import_seconds(record)),
            _tenths(_number(record.provenance.get("seconds")) or None),  # 0: it died before its end
            self._provenance(entry),
            "".join([self._case(case, judged) for case, judged in entry.cases]),
            self._past(entry),
            []
            if cell is None
            else self._attributed(entry, attributed.get((cell, record.platform), ())),
            self._text(_stock(entry)),
            0 if cell is None else self._text(self._extras.stale.get((cell, record.platform))),
        ]

    def _case(self, case: Case, verdict: CaseVerdict) -> str:
        """Return what a case showed, of which many are equal, what it counted, and its seconds."""
        cold, warm = (case.started(start) for start in STARTS)
        shape = (
            self._text(case.case),
            self._text(case.outcome),
            _CASE_VERDICTS.index(verdict.verdict),
            _rung(verdict.rung),
            self._text(_why(verdict)),
            self._text(verdict.signature),
            self._text(case.model),
            self._flags(case.flags),
            self._trace(case.failure),
            self._named(cold.seconds) if cold else 0,
            self._named(warm.seconds) if warm else 0,
            self._rules(verdict.expected.get(StartKind.COLD)),
            self._rules(verdict.expected.get(StartKind.WARM)),
        )
        ran = [start for start in (cold, warm) if start is not None]
        numbers = [self._whats.packed(shape)]
        numbers += [self._counted(start.counters) for start in ran]
        numbers += [round(seconds * 10) for start in ran for seconds in start.seconds.values()]
        return coded(numbers)

    def _counted(self, counters: Mapping[str, int]) -> int:
        return self._counts.packed((self._named(counters), *counters.values()))

    def _rules(self, expected: Mapping[str, Expected] | None) -> int:
        if not expected:
            return 0
        packed = (
            self._named(expected),
            tuple(value.value for value in expected.values()),
            tuple(self._text(value.rule) for value in expected.values()),
        )
        return self._expected.place(packed, packed)

    def _named(self, values: Mapping[str, object]) -> int:
        names = tuple(values)
        known = self._names.known(names)
        return known or self._names.place(names, [self._text(name) for name in names])

    def _flags(self, flags: Mapping[str, object]) -> int:
        return self._named_facts((key, _flag(flags[key])) for key in sorted(flags)) if flags else 0

    def _named_facts(self, pairs: Iterable[tuple[str, str]]) -> int:
        """Return the place of names with their values; the page holds each pair once."""
        keyed = ((self._text(key), self._text(value)) for key, value in pairs if value)
        packed = coded(self._pairs.place(pair, pair) for pair in keyed)
        return self._facts.place(packed, packed) if packed else 0

    def _provenance(self, entry: Entry) -> int:
        found, packages = entry.record.provenance, entry.record.packages
        known = (key for key in _PROVENANCE if found.get(key) is not None)
        facts = [(_WORDS.get(key, key), _fact(found[key])) for key in known]
        others = sorted({*found} - {*_PROVENANCE} - _SHOWN_ELSEWHERE)
        facts += [(key, _fact(found[key])) for key in others]
        if packages:
            some = (f"{name} {packages[name]}" for name in _SHOWN_PACKAGES if name in packages)
            facts.append(("packages", f"{len(packages)}: {', '.join(some)}, ..."))
        if made := vllm_made(entry.record):
            facts.append(("vLLM", made))
        return self._named_facts(facts)

    def _trace(self, failure: str | None) -> int:
        """Return the place of the end of a failure, line by line.

        Traces share most of their lines but for numbers.
        """
        if not failure or not failure.strip():
            return 0
        lines = failure.rstrip().split("\n")
        cut = len(lines) - _LINES
        numbers = [max(0, cut)]
        for line in lines[-_LINES:]:
            numbers += self._numbers(_line(line))
        packed = coded(numbers)
        return self._traces.place(packed, packed)

    def _numbers(self, line: str) -> list[int]:
        """Return a line as the place of its shape, and its numbers."""
        shape, found = split_numbers(line)
        return [self._lines.place(shape, shape), *found]

    def _attributed(self, entry: Entry, attributions: Iterable[Attribution]) -> list[object]:
        """Return attributions: the place of the case (-1 is the run), the answer, lines of text.

        The lines are its sentence, the counters that it is of, and what would decide. Sentences
        share most of their words but for the versions in them.
        """
        places = {case.case: place for place, (case, _) in enumerate(entry.cases)}
        rows: list[object] = []
        left_out = 0
        for attribution in attributions:
            if attribution.symptoms[0].kind is SymptomKind.CHANGED:
                self._changes += 1
                if self._changes > _MOST_CHANGES:
                    left_out += 1
                    continue
            place = places.get(attribution.case, -1)
            lines = sentence(attribution), counter_words(attribution), *missing_runs(attribution)
            rows.append([place, self._text(attribution.answer), self._sentences(lines)])
        if left_out:
            line = f"of {left_out} more changes it stands in compatibility.json"
            rows.append([-1, self._text("not shown here"), self._sentences([line, ""])])
        return rows

    def _sentences(self, lines: Iterable[str]) -> str:
        """Return lines of text, packed."""
        return coded(
            number for line in lines for number in self._numbers(clip(clean(line), _SENTENCE))
        )

    def _past(self, entry: Entry) -> list[object]:
        """Return the seconds of each start over time, where there are two at least."""
        rows: list[object] = []
        for place, (case, _) in enumerate(entry.cases):
            for start in STARTS:
                key = entry.record.cell, entry.record.platform, case.case, start
                points = self._history.get(key, ())[-_POINTS:]
                if len(points) > 1:
                    days = self._text(points[0][0][:10]), self._text(points[-1][0][:10])
                    tenths = coded([round(seconds * 10) for _, seconds in points])
                    rows.append([place, STARTS.index(start), *days, tenths])
        return rows


def _why(verdict: CaseVerdict) -> str:
    """Return the reason of a case, and what its starts only logged.

    A drift's reason has the first of that already.
    """
    again = [] if verdict.recompiles is None else [recompiles_words(verdict.recompiles)]
    logged = telling(verdict.events)[1 if verdict.differences else 0 :]
    reason = [reason_words(verdict.reason)] if verdict.reason else []
    return "; ".join([*reason, *again, *map(event_words, logged)])


def _stock(entry: Entry) -> str:
    """Return how a run's packages were not as its vLLM requires, "" if they were."""
    verdict = entry.verdict
    if verdict.departures is None:
        return stock.UNKNOWN if entry.record.packages else ""
    return stock.mark(verdict.not_stock, most=len(verdict.not_stock))


def _rung(rung: Rung | None) -> int:
    """Return the place of a rung from 1 up; 0 for none and for what is not a rung."""
    return SHOWN_RUNGS.index(rung) + 1 if rung in SHOWN_RUNGS else 0


def _tenths(value: float | None) -> int:
    """Return seconds in tenths, which the page shows; -1 where they are not known."""
    return -1 if value is None else max(0, round(value * 10))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _line(line: str) -> str:
    """Return one line of a failure with its indent, which a Python trace needs."""
    if not line.isprintable():
        indent = len(line) - len(line.lstrip(" "))
        line = " " * min(indent, 40) + clean(line)
    return clip(line, _LINE)


def _flag(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items() if part is not None)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return " ".join(map(str, value))
    return str(value)
