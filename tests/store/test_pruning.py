"""What a prune may take, and what is evidence."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from histories import CELLS, make
from matrix.record.writer import write
from matrix.store import ingest as summaries
from matrix.store.protected import evidence_of
from matrix.store.retention import RetentionPolicy, Stored, prunable
from matrix.store.summary import HistoryError
from matrix.verdict.precedence import RunOrder, run_order

days = st.integers(1, 9).map(lambda day: f"2026-11-0{day}T00:00:00Z")
stored_lists = st.lists(
    st.builds(
        Stored,
        key=st.just(""),
        cell=st.sampled_from("ab"),
        platform=st.sampled_from(("cpu", "cuda")),
        order=st.builds(RunOrder, today=st.just(True), started=days),
        whole=st.booleans(),
        shown=st.booleans(),
        failed=st.booleans(),
        named=st.booleans(),
        first=st.booleans(),
    ),
    max_size=12,
).map(lambda many: [replace(stored, key=str(number)) for number, stored in enumerate(many)])
policies = st.one_of(
    st.builds(RetentionPolicy, keep=st.integers(1, 4)),
    st.builds(RetentionPolicy, before=days),
    st.builds(RetentionPolicy, keep=st.integers(1, 4), before=days),
)


@given(stored_lists, policies, st.randoms())
def test_it_never_takes_what_must_stay(
    many: list[Stored], policy: RetentionPolicy, random: object
) -> None:
    gone = prunable(many, policy)
    kept = [run for run in many if run not in gone]
    for cell in {(run.cell, run.platform) for run in many}:
        of = [run for run in many if (run.cell, run.platform) == cell]
        left = [run for run in kept if (run.cell, run.platform) == cell]
        assert max(run.order for run in left) == max(run.order for run in of)
        wholes = [run.order for run in of if run.whole]
        assert max((run.order for run in left if run.whole), default=None) == max(
            wholes, default=None
        )
        if policy.keep is not None:
            assert len(left) >= min(policy.keep, len(of))
    assert not any(run.shown or run.failed or run.named or run.first for run in gone)
    if policy.before is not None:
        assert all(run.started < policy.before for run in gone)
    random.shuffle(many)  # type: ignore[attr-defined]
    assert prunable(many, policy) == gone


def test_both_conditions_must_hold() -> None:
    many = [
        Stored(
            key=str(day),
            cell="a",
            platform="cpu",
            order=run_order(f"2026-11-0{day}", None),
            whole=True,
        )
        for day in range(1, 6)
    ]
    assert [run.key for run in prunable(many, RetentionPolicy(keep=2))] == ["1", "2", "3"]
    assert [run.key for run in prunable(many, RetentionPolicy(before="2026-11-03"))] == ["1", "2"]
    assert [run.key for run in prunable(many, RetentionPolicy(keep=2, before="2026-11-02"))] == [
        "1"
    ]


@pytest.mark.parametrize("keep", [None, 0])
def test_a_policy_must_say_something(keep: int | None) -> None:
    with pytest.raises(HistoryError, match="--keep"):
        RetentionPolicy(keep=keep)


NAME = f"results/cpu/{CELLS[0]}.json"


def content(path: Path) -> str:
    return str(summaries.of_file(str(path), path.name, 0, 0)["content"])


def test_evidence_is_known_however_it_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / NAME
    write(make(), file)
    (tmp_path / "link").symlink_to(file.parent)
    (tmp_path / "link.json").symlink_to(file)
    (tmp_path / "results" / "cuda").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "results").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "results" / "cuda")
    named = evidence_of([NAME, "https://example.com/1"], ())
    for path in (
        f"../cpu/{file.name}",
        f"{tmp_path}/link/{file.name}",
        "../../link.json",
        str(file),
    ):
        assert named.has(path, "other")
    assert named.has(f"../../data/{NAME}", "other")  # what the link's own name says
    for path in (f"../cuda/{file.name}", "results/cpu", f"../../my{NAME}"):
        assert not named.has(path, "other")


def test_a_copy_of_evidence_is_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(make(), tmp_path / NAME)
    copy = tmp_path / f"{CELLS[0]}.copy.json"
    write(make(), copy)
    other = tmp_path / f"{CELLS[0]}.other.json"
    write(make(saved=7), other)
    monkeypatch.chdir(tmp_path)
    named = evidence_of([NAME, "results/cpu/none.json"])
    assert named.has(str(copy), content(copy))
    assert not named.has(str(other), content(other))
