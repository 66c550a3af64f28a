"""A record with a value in every key, records of any values, and the schema."""

import dataclasses
import json
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from matrix._util.paths import DATA
from matrix.catalog.cells import Build, Made
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.inspections import Inspections
from matrix.record.jit import Jit, JitModule
from matrix.record.model import (
    OUTCOMES,
    PLATFORMS,
    RUNGS,
    STARTS,
    By,
    CacheFiles,
    CacheKind,
    Case,
    CheckedCompile,
    Departure,
    ErrorKind,
    Event,
    EventKind,
    Outcome,
    Platform,
    Rank,
    Record,
    RunError,
    Rung,
    RungResult,
    Start,
    StartKind,
    Why,
)
from matrix.record.origin import Origin
from matrix.record.upstream import SuiteCase, UpstreamOutcome, UpstreamSuite

CELL = "py311-torch210-vllm019"


def make(**changes: Any) -> Record:
    record = Record(
        cell=CELL,
        platform=Platform.CPU,
        finished=True,
        provenance={
            "started": "2026-11-22T18:00:00Z",
            "seconds": 312.4,
            "python": "3.11.7",
            "os": "Linux",
            "machine": "x86_64",
            "cpu": {"model": "EPYC", "cores": 2},
            "memory_mib": 24000,
            "gpu": None,
            "torch": "2.10.0+cu128",
            "vllm": "0.19.1",
            "triton": "3.6.0",
            "cuda": "12.8",
            "tests": {"commit": None, "fingerprint": "sha256:00"},
            "command": ["pytest"],
            "model_source": "data",
        },
        packages={"torch": "2.10.0"},
        flags={"VLLM_USE_AOT_COMPILE": True},
        rungs=(RungResult(rung=Rung.IMPORTS, ok=True, seconds=7.1),),
        cases=(
            Case(
                case="moe_startup[mega_aot=1]",
                outcome=Outcome.PASSED,
                seconds=101.2,
                starts=(
                    Start(
                        start=StartKind.COLD,
                        seconds={"total": 61.2},
                        counters={"num_compiled_artifacts_saved": 3},
                    ),
                    Start(
                        start=StartKind.WARM,
                        seconds={"total": 20.2},
                        counters={"num_compiled_artifacts_saved": 0},
                    ),
                ),
            ),
        ),
    )
    return dataclasses.replace(record, **changes)


SCHEMA_FILE = json.loads((DATA / "record.schema.json").read_text(encoding="utf-8"))


VALIDATOR = Draft202012Validator(SCHEMA_FILE)


texts = st.text(max_size=20)


names = st.text(min_size=1, max_size=20)


numbers = st.floats(0, 1e9, allow_nan=False)


flags = st.dictionaries(
    texts, st.booleans() | st.integers() | texts | st.none() | numbers, max_size=3
)


events = st.builds(
    Event, kind=st.sampled_from(EventKind), text=texts, count=st.integers(1, 2**63 - 1)
)


counts = st.integers(0, 2**63 - 1)
cache_files = st.builds(CacheFiles, files=counts, bytes=counts, new_files=counts, new_bytes=counts)
scalars = st.booleans() | st.integers() | texts | st.none() | numbers
defaults = st.dictionaries(
    texts,
    st.dictionaries(texts, scalars | st.lists(scalars, max_size=3), max_size=3),
    max_size=3,
)
ranks = st.builds(
    Rank,
    rank=counts,
    seconds=st.dictionaries(texts, numbers, max_size=3),
    counters=st.dictionaries(texts, counts, max_size=3),
    events=st.none() | st.lists(events, max_size=2).map(tuple),
    metrics=st.none() | st.dictionaries(texts, counts, max_size=3),
)
starts = st.builds(
    Start,
    ranks=st.none()
    | st.lists(ranks, min_size=1, max_size=3, unique_by=lambda rank: rank.rank).map(tuple),
    metrics=st.none() | st.dictionaries(texts, counts, max_size=3),
    caches=st.none() | st.dictionaries(st.sampled_from(CacheKind), cache_files, max_size=3),
    start=st.sampled_from(STARTS),
    seconds=st.dictionaries(texts, numbers, max_size=3),
    counters=st.dictionaries(texts, st.integers(0, 2**63 - 1), max_size=3),
    events=st.none() | st.lists(events, max_size=3).map(tuple),
)


cases = st.builds(
    Case,
    case=names,
    outcome=st.sampled_from(OUTCOMES),
    reason=st.none() | texts,
    signature=st.none() | texts,
    seconds=numbers,
    model=st.none() | texts,
    flags=flags,
    failure=st.none() | texts,
    starts=st.lists(starts, max_size=2, unique_by=lambda start: start.start).map(tuple),
)


departures = st.builds(
    Departure,
    name=texts,
    required=texts,
    installed=st.none() | texts,
    why=st.sampled_from(Why),
    by=st.sampled_from(By),
    imports=st.lists(texts, max_size=2).map(tuple),
)


identities = st.text("0123456789abcdef", min_size=15, max_size=15).map("b{}".format)


def origins_of(project: str) -> st.SearchStrategy[Origin]:
    builds = st.builds(
        Build, name=st.sampled_from([f"{project}rc1", f"{project}9main"]), identity=identities
    )
    names = ("version", "index", "file", "sha256", "revision", "built", "content")
    return st.builds(
        Origin,
        project=st.just(project),
        candidate=st.none() | builds,
        made=st.none() | st.sampled_from(Made),
        **{name: st.none() | texts for name in names},
    )


modules = st.builds(
    JitModule,
    library=texts,
    name=texts,
    seconds=st.none() | numbers,
    built_by=st.none() | texts,
    generator=st.none() | texts,
    arguments=flags,
)
jits = st.builds(
    Jit,
    seconds=numbers,
    reason=st.none() | texts,
    modules=st.lists(modules, max_size=2).map(tuple),
)
upstream_cases = st.builds(
    SuiteCase,
    case=names,
    outcome=st.sampled_from(UpstreamOutcome),
    reason=st.none() | texts,
    signature=st.none() | texts,
    seconds=numbers,
    failure=st.none() | texts,
)
suites = st.builds(
    UpstreamSuite,
    sdist=st.none() | texts,
    sha256=st.none() | texts,
    files=st.dictionaries(texts, texts, max_size=2),
    stand_ins=st.lists(texts, max_size=2).map(tuple),
    cases=st.lists(upstream_cases, max_size=3, unique_by=lambda case: case.case).map(tuple),
)
some_records = st.builds(
    Record,
    upstream=st.none() | suites,
    jit=st.none() | jits,
    cpp_compiler=st.none() | st.builds(CppCompiler, seconds=numbers, reason=st.none() | texts),
    inspections=st.none() | st.builds(Inspections, seconds=numbers, reason=st.none() | texts),
    defaults=st.none() | defaults,
    cache_check=st.none()
    | st.fixed_dictionaries(
        {name: st.dictionaries(texts, counts, max_size=3) for name in CheckedCompile}
    ),
    cell=st.sampled_from([CELL, "py310-torch29-vllm016", "py312-torch216rc1-vllmmain"]),
    platform=st.sampled_from(PLATFORMS),
    finished=st.booleans(),
    provenance=st.just(make().provenance),
    error=st.none() | st.builds(RunError, kind=st.sampled_from(ErrorKind), reason=texts),
    packages=st.dictionaries(texts, texts, max_size=3),
    departures=st.none() | st.lists(departures, max_size=2).map(tuple),
    origins=st.none() | st.tuples(origins_of("torch"), origins_of("vllm")) | st.just(()),
    flags=flags,
    rungs=st.lists(
        st.builds(
            RungResult,
            rung=st.sampled_from(RUNGS),
            ok=st.booleans(),
            seconds=numbers,
            reason=st.none() | texts,
        ),
        max_size=3,
    ).map(tuple),
    cases=st.lists(cases, max_size=3, unique_by=lambda case: case.case).map(tuple),
    full_suite=st.none() | st.lists(cases, max_size=2, unique_by=lambda case: case.case).map(tuple),
    selected=st.none() | st.integers(0, 99),
    deselected=st.integers(0, 99),
)
