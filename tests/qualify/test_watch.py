"""What becomes of findings from build to build, and the files that hold it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.errors import MatrixError
from matrix.qualify import state_files
from matrix.qualify.model import QualificationVerdict
from matrix.qualify.state_files import (
    MadeRound,
    MadeRun,
    StateFileError,
    add_round,
    add_run,
    environment_seconds,
    history_path,
    read_history,
    read_rounds,
    read_runs,
    write_history,
)
from matrix.qualify.watch import (
    BuildFindings,
    CasePlace,
    FindingKey,
    FindingKind,
    QualifiedBuild,
    Status,
    WatchHistory,
    counts,
    follow,
    with_build,
)
from matrix.record.model import Platform

PLACE = CasePlace("py312-torchnightly-vllm033", Platform.CPU, "moe")
OTHER = PLACE._replace(case="small")
KEY = FindingKey(PLACE, FindingKind.FAILURE, "KeyError: x")
DRIFT = FindingKey(OTHER, FindingKind.DRIFT, "warm num_graphs_seen")
EMPTY = WatchHistory(candidate="torchnightly")
SHOWS, SILENT, DID_NOT_RUN = "shows", "silent", "did not run"


def seen(build: str, what: str) -> BuildFindings:
    if what == SHOWS:
        return BuildFindings(build=build, findings=frozenset({KEY}))
    return BuildFindings(build=build, clean=frozenset({PLACE} if what == SILENT else ()))


def statuses(*what: str) -> list[Status | None]:
    history, found = EMPTY, []
    for number, how in enumerate(what):
        history, _ = follow(history, seen(f"b{number}", how))
        found.append(next((item.status for item in history.findings), None))
    return found


def test_the_life_of_a_finding() -> None:
    assert statuses(SILENT, SHOWS, SHOWS, SILENT, DID_NOT_RUN, SHOWS) == [
        None,
        Status.NEW,
        Status.STILL_THERE,
        Status.SILENT_ONCE,
        Status.SILENT_ONCE,
        Status.STILL_THERE,
    ]
    assert statuses(SHOWS, SILENT, SILENT, SILENT, SHOWS, SHOWS) == [
        Status.NEW,
        Status.SILENT_ONCE,
        Status.CLOSED,
        Status.CLOSED,
        Status.REOPENED,
        Status.STILL_THERE,
    ]


def test_two_runs_of_one_build_are_one() -> None:
    history, _ = follow(EMPTY, seen("b1", SHOWS))
    again, (change,) = follow(history, seen("b1", SHOWS))
    assert again == history and change.now.status is Status.NEW
    silent, _ = follow(history, seen("b2", SILENT))
    same, (change,) = follow(silent, seen("b2", SILENT))
    assert same == silent and (change.before, change.asked) == (Status.SILENT_ONCE, True)
    back, (change,) = follow(silent, seen("b2", SHOWS))
    assert change.now.status is Status.STILL_THERE
    # The build that shows it is not silent of it, whatever its other run says.
    assert follow(back, seen("b2", SILENT))[0] == back


def test_the_changes_are_of_what_is_open_or_was_closed_now() -> None:
    history = EMPTY
    for build, how in (("b1", SHOWS), ("b2", SILENT)):
        history, _ = follow(history, seen(build, how))
    history, (closed,) = follow(history, seen("b3", SILENT))
    assert (closed.before, closed.now.status) == (Status.SILENT_ONCE, Status.CLOSED)
    assert follow(history, seen("b4", SILENT))[1] == ()
    history, (change,) = follow(history, seen("b5", SHOWS))
    assert (change.now.status, change.now.first, change.now.last) == (Status.REOPENED, "b1", "b5")
    _, (change,) = follow(history, seen("b6", DID_NOT_RUN))
    assert not change.asked and counts([change])[Status.REOPENED] == 0


LIVES = st.lists(st.sampled_from([SHOWS, SILENT, DID_NOT_RUN]), max_size=12)


@given(LIVES)
def test_closed_only_after_two_silent_builds_in_a_row_that_ran_the_case(life: list[str]) -> None:
    found = statuses(*life)
    for place, status in enumerate(found):
        told = [how for how in life[: place + 1] if how != DID_NOT_RUN]
        if SHOWS not in told:
            assert status is None
            continue
        since = told[::-1].index(SHOWS)
        assert (status is Status.CLOSED) is (since >= 2)
        assert (status is Status.SILENT_ONCE) is (since == 1)
        if since == 0 and life[place] == SHOWS:
            before = found[place - 1] if place else None
            assert (status is Status.REOPENED) is (before is Status.CLOSED)
            assert (status is Status.NEW) is (before is None)


@given(LIVES)
def test_a_build_that_did_not_run_changes_nothing(life: list[str]) -> None:
    ran = [how for how in life if how != DID_NOT_RUN]
    assert statuses(*life)[-1:] == (statuses(*ran)[-1:] or [None] * bool(life))


KEYS = st.builds(
    FindingKey,
    st.builds(
        CasePlace, st.sampled_from("xyz"), st.sampled_from(["cpu", "cuda"]), st.sampled_from("ab")
    ),
    st.sampled_from(FindingKind),
    st.sampled_from(["KeyError: 'ä\n'", "cold n"]),
)
BUILDS = st.lists(
    st.tuples(st.lists(KEYS, max_size=5), st.sets(KEYS.map(lambda key: key.place), max_size=5)),
    max_size=5,
)


def lived(builds: list[tuple[list[FindingKey], set[CasePlace]]]) -> WatchHistory:
    history = EMPTY
    for number, (findings, clean) in enumerate(builds):
        found = BuildFindings(
            build=f"b{number}", findings=frozenset(findings), clean=frozenset(clean)
        )
        history, changes = follow(history, found)
        assert {change.now.key for change in changes} >= set(findings)
    return history


@given(BUILDS)
def test_the_order_of_findings_does_not_matter(
    builds: list[tuple[list[FindingKey], set[CasePlace]]],
) -> None:
    turned = [(findings[::-1], clean) for findings, clean in builds]
    assert lived(builds) == lived(turned)


@given(BUILDS)
def test_each_finding_goes_its_own_way(
    builds: list[tuple[list[FindingKey], set[CasePlace]]],
) -> None:
    whole = {finding.key: finding for finding in lived(builds).findings}
    for key, finding in whole.items():
        alone = lived([([own for own in found if own == key], clean) for found, clean in builds])
        assert alone.findings == (finding,)


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    history, _ = follow(EMPTY, BuildFindings(build="b1", findings=frozenset({KEY, DRIFT})))
    build = QualifiedBuild(
        identity="b1",
        version="2.17.0.dev1",
        day="2026-11-27",
        verdict=QualificationVerdict.NOT_ENOUGH,
    )
    history = with_build(history, build)
    path = write_history(tmp_path / "state", history)
    assert read_history(tmp_path / "state", "torchnightly") == history
    assert path.name == "torchnightly.json" and [*path.parent.iterdir()] == [path]
    assert read_history(tmp_path, "torchnightly") == EMPTY
    again = with_build(
        history,
        QualifiedBuild(identity="b1", version="2", day="d", verdict=QualificationVerdict.QUALIFIED),
    )
    assert [build.verdict for build in again.builds] == [QualificationVerdict.QUALIFIED]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema: is 2, and this version reads 1"),
        ({"candidate": "torchmine"}, "candidate: is torchmine, not torchnightly"),
        ({"extra": 1}, "has an unknown key 'extra'"),
        ({"findings": {}}, "findings: is {}, but must be a list"),
        ({"findings": [{}]}, r"findings[0]: has no key 'cell'"),
        ({"builds": [{"identity": "b", "version": "1", "day": "d", "verdict": "good"}]}, "verdict"),
    ],
)
def test_a_damaged_history_is_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    path = write_history(tmp_path, EMPTY)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StateFileError) as refused:
        read_history(tmp_path, "torchnightly")
    assert str(refused.value).startswith(str(path)) and words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "null", "[1", "[" * 100_000, "[]"])
def test_what_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    history_path(tmp_path, "torchnightly").write_text(text)
    for name in ("runs.json", "rounds.json"):
        (tmp_path / name).write_text(text)
    for read in (
        lambda: read_history(tmp_path, "torchnightly"),
        lambda: read_runs(tmp_path),
        lambda: read_rounds(tmp_path),
    ):
        with pytest.raises(StateFileError, match="move"):
            read()


def test_a_finding_twice_is_refused(tmp_path: Path) -> None:
    history, _ = follow(EMPTY, BuildFindings(build="b1", findings=frozenset({KEY})))
    path = write_history(tmp_path, history)
    data = json.loads(path.read_text())
    data["findings"] *= 2
    path.write_text(json.dumps(data))
    with pytest.raises(StateFileError, match="has 'KeyError: x' of 'moe' twice"):
        read_history(tmp_path, "torchnightly")


def test_a_name_of_a_release_has_no_history(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match="is not a name"):
        read_history(tmp_path, "../torch")


def test_runs_are_noted_with_the_seconds_of_their_environments(tmp_path: Path) -> None:
    first = MadeRun(cell="a", versions="3.12 2.15.0 0.33.0", record="a.json", fresh=False)
    again = MadeRun(
        cell="a",
        versions="3.12 2.15.0 0.33.0",
        record="b.json",
        fresh=True,
        environment_seconds=9.5,
    )
    for run in (first, again, first):
        add_run(tmp_path, run)
    assert read_runs(tmp_path) == (first, again, first)
    assert environment_seconds(read_runs(tmp_path)) == {"3.12 2.15.0 0.33.0": 9.5}
    data = json.loads((tmp_path / "runs.json").read_text())
    data["runs"][0]["environment_seconds"] = -1
    (tmp_path / "runs.json").write_text(json.dumps(data))
    with pytest.raises(StateFileError, match=r"runs\[0\]\.environment_seconds"):
        add_run(tmp_path, first)


def test_two_commands_at_once_lose_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first one waits for the files, the second one notes its own."""
    made = [MadeRun(cell="a", versions="v", record=f"{name}.json", fresh=True) for name in "xy"]
    state, first = tmp_path / "state", [made[0]]

    @contextlib.contextmanager
    def late(_: Path) -> Iterator[None]:
        while first:
            add_run(state, first.pop())
        yield

    monkeypatch.setattr(state_files, "alone", late)
    add_run(state, made[1])
    assert read_runs(state) == tuple(made)


def test_rounds_are_noted_by_the_names_of_their_records(tmp_path: Path) -> None:
    made = MadeRound(platform=Platform.CPU, baseline="a.json", candidate="b.json")
    assert read_rounds(tmp_path) == ()
    add_round(tmp_path, made)
    add_round(tmp_path, made)
    assert read_rounds(tmp_path) == (made, made)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"baseline": "../a.json"}, "rounds[0].baseline: is '../a.json', not the name of a record"),
        ({"candidate": ".."}, "rounds[0].candidate: is '..', not the name"),
        ({"candidate": ""}, "rounds[0].candidate"),
        ({"candidate": 1}, "rounds[0].candidate"),
        ({"platform": "tpu"}, "rounds[0].platform"),
        ({"more": 1}, "has an unknown key 'more'"),
    ],
)
def test_a_damaged_round_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    row = {"platform": "cpu", "baseline": "a.json", "candidate": "b.json", **change}
    path = tmp_path / "rounds.json"
    path.write_text(json.dumps({"schema": 1, "rounds": [row]}))
    with pytest.raises(StateFileError) as refused:
        read_rounds(tmp_path)
    assert words in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(StateFileError):
        add_round(tmp_path, MadeRound(platform=Platform.CPU, baseline="a", candidate="b"))
    assert json.loads(path.read_text())["rounds"] == [row]
