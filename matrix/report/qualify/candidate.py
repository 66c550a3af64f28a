"""The output of `matrix qualify CANDIDATE`: the plan and its results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from matrix._util.text import aligned, clean, clip, code, listed, markdown, plural, tabular
from matrix.attribution.model import Attribution
from matrix.catalog.projects import Project
from matrix.qualify.candidate_plan import CandidatePlan, LeftOut, LeftOutCode, PlannedCell
from matrix.qualify.turns import TIMED, Untimed
from matrix.qualify.watch import Delta, QualifiedBuild, WatchHistory
from matrix.report.attribution import markdown as attribution_markdown
from matrix.report.attribution import text as attribution_text
from matrix.report.attribution.values import entries
from matrix.report.coded import coded, operand
from matrix.report.plan import plan_words
from matrix.report.qualify import json as qualify_json
from matrix.report.qualify import markdown as qualify_markdown
from matrix.report.qualify import text as qualify_text
from matrix.report.qualify import watch as watch_report
from matrix.report.qualify.sections import release_name
from matrix.report.reasons import reason_words
from matrix.run.candidates.runs import Carried
from matrix.run.candidates.turns import ONE_CASE
from matrix.run.rerun import Rerun, shown

_SCHEMA = 1
_TURNS = "Commands of one round of timings"
_WIDEST = 160
_MOST = 8  # lines of what was left out


@dataclass(frozen=True, kw_only=True)
class Result:
    """The content of a candidate's report: the plan, its results, and their causes.

    `delta` is what became of findings since the build before, None if nobody watches.
    """

    plan: CandidatePlan
    carried: Carried
    attributions: tuple[Attribution, ...] = ()
    delta: Delta | None = None


def plan_lines(plan: CandidatePlan) -> str:
    """Return the cells that decide, why, how long they take, and what runs them."""
    rows = [f"{_title(plan)}"]
    if plan.cells:
        head = ["side", "cell", "minutes", "environment", "why"]
        table = [
            [planned.side, planned.cell.name, _run(planned), _environment(planned), _why(planned)]
            for planned in plan.cells
        ]
        rows += aligned([head, *table], right=(2, 3))
    rows += [_sum(plan), *_rounds_lines(plan)]
    if plan.left_out:
        rows += ["", "Left out", *(f"  {clean(line)}" for line in _left_out_lines(plan))]
    commands = _plan_commands(plan)
    rows += ["", "Commands", *(f"  {command}" for command in commands)] if commands else []
    turns = _turn_commands(plan)
    rows += ["", _TURNS, *(f"  {command}" for command in turns)] if turns else []
    return "\n".join(rows) + "\n"


def plan_json(plan: CandidatePlan) -> dict[str, object]:
    """Return the plan as JSON has it."""
    asked = plan.asked
    return {
        "candidate": asked.candidate.name,
        "project": asked.project,
        "version": asked.candidate.version,
        "build": asked.candidate.identity,
        "baseline": plan.baseline,
        "platform": asked.platform,
        "python": plan.python,
        "cases": list(asked.cases),
        "cells": [_cell(planned, plan) for planned in plan.cells],
        "rounds": [
            {
                "baseline": pair.baseline.cell.name,
                "candidate": pair.candidate.cell.name,
                "wanted": pair.rounds.wanted,
                "done": pair.rounds.done,
                "cases": list(TIMED),
                "seconds": pair.rounds.seconds,
            }
            for pair in plan.pairs
            if pair.rounds is not None
        ],
        "left_out": [
            {
                "baseline": item.baseline,
                "other": item.other,
                "side": item.side,
                "code": item.code,
                "text": _left_out(item),
            }
            for item in plan.left_out
        ],
    }


def _plan_commands(plan: CandidatePlan) -> list[str]:
    """Return the commands that run what has yet to run."""
    return [shown(_rerun(planned, plan)) for planned in plan.to_run]


def lines(result: Result, given: Sequence[str]) -> str:
    """Return the answer for a terminal; `given` as in `matrix.report.qualify.text.lines`."""
    parts = [qualify_text.lines(result.carried.qualification, given)]
    more = _carried_lines(result.carried)
    if more:
        parts.append("\n".join(["How it ran", *(f"  {line}" for line in more)]) + "\n")
    if result.attributions:
        parts.append(f"Who changed\n{attribution_text.lines(result.attributions)}")
    if result.delta is not None:
        parts.append(watch_report.lines(result.delta))
    return "\n".join(parts)


def page(result: Result, given: Sequence[str]) -> str:
    """Return the answer as Markdown for an umbrella issue."""
    parts = [qualify_markdown.page(result.carried.qualification, given)]
    if result.delta is not None:
        # What changed since the last build is read first.
        parts.insert(0, watch_report.section(result.delta))
    more = _carried_lines(result.carried)
    if more:
        rows = "".join(f"- {markdown(line, 600)}\n" for line in more)
        parts.append(f"### How it ran\n\n{rows}")
    if result.attributions:
        parts.append(attribution_markdown.section(result.attributions))
    return "\n".join(parts)


def render(result: Result, given: Sequence[str]) -> str:
    """Return the answer as JSON, always ASCII.

    Its form is `data/qualify_candidate.schema.json`: `qualification` is by
    `data/qualify.schema.json`, and `attributions` are as `matrix attribute` has them.
    """
    carried = result.carried
    content = {
        "schema": _SCHEMA,
        "verdict": carried.qualification.verdict,
        "exit_status": carried.qualification.exit_status,
        "plan": plan_json(result.plan),
        "qualification": json.loads(qualify_json.render(carried.qualification, given)),
        "attributions": entries(result.attributions),
        "again": list(carried.again),
        "untimed": [asdict(item) for item in carried.untimed],
        "not_run": [{"cell": item.cell, "reason": item.reason} for item in carried.not_run],
        "watch": None if result.delta is None else watch_report.content(result.delta),
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def render_plan(plan: CandidatePlan) -> str:
    """Return the plan alone as JSON, always ASCII."""
    return json.dumps({"schema": _SCHEMA, "plan": plan_json(plan)}, indent=1, sort_keys=True) + "\n"


def render_nothing_new(build: QualifiedBuild, history: WatchHistory) -> str:
    """Return as JSON, always ASCII, that a channel has no build that was not qualified yet."""
    found = {"schema": _SCHEMA, "nothing_new": watch_report.nothing_new_content(build, history)}
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def plan_page(plan: CandidatePlan) -> str:
    """Return the plan as Markdown."""
    head = ["side", "cell", "minutes", "environment", "why"]
    rows = [
        [
            planned.side,
            code(planned.cell.name),
            _run(planned),
            _environment(planned),
            markdown(_why(planned)),
        ]
        for planned in plan.cells
    ]
    parts = [f"## {markdown(_title(plan))}\n"]
    parts += [tabular(head, rows, right=(2, 3))] if rows else []
    parts += [f"{markdown(line)}\n" for line in (_sum(plan), *_rounds_lines(plan))]
    parts += [f"- {markdown(line, 600)}\n" for line in _left_out_lines(plan)]
    commands = _plan_commands(plan)
    if commands:
        parts.append("```console\n" + "\n".join(commands) + "\n```\n")
    turns = _turn_commands(plan)
    if turns:
        parts.append(f"{_TURNS}:\n\n```console\n" + "\n".join(turns) + "\n```\n")
    return "\n".join(parts)


def _title(plan: CandidatePlan) -> str:
    asked = plan.asked
    name = release_name(asked.project, asked.candidate.key)
    against = f" against {plan.baseline}" if plan.baseline else ""
    python = f", Python {plan.python}" if plan.python else ""
    cases = f", {listed(asked.cases)} alone" if asked.cases else ""
    return f"{name}{against} on {asked.platform}{python}{cases}"


def _sum(plan: CandidatePlan) -> str:
    """Return how much is to run, and how long that takes as far as it is known."""
    if not plan.cells:
        return "no cell can decide, so nothing runs: not enough evidence"
    todo = plan.to_run
    if not todo:
        return f"{plural(len(plan.cells), 'cell')}, all with a record: nothing to run"
    known = [planned.estimate.total for planned in todo]
    seconds = sum(total for total in known if total is not None)
    minutes = f"about {max(seconds / 60, 1):.0f} min" if any(known) else "for unknown minutes"
    missing = []
    if None in known and any(known):
        missing.append(f"{plural(known.count(None), 'cell')} of unknown minutes")
    if any(planned.estimate.environment is None for planned in todo):
        missing.append("the making of environments that nobody timed yet")
    more = f", and {' and '.join(missing)}" if missing else ""
    return f"{plural(len(plan.cells), 'cell')}, {len(todo)} to run: {minutes}{more}"


def _turn_commands(plan: CandidatePlan) -> list[str]:
    """Return the commands of one round of each pairing that has rounds left."""
    asked = plan.asked
    return [
        shown(
            Rerun(
                name=planned.cell.name,
                platform=asked.platform,
                cases=TIMED,
                jobs=asked.jobs or ONE_CASE,
            )
        )
        for pair in plan.pairs
        if pair.rounds is not None and pair.rounds.left
        for planned in (pair.baseline, pair.candidate)
    ]


def _rounds_lines(plan: CandidatePlan) -> list[str]:
    """Return how many rounds of timings are left, and how long they take as far as it is known."""
    every = [pair.rounds for pair in plan.pairs if pair.rounds is not None]
    if not every:
        return []
    left, done = sum(rounds.left for rounds in every), sum(rounds.done for rounds in every)
    before = f"{done} done, " if done else ""
    seconds = [rounds.seconds for rounds in every]
    minutes = "for unknown minutes"
    if None not in seconds:
        minutes = f"about {max(sum(filter(None, seconds)) / 60, 1):.0f} min"
    what = f"timings of {listed(TIMED)} in turns: {before}{plural(left, 'round')} to run"
    return [f"{what}, {minutes} more" if left else what]


def _cell(planned: PlannedCell, plan: CandidatePlan) -> dict[str, object]:
    estimate = planned.estimate
    return {
        "side": planned.side,
        "name": planned.cell.name,
        "python": planned.cell.python,
        "torch": planned.cell.torch,
        "vllm": planned.cell.vllm,
        "runs": planned.runs,
        "why": plan_words(planned.why),
        "because": coded(planned.why),
        "record": operand(planned.record),
        "seconds": estimate.run,
        "seconds_of": estimate.run_of,
        "environment_seconds": estimate.environment,
        "environment_seconds_of": estimate.environment_of,
        "command": shown(_rerun(planned, plan)),
    }


def _rerun(planned: PlannedCell, plan: CandidatePlan) -> Rerun:
    asked = plan.asked
    return Rerun(
        name=planned.cell.name, platform=asked.platform, cases=asked.cases, jobs=asked.jobs
    )


def _run(planned: PlannedCell) -> str:
    """Return the minutes of a run, with a tilde where they are those of another cell."""
    estimate = planned.estimate
    return _minutes(estimate.run, own=estimate.run_of == planned.cell.name)


def _environment(planned: PlannedCell) -> str:
    estimate = planned.estimate
    return _minutes(estimate.environment, own=estimate.environment_of == planned.cell.name)


def _minutes(seconds: float | None, *, own: bool) -> str:
    return "unknown" if seconds is None else f"{'' if own else '~'}{seconds / 60:.1f}"


def _why(planned: PlannedCell) -> str:
    record = f" ({planned.record})" if planned.record is not None else ""
    return clip(clean(f"{plan_words(planned.why)}{record}"), _WIDEST)


def _left_out_lines(plan: CandidatePlan) -> list[str]:
    """Return why releases do not decide; those that share a reason are one line."""
    found: dict[str, list[str]] = {}
    for item in plan.left_out:
        found.setdefault(_left_out(item), []).append(_pair(item, plan))
    rows = [
        f"{listed(pairs) if len(pairs) < 4 else f'{pairs[0]} and {len(pairs) - 1} more'}: {reason}"
        for reason, pairs in found.items()
    ]
    more = len(rows) - _MOST
    return [*rows[:_MOST], f"{more} more; --json has all of them"] if more > 0 else rows


def _pair(item: LeftOut, plan: CandidatePlan) -> str:
    project = plan.asked.project
    other = Project.VLLM if project is Project.TORCH else Project.TORCH
    return f"{release_name(other, item.other)} with the baseline {item.baseline}"


def _left_out(item: LeftOut) -> str:
    if item.code is LeftOutCode.OTHER_RELEASE:
        return f"the environment of the {item.side} has {item.found}"
    why = reason_words(item.detail) or "no reason given"
    if item.code is LeftOutCode.CANNOT_WORK:
        return f"the {item.side} cannot work there: {clip(clean(why), _WIDEST)}"
    return clip(clean(why), 2 * _WIDEST)


def _carried_lines(carried: Carried) -> list[str]:
    rows = [
        f"{name} ran once more in a fresh environment, since something failed or drifted in it"
        for name in carried.again
    ]
    rows += [
        f"{item.baseline} and {item.candidate} were not timed in turns: {_why_untimed(item)}"
        for item in carried.untimed
    ]
    rows += [f"{item.cell} could not be run: {clean(item.reason)}" for item in carried.not_run]
    return rows


def _why_untimed(item: Untimed) -> str:
    if item.side is None:
        return "a side has no record that could be compared"
    return f"no case of {listed(TIMED)} passed at the {item.side}"
