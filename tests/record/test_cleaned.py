"""No text of a record names a secret, a folder or a user, wherever it stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from histories import make
from matrix.record.cleaned import clean_record
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.inspections import Inspections
from matrix.record.jit import Jit
from matrix.record.model import (
    By,
    Case,
    Departure,
    ErrorKind,
    Event,
    EventKind,
    Outcome,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
    Why,
)
from matrix.record.origin import Origin
from matrix.record.upstream import SuiteCase, UpstreamOutcome, UpstreamSuite
from matrix.record.writer import to_json

HUB = "hf_abcdefghijklmnopqrstuvwx"
TEXT = f"https://me:p4ssw0rd@host.example/simple with {HUB} in /home/ann/models"
CASE = Case(
    case="small_startup[dense]",
    outcome=Outcome.FAILED,
    reason=TEXT,
    signature=TEXT,
    failure=TEXT,
    starts=(
        Start(start=StartKind.COLD, events=(Event(kind=EventKind.CACHE_BYPASSED, text=TEXT),)),
    ),
)
PLACES: Mapping[str, Mapping[str, Any]] = {
    "error": {"error": RunError(kind=ErrorKind.IMPORTS, reason=TEXT)},
    "rungs": {"rungs": (RungResult(rung=Rung.IMPORTS, ok=False, reason=TEXT),)},
    "cases": {"cases": (CASE,)},
    "upstream": {
        "upstream": UpstreamSuite(
            cases=(
                SuiteCase(
                    case="tests/test_a.py::test_a",
                    outcome=UpstreamOutcome.FAILED,
                    reason=TEXT,
                    signature=TEXT,
                    failure=TEXT,
                ),
            )
        )
    },
    "jit": {"jit": Jit(seconds=1.0, reason=TEXT)},
    "cpp_compiler": {"cpp_compiler": CppCompiler(seconds=1.0, reason=TEXT)},
    "inspections": {"inspections": Inspections(seconds=1.0, reason=TEXT)},
    "origins": {"origins": (Origin(project="torch", index=TEXT, file=TEXT),)},
    "defaults": {"defaults": {"torch._inductor.config": {"a": TEXT, "b": ["x", TEXT], "c": 1}}},
    "departures": {
        "departures": (
            Departure(name="vllm", required=TEXT, installed="1", why=Why.UNREADABLE, by=By.UNKNOWN),
        )
    },
}


@pytest.mark.parametrize("place", PLACES)
def test_no_place_of_a_record_keeps_what_is_secret_or_of_a_machine(place: str) -> None:
    record = replace(make(), **PLACES[place])
    text = to_json(clean_record(record, Path("/repo")))
    assert HUB in to_json(record)
    for secret in (HUB, "p4ssw0rd", "/home/ann"):
        assert secret not in text
    assert clean_record(record, Path("/repo")) == clean_record(
        clean_record(record, Path("/repo")), Path("/repo")
    )


def test_a_default_without_a_secret_stays() -> None:
    record = replace(make(), **PLACES["defaults"])
    content = json.loads(to_json(clean_record(record, Path("/repo"))))
    assert content["defaults"] == {"torch._inductor.config": {"c": 1}}
