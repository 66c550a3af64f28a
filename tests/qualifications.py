"""Qualifications of made-up runs, through the front door and in all three forms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from typing import Any

from jsonschema import Draft202012Validator

from made import NO_RULES, RELEASES, Told, failed, make, passed
from matrix._util.paths import DATA
from matrix.catalog.projects import Project
from matrix.qualify.engine import qualify
from matrix.qualify.model import Failure, Match, Qualification
from matrix.qualify.query import Context, Query, Skipped
from matrix.qualify.static_checks import StaticAnswers
from matrix.record.model import PLATFORMS, Case, Outcome, Platform
from matrix.report.qualify.json import render
from matrix.report.qualify.markdown import page
from matrix.report.qualify.sentences import (
    caveat_sentence,
    no_times_sentence,
    unknown_sentence,
    variant_phrase,
)
from matrix.report.qualify.text import lines
from matrix.rules.expectations import Expectations
from matrix.rules.waivers import Waivers, parse_waivers
from schemas import SCHEMAS, validator

SCHEMA = json.loads((DATA / "qualify.schema.json").read_text("utf-8"))
CANDIDATE_SCHEMA = SCHEMAS["qualify_candidate.schema.json"]
OF_A_CANDIDATE = validator("qualify_candidate")
"""The form of `matrix qualify CANDIDATE --json`, which holds two others."""
TODAY = date(2026, 11, 23)
OLD, NEXT = "2.11.0", "2.12.1"
LATE = "2026-11-24T18:00:00Z"
OTHER_TESTS = {"tests": {"fingerprint": "sha256:0"}}


def ask(
    project: str = "torch",
    candidate: str = NEXT,
    baseline: str = OLD,
    platforms: tuple[Platform, ...] = PLATFORMS,
    pythons: tuple[str, ...] = (),
    **more: Any,
) -> Query:
    return Query(
        project=Project(project),
        candidate=candidate,
        baseline=baseline,
        platforms=platforms,
        pythons=pythons,
        **more,
    )


def context(
    rules: Expectations = NO_RULES,
    waivers: str = "",
    today: date = TODAY,
    late: str | None = None,
) -> Context:
    return Context(
        expectations=rules,
        releases=RELEASES,
        waivers=parse_waivers(waivers, "w.toml") if waivers else Waivers(),
        today=today,
        late=late,
    )


def judged(
    records: Iterable[Told],
    query: Query | None = None,
    *,
    rules: Expectations = NO_RULES,
    late: str | None = None,
    answers: StaticAnswers | None = None,
    skipped: Skipped | None = None,
) -> Qualification:
    """Qualify, and nothing else: for laws, which do it often."""
    rest = context(rules, late=late)
    return qualify(query or ask(), records, rest, answers=answers, skipped=skipped)


def held(
    *records: Told,
    query: Query | None = None,
    rules: Expectations = NO_RULES,
    waivers: str = "",
    today: date = TODAY,
    late: str | None = None,
    unread: int = 0,
    answers: StaticAnswers | None = None,
    **narrowed: Any,
) -> Qualification:
    """Qualify, and render all forms: the JSON is by its schema, and all name the verdict."""
    found = qualify(
        replace(query or ask(), **narrowed),
        records,
        context(rules, waivers, today, late),
        answers=answers,
        unread=unread,
    )
    Draft202012Validator(SCHEMA).validate(json.loads(render(found)))
    for text in (lines(found), page(found)):
        assert found.verdict in text
    return found


def kinds(found: Qualification) -> list[str]:
    failures = [failure.kind.value for failure in found.failures]
    return failures + [drift.kind.value for drift in found.drifts]


def reasons(found: Qualification) -> list[str]:
    """Return why something has no answer, in words."""
    return [unknown_sentence(unknown) for unknown in found.unknown]


def notes(found: Qualification | Match) -> tuple[str, ...]:
    """Return the caveats in words."""
    return tuple(caveat_sentence(caveat) for caveat in found.caveats)


def variant_of(found: Failure) -> str | None:
    return None if found.variant is None else variant_phrase(found.variant)


def no_times(found: Qualification) -> str | None:
    """Return why the seconds of the first two runs are not comparable, in words."""
    reason = found.matches[0].no_times
    return None if reason is None else no_times_sentence(reason)


def waiver(what: str, until: str = "2026-12-31", name: str = "known") -> str:
    return (
        f"[[waiver]]\nid = '{name}'\nwhy = 'it is known'\nuntil = {until}\n"
        f"link = 'https://github.com/pytorch/pytorch/issues/1'\n{what}\n"
    )


def on_cuda(torch: str, *cases: Case, **more: Any) -> Told:
    return make(torch, *(cases or (passed(), passed("b"))), platform="cuda", **more)


# What two releases of some cells did, by how their cases ended.

Place = tuple[str, str, str]
"""Platform, vLLM, Python."""
Side = dict[Place, dict[str, str]]


def case_of(how: str, name: str) -> Case:
    match how:
        case "passed":
            return passed(name)
        case "drifted":
            return passed(name, num_graphs_seen=0)
        case "drifted otherwise":
            return passed(name, num_graphs_seen=2)
        case "failed":
            return failed(name)
        case "failed otherwise":
            return failed(name, "KeyError: y")
        case "not applicable":
            return Case(case=name, outcome=Outcome.NOT_APPLICABLE, reason="no GPU")
    assert how == "interrupted"
    return Case(case=name, outcome=Outcome.INTERRUPTED)


OUTCOMES = (
    "drifted",
    "drifted otherwise",
    "failed",
    "failed otherwise",
    "interrupted",
    "not applicable",
    "passed",
)


def side(torch: str, runs: Side) -> Iterator[Told]:
    for (platform, vllm, python), cases in runs.items():
        yield make(
            torch,
            *(case_of(how, name) for name, how in sorted(cases.items())),
            platform=platform,
            vllm=vllm,
            python=python,
        )
