"""A small JSON file for each release: of a vLLM its first answer and pairs, of a torch its pairs.

`data/api.schema.json` describes both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from matrix._util.text import clean, clip
from matrix.advice.install import Install
from matrix.catalog.release import Torch, Vllm
from matrix.checks.facts import LinkFact
from matrix.record.model import PLATFORMS, Platform, Rung
from matrix.record.tables import API_FOLDER
from matrix.report import marks, prediction, stock
from matrix.report.answers import where_words, words
from matrix.report.model import Report
from matrix.report.reasons import reason_words
from matrix.report.uv_commands import command_line
from matrix.verdict.answer import VllmAnswer
from matrix.verdict.grid import Grid, Square
from matrix.verdict.ladder import Part, Progress
from matrix.verdict.reasons import Checked
from matrix.verdict.states import Verdict

_SCHEMA = 1
_REASON = 300
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,99}", re.ASCII)
"""The releases that can be the name of a file."""
_LITTLE = (None, Rung.DECLARED)
"""What is known of a pair that nobody asked further about; such pairs are left out."""


def render(report: Report) -> Mapping[str, str]:
    """Return each file by its path in the folder of the table: `api/vllm/0.19.1.json`."""
    grid = report.grid
    if grid is None:
        return {}
    answers = {answer.vllm.version: answer for answer in report.answers}
    content = {
        **{("vllm", row.version): _vllm(report, grid, row, answers) for row in grid.vllm},
        **{("torch", row.version): _torch(report, grid, row) for row in grid.torch},
    }
    return {
        f"{API_FOLDER}/{project}/{version}.json": _lines(values)
        for (project, version), values in content.items()
        if _NAME.fullmatch(version)
    }


def is_own(path: str, text: str) -> bool:
    """Tell whether a file of this path is one made here: it names the release of its file name."""
    try:
        content = json.loads(text)
    except ValueError:
        return False
    project, _, name = path.removesuffix(".json").rpartition("/")
    project = project.rpartition("/")[2]
    return (
        isinstance(content, dict)
        and {"schema", "pairs"} <= set(content)
        and (content.get(project) == name)
    )


def _lines(values: Mapping[str, object]) -> str:
    """Return JSON with a line for each key and each pair."""
    parts = []
    for key, value in values.items():
        if key == "pairs" and isinstance(value, list) and value:
            shown = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        else:
            shown = json.dumps(value)
        parts.append(f" {json.dumps(key)}: {shown}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _vllm(
    report: Report, grid: Grid, vllm: Vllm, answers: Mapping[str, VllmAnswer]
) -> dict[str, object]:
    squares = [
        grid.squares[platform, torch.version, vllm.version]
        for platform in PLATFORMS
        for torch in reversed(grid.torch)
        if (platform, torch.version, vllm.version) in grid.squares
    ]
    answer = answers.get(vllm.version)
    return {
        "schema": _SCHEMA,
        "vllm": vllm.version,
        "pins": vllm.torch,
        "yanked": _yanked(vllm.yanked),
        "answer": None if answer is None else _answer(answer, report.install(answer.progress.cell)),
        "pairs": list(_pairs(report, squares, "torch")),
    }


def _torch(report: Report, grid: Grid, torch: Torch) -> dict[str, object]:
    squares = [
        grid.squares[platform, torch.version, vllm.version]
        for platform in PLATFORMS
        for vllm in reversed(grid.vllm)
        if (platform, torch.version, vllm.version) in grid.squares
    ]
    pinned = [vllm.version for vllm in reversed(grid.vllm) if vllm.torch == torch.version]
    return {
        "schema": _SCHEMA,
        "torch": torch.version,
        "pinned_by": pinned,
        "yanked": _yanked(torch.yanked),
        "pairs": list(_pairs(report, squares, "vllm")),
    }


def _yanked(reason: str | None) -> str | None:
    return None if reason is None else clip(clean(reason), _REASON)


def _answer(answer: VllmAnswer, install: Install) -> dict[str, object]:
    entry, wording, progress = answer.entry, words(answer), answer.progress
    verdict, part = (None, None) if entry is None else (entry.verdict, entry.part)
    issues = [] if verdict is None else [link for links in verdict.issues for link in links]
    return {
        "torch": answer.torch,
        "off_pin": answer.off_pin,
        "platform": progress.platform,
        "python": progress.cell.python,
        "verdict": progress.verdict,
        "fails": progress.fails,
        "starts_warm": _starts_warm(progress.verdict, part),
        "part": marks.part(part) or None,
        "recompiles": [] if verdict is None else list(verdict.recompiling),
        "issues": list(dict.fromkeys(issues)),
        "measured_on": None if entry is None else where_words(entry),
        "started": None if entry is None else entry.record.started,
        "record": None if entry is None else entry.file,
        "not_stock": None
        if verdict is None or verdict.departures is None
        else list(map(stock.described, verdict.not_stock)),
        "predicted": prediction.short(answer.prediction) or None,
        "sentence": wording.warm,
        "requirements": list(install.requirements),
        "overrides": list(install.overrides),
        "backend": install.backend,
        "command": command_line(install),
    }


def _starts_warm(verdict: Verdict, part: Part | None) -> bool | None:
    """Return whether a pair starts warm; the other cases of a partial run may not."""
    if verdict == Verdict.INCOMPATIBLE:
        return False
    ran = verdict in (Verdict.COMPATIBLE, Verdict.DRIFT)
    return True if ran and part is None else None


def _pairs(report: Report, squares: Iterable[Square], other: str) -> Iterable[dict[str, object]]:
    """Yield what is known of each pair; of `cpu` where it ran, for its checks are those of cuda."""
    for square in squares:
        shown, predicted = square.shown, report.predictions.at(square)
        ran = shown.ran
        if ran is None and (
            square.platform is Platform.CPU
            or (shown.fails is None and shown.reached in _LITTLE and predicted is None)
        ):
            continue
        reason = clip(clean(reason_words(shown.reason)), _REASON)
        yield {
            other: getattr(square, other),
            "platform": square.platform,
            "python": shown.cell.python,
            "off_pin": square.off_pin,
            "verdict": shown.verdict,
            "reached": shown.reached,
            "fails": shown.fails,
            "reason": reason or None,
            "ran": None if ran is None else ran.day,
            "part": None if ran is None else marks.part(ran.part) or None,
            "recompiles": 0 if ran is None else len(ran.recompiling),
            "provisional": shown.provisional is not None,
            "not_stock": bool(shown.not_stock),
            "predicted": prediction.short(predicted) or None,
            **_without(shown),
        }


def _without(shown: Progress) -> dict[str, object]:
    """Return the features that do not link where the core does; nothing where all do."""
    because = shown.without_cause
    facts = because.facts if isinstance(because, Checked) else ()
    names = [name for fact in facts if isinstance(fact, LinkFact) for name in fact.features or ()]
    return {"without": names} if names else {}
