"""`matrix qualify CANDIDATE`, with made-up records in place of what tox would run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nightlies
from candidate_runs import RC, run_of
from candidates import commit_candidate, torch_candidate, vllm_candidate
from command import matrix
from fake_wheels import write_wheel
from known_releases import known_releases
from made import failed, passed
from matrix.catalog import releases_file
from matrix.catalog.candidates.collection import Candidates
from matrix.catalog.candidates.file import load_candidates, write_candidates
from matrix.catalog.candidates.model import Candidate
from matrix.catalog.cells import Cell
from matrix.commands import context, qualify_candidate
from matrix.qualify.state_files import MadeRound, add_round, read_history
from matrix.qualify.turns import TIMED
from matrix.record.model import Case, Platform
from matrix.record.reader import NOTHING_THERE
from matrix.record.writer import write
from matrix.run.candidates import evidence
from matrix.run.candidates.options import NotRunError, RunOptions
from qualifications import CANDIDATE_SCHEMA, OF_A_CANDIDATE, TODAY

if TYPE_CHECKING:
    from local_index import Served

LINUX = "manylinux_2_17_x86_64"
OLD = Cell("3.12", "2.15.0", "0.33.0")
NEW = Cell("3.12", RC.key, "0.33.0")
SMALL = "small_startup[dense]"
GOOD = (passed(SMALL), passed("moe"))
FAILS = (passed(SMALL), failed("moe"))
Command = Callable[..., "subprocess.CompletedProcess[str]"]


class Runs:
    """What runs in place of tox: leaves a record of these cases, by the factor of the candidate."""

    def __init__(self, root: Path) -> None:
        self.root, self.ran = root, 0
        self.cases: tuple[Case, ...] | BaseException = GOOD

    def has_environment(self, name: str) -> bool:
        return True

    def add_round(self, platform: Platform, baseline: Path, candidate: Path) -> None:
        made = MadeRound(platform=platform, baseline=baseline.name, candidate=candidate.name)
        add_round(self.root / "qualifications", made)

    def __call__(self, name: str, options: RunOptions) -> Path:
        self.ran += 1
        cases = GOOD if options.cell.torch == OLD.torch else self.cases
        if isinstance(cases, BaseException):
            raise cases
        if options.cases == TIMED:
            cases = tuple(case for case in cases if case.case == SMALL)
        more = {"deselected": 1} if options.cases == TIMED else {}
        path, record = run_of(options.cell, *cases, day=22, number=self.ran, **more)
        write(record, self.root / "records/cpu" / path.name)
        return path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    runs = Runs(tmp_path)
    monkeypatch.setattr(qualify_candidate, "ToxRuns", lambda **_: runs)
    for module in (releases_file, qualify_candidate):
        every = module.load_releases
        monkeypatch.setattr(module, "load_releases", lambda every=every: known_releases(every()))
    monkeypatch.setattr(context, "today", lambda: TODAY)
    return runs


@pytest.fixture
def run(tmp_path: Path, runs: Runs) -> Command:
    (tmp_path / "rules.toml").write_text("")
    (tmp_path / "results").mkdir()

    def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        environ = {
            "MATRIX_CANDIDATES": str(tmp_path / "candidates.toml"),
            "CUDA_VISIBLE_DEVICES": "",
            **environ,
        }
        given = ["qualify", *arguments, "--expectations", "rules.toml"]
        ended = matrix(tmp_path, *given, **environ)
        if "--json" in arguments and ended.stdout.startswith("{"):
            OF_A_CANDIDATE.validate(json.loads(ended.stdout))
        return ended

    return command


def written(folder: Path, *every: Candidate) -> None:
    found = Candidates()
    for candidate in every:
        found = found.including(candidate)
    write_candidates(found, folder / "candidates.toml")


@pytest.fixture(autouse=True)
def known(tmp_path: Path) -> None:
    written(tmp_path, RC, vllm_candidate(), commit_candidate())


def test_a_dry_run_says_what_why_and_how_long(tmp_path: Path, run: Command, runs: Runs) -> None:
    path, record = run_of(OLD, *GOOD, provenance={"seconds": 426.0})
    write(record, tmp_path / path)
    ended = run("torch216rc1", "--dry-run", "--platform", "cpu")
    assert (ended.returncode, ended.stderr, runs.ran) == (0, "", 0)
    text = ended.stdout.splitlines()
    assert text[0] == (
        f"torch216rc1 (torch 2.16.0, build {RC.identity}) against 2.15.0 on cpu, Python 3.12"
    )
    rows = [line.split() for line in text]
    assert rows[2][:5] == ["baseline", "py312-torch215-vllm033", "7.1", "unknown", "ran"]
    assert rows[3][:6] == ["candidate", NEW.name, "~7.1", "unknown", "never", "ran"]
    assert text[4] == (
        "2 cells, 1 to run: about 7 min, and the making of environments that nobody timed yet"
    )
    assert text[-1] == f"  tox -e {NEW.name} -- --platform cpu"
    assert not (tmp_path / "qualifications").exists()


def test_a_folder_that_is_not_there_is_no_answer(run: Command, runs: Runs) -> None:
    for arguments in (["--dry-run"], []):
        ended = run("torch216rc1", "nofolder", *arguments, "--platform", "cpu")
        assert (ended.returncode, ended.stdout, runs.ran) == (2, "", 0)
        assert ended.stderr == f"matrix: nofolder: {NOTHING_THERE}\n"


def test_a_dry_run_as_json_and_as_markdown(run: Command) -> None:
    found = json.loads(run("torch216rc1", "--dry-run", "--quick", "--jobs", "2", "--json").stdout)[
        "plan"
    ]
    assert (found["baseline"], found["cases"]) == ("2.15.0", ["small_startup"])
    assert found["cells"][1]["command"].endswith("--platform cpu --jobs 2 -k small_startup")
    assert found["cells"][1]["seconds"] is None
    text = run("vllmmain", "--dry-run", "--markdown", "--python", "3.12").stdout
    assert text.startswith("## vllmmain ") and "tox -e py312-torch215-vllmmain" in text


def test_the_verdict_is_the_exit_status(run: Command, runs: Runs) -> None:
    ended = run("torch216rc1")
    assert (ended.returncode, runs.ran) == (0, 2)
    assert ended.stdout.startswith(f"torch216rc1 (torch 2.16.0, build {RC.identity}) against 2.15")
    assert ": qualified\n" in ended.stdout
    assert "matrix qualify torch216rc1 --baseline 2.15.0 --platform cpu" in ended.stdout
    assert run("torch216rc1").returncode == 0 and runs.ran == 2
    repeat = run("torch216rc1", "--under", ">=0.33", "--count", "1").stdout
    assert "--python 3.12 --under '>=0.33' --count 1 --expectations rules.toml" in repeat


def test_timings_take_turns_after_the_verdict(tmp_path: Path, run: Command, runs: Runs) -> None:
    runs.cases = (passed(SMALL, cold=75), passed("moe"))
    plan = run("torch216rc1", "--quick", "--timings", "2", "--dry-run").stdout
    assert "timings of small_startup in turns: 2 rounds to run, for unknown minutes more" in plan
    ended = run("torch216rc1", "--quick", "--timings", "2")
    assert (ended.returncode, runs.ran) == (0, 6)
    assert "cold, geometric mean of 1 case in 2 rounds: 60.0 s (60.0 to 60.0) -> 75.0 s" in (
        ended.stdout
    )
    assert "--timings 2 --expectations rules.toml --quick" in ended.stdout
    # The rounds are in the state folder: to ask again runs nothing, and tells the same.
    found = json.loads(run("torch216rc1", "--quick", "--timings", "2", "--json").stdout)
    speed = found["qualification"]["cells"][0]["unjudged"]["speeds"][0]
    assert (speed["ratios"], speed["ratio"], speed["slowdown"]) == ([1.25, 1.25], 1.25, True)
    assert found["plan"]["rounds"][0]["done"] == 2 and found["untimed"] == []
    assert runs.ran == 6
    # A record that is gone leaves its round undone; one that is damaged is named, too.
    every = sorted((tmp_path / "records/cpu").glob(f"{NEW.name}.*"))
    every[-1].unlink()
    every[-2].write_text("{")
    left = run("torch216rc1", "--quick", "--timings", "2", "--dry-run")
    assert "in turns: 2 rounds to run" in left.stdout and every[-2].name in left.stderr


def test_what_fails_twice_is_attributed(run: Command, runs: Runs) -> None:
    runs.cases = FAILS
    ended = run("torch216rc1")
    assert (ended.returncode, runs.ran) == (1, 3)
    assert "Regressions: passed at the baseline" in ended.stdout
    assert f"{NEW.name} ran once more in a fresh environment" in ended.stdout
    assert "Who changed" in ended.stdout
    assert "\n  torch\n" in ended.stdout


def test_another_candidate_with_the_same_failure_changes_no_answer(
    tmp_path: Path, run: Command, runs: Runs
) -> None:
    """Its failure came, went and came again along the builds, and came since the baseline."""
    for number, cases in ((1, FAILS), (2, GOOD)):
        name, version = f"torch216rc{number + 1}", f"2.16.0rc{number + 1}"
        other = torch_candidate(name, version, sha256=f"{number}" * 64)
        path, record = run_of(Cell("3.12", other.key, "0.33.0"), *cases, day=21, number=number)
        write(record, tmp_path / "results/cpu" / path.name)
    runs.cases = FAILS
    ended = run("torch216rc1")
    assert "\n  torch\n" in ended.stdout and "comes and goes" not in ended.stdout


def test_all_of_it_as_json_and_for_an_issue(run: Command, runs: Runs) -> None:
    runs.cases = FAILS
    found = json.loads(run("torch216rc1", "--json").stdout)
    assert (found["verdict"], found["exit_status"], found["again"]) == (
        "not qualified",
        1,
        [NEW.name],
    )
    assert found["attributions"][0]["answer"] == "torch" and found["watch"] is None
    assert found.keys() == CANDIDATE_SCHEMA["properties"].keys() - {"nothing_new"}
    changes: list[dict[str, object]] = [
        {"more": 1},
        {"verdict": "fine"},
        {"again": ["py312"]},
        {"watch": {}},
    ]
    for change in changes:
        assert not OF_A_CANDIDATE.is_valid({**found, **change})
    for key in found:
        assert not OF_A_CANDIDATE.is_valid({name: found[name] for name in found.keys() - {key}})
    for part in ("qualification", "attributions"):
        broken = json.loads(json.dumps(found))
        (broken[part] if part == "qualification" else broken[part][0])["more"] = 1
        assert not OF_A_CANDIDATE.is_valid(broken)
    text = run("torch216rc1", "--markdown").stdout
    assert text.startswith("## ❌ torch216rc1 (torch 2.16.0") and "## Who changed" in text


def test_what_cannot_be_run_is_named(run: Command, runs: Runs) -> None:
    runs.cases = NotRunError("left no record; tox ended with 1")
    ended = run("torch216rc1")
    assert ended.returncode == 3
    assert f"{NEW.name} could not be run: left no record; tox ended with 1" in ended.stdout


def test_an_interrupt_says_where_the_records_are(run: Command, runs: Runs) -> None:
    runs.cases = KeyboardInterrupt()
    ended = run("torch216rc1")
    assert (ended.returncode, ended.stdout) == (130, "")
    assert "interrupted; what ran is in records, and the same command goes on" in ended.stderr
    runs.cases = GOOD
    assert (run("torch216rc1").returncode, runs.ran) == (0, 3)


def test_where_nothing_can_decide_it_says_why(run: Command, runs: Runs) -> None:
    ended = run("torch216rc1", "--platform", "cuda", "--under", "0.20")
    assert (ended.returncode, runs.ran) == (3, 0)
    assert "no cell can decide, so nothing runs" in ended.stdout
    assert "the baseline cannot work there: `_C.abi3.so` needs " in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["torch999"], "candidate 'torch999'"),
        (["torchgone"], "candidate 'torchgone': is not known; the known ones are"),
        (["torch216rc1", "--baseline", "old"], "--baseline 'old': is not a release"),
        (["torch216rc1", "--baseline", "2.99"], "--baseline 2.99: is not a release of torch"),
        (["torch216rc1", "--python", "3.14"], "--python 3.14: torch216rc1 is not for it; it is"),
        (["torch216rc1", "--python", "3.11", "--python", "3.12"], "--python: a candidate is"),
        (["torch216rc1", "--under", "torch216rc1"], "--under torch216rc1: is of the same project"),
        (["torch216rc1", "--under", "vllmgone"], "candidate 'vllmgone': is not known"),
        (["torch216rc1", "--under", "x y"], "--under 'x y': is neither"),
        (["torch216rc1", "--platform", "all"], "--platform all: a candidate is qualified on one"),
        (["vllmfix", "--platform", "cuda"], "vllmfix: was added for the platform cpu; qualify it"),
        (["torch216rc1", "--under", ""], "--under '': is empty; write it as 2.11 or '>=2.11'"),
        (["vllmfix", "--watch"], "candidate 'vllmfix': is from a commit, which does not change"),
    ],
)
def test_a_bad_question_is_one_line(
    run: Command, runs: Runs, arguments: list[str], words: str
) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout, runs.ran) == (2, "", 0)
    assert ended.stderr.startswith(f"matrix: {words}") and ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a candidate, or a release by --torch or --vllm"),
        (["--torch", "2.12.1"], "the following arguments are required: --baseline"),
        (["--torch", "2.12.1", "--baseline", "2.11", "--quick"], "--quick: goes with a candidate"),
        (["--vllm", "0.20", "--baseline", "0.19", "--watch"], "--watch: goes with a candidate"),
        (["--vllm", "0.20", "--baseline", "0.19", "--timings", "3"], "--timings: goes with a"),
        (["torch216rc1", "--timings", "1"], "'1' is not a number of rounds from 2 to 64"),
        (["torch216rc1", "--timings", "many"], "'many' is not a number of rounds from 2 to 64"),
        (["torch216rc1", "--timings"], "--timings: expected one argument"),
    ],
)
def test_a_release_and_a_candidate_have_their_own_options(
    run: Command, arguments: list[str], words: str
) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2 and words in ended.stderr


def test_a_damaged_state_stops_it_before_anything_runs(
    tmp_path: Path, run: Command, runs: Runs
) -> None:
    (tmp_path / "qualifications").mkdir()
    (tmp_path / "qualifications/torch216rc1.json").write_text("{")
    ended = run("torch216rc1")
    assert (ended.returncode, runs.ran) == (2, 0)
    assert ended.stderr.startswith("matrix: qualifications/torch216rc1.json: is not JSON; move it")


# Watching a channel.


def publish(served: Served, day: int) -> None:
    version = f"2.16.0.dev202611{day:02}"
    head = f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\nRequires-Python: >=3.10\n"
    content = served.wheel({f"torch-{version}.dist-info/METADATA": head})
    served.add("torch", f"torch-{version}-cp312-cp312-{LINUX}.whl", content, pep658=head)


@pytest.fixture
def nightly(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    # The grid of all releases takes seconds, and tells only which other runs could work.
    monkeypatch.setattr(evidence, "grid_of", lambda *_: None)
    publish(served, 20)
    ended = matrix(
        tmp_path,
        *("candidate", "add", "torchnightly", "--index", served.url),
        MATRIX_CANDIDATES=str(tmp_path / "candidates.toml"),
    )
    assert ended.returncode == 0, ended.stderr
    return served


def test_a_watch_follows_findings_from_build_to_build(
    tmp_path: Path, run: Command, runs: Runs, nightly: Served
) -> None:
    runs.cases = FAILS
    first = run("torchnightly", "--watch")
    assert first.returncode == 1
    assert "Findings of the first build that was watched: 1 new\n" in first.stdout
    assert "was written" in first.stderr
    ran = runs.ran
    again = run("torchnightly", "--watch")
    assert (again.returncode, runs.ran) == (1, ran)
    assert again.stdout.startswith("torchnightly: nothing new; 2.16.0.dev20261120 ")
    assert again.stdout.endswith("1 finding not closed\n")
    as_json = run("torchnightly", "--watch", "--json")
    found = json.loads(as_json.stdout)
    assert (as_json.returncode, runs.ran, found.keys()) == (1, ran, {"schema", "nothing_new"})
    nothing_new = found["nothing_new"]
    assert (nothing_new["version"], nothing_new["not_closed"]) == ("2.16.0.dev20261120", 1)
    assert (nothing_new["verdict"], nothing_new["exit_status"]) == ("not qualified", 1)
    assert OF_A_CANDIDATE.is_valid(found)
    assert not OF_A_CANDIDATE.is_valid({**found, "plan": {}})
    assert not OF_A_CANDIDATE.is_valid({"schema": 1})
    heads = []
    for day, cases in ((21, FAILS), (22, GOOD), (23, GOOD), (24, FAILS)):
        publish(nightly, day)
        runs.cases = cases
        ended = run("torchnightly", "--watch", "--markdown")
        assert ended.returncode == (cases is FAILS)
        heads.append(ended.stdout.splitlines()[0])
    assert heads == [
        "### Since 2.16.0.dev20261120 of 2026-11-23: 1 still there",
        "### Since 2.16.0.dev20261121 of 2026-11-23: 1 silent once",
        "### Since 2.16.0.dev20261122 of 2026-11-23: 1 silent twice, closed",
        "### Since 2.16.0.dev20261123 of 2026-11-23: 1 reopened",
    ]
    history = read_history(tmp_path / "qualifications", "torchnightly")
    assert [build.version[-2:] for build in history.builds] == ["20", "21", "22", "23", "24"]


def test_a_build_that_did_not_run_silences_nothing_and_is_asked_again(
    run: Command, runs: Runs, nightly: Served
) -> None:
    runs.cases = FAILS
    run("torchnightly", "--watch")
    publish(nightly, 21)
    runs.cases = NotRunError("left no record")
    for _ in range(2):
        ended = run("torchnightly", "--watch", "--json")
        assert ended.returncode == 3
        (finding,) = json.loads(ended.stdout)["watch"]["findings"]
        assert (finding["status"], finding["asked"]) == ("new", False)
    runs.cases = GOOD
    ended = run("torchnightly", "--watch", "--json")
    (finding,) = json.loads(ended.stdout)["watch"]["findings"]
    assert (finding["before"], finding["status"]) == ("new", "silent once")


def test_a_dry_run_of_a_watch_changes_no_file(
    tmp_path: Path, run: Command, runs: Runs, nightly: Served
) -> None:
    publish(nightly, 21)
    before = (tmp_path / "candidates.toml").read_text()
    ended = run("torchnightly", "--watch", "--dry-run", "--json")
    assert json.loads(ended.stdout)["plan"]["version"] == "2.16.0.dev20261121"
    assert (tmp_path / "candidates.toml").read_text() == before and runs.ran == 0


def test_a_release_candidate_is_watched_by_the_files_of_its_version(
    tmp_path: Path, run: Command, served: Served
) -> None:
    """A newer version on the index is another candidate; other files of this one are the next."""
    head = "Metadata-Version: 2.1\nName: torch\nVersion: 2.16.0\nRequires-Python: >=3.10\n"
    name = f"torch-2.16.0-cp312-cp312-{LINUX}.whl"
    for extra in ("first", "second"):
        members = {"torch-2.16.0.dist-info/METADATA": head, "torch/x.py": extra}
        served.add("torch", name, served.wheel(members), pep658=head)
        if extra == "first":
            arguments = ("candidate", "add", "torch216rc9", "--index", served.url)
            matrix(tmp_path, *arguments, MATRIX_CANDIDATES=str(tmp_path / "candidates.toml"))
            served.withdraw(name)
    newer = head.replace("2.16.0", "2.17.0")
    served.add(
        "torch",
        name.replace("2.16.0", "2.17.0"),
        served.wheel({"torch-2.17.0.dist-info/METADATA": newer}),
        pep658=newer,
    )
    before = json.loads(run("torch216rc9", "--dry-run", "--json").stdout)["plan"]
    after = json.loads(run("torch216rc9", "--watch", "--dry-run", "--json").stdout)["plan"]
    assert before["version"] == after["version"] == "2.16.0" and before["build"] != after["build"]


def test_the_next_vllm_of_a_channel_has_its_own_pin(
    tmp_path: Path, run: Command, served: Served
) -> None:
    file = tmp_path / "candidates.toml"
    for day, pin in ((20, "2.13.0"), (21, "2.14.0")):
        nightlies.publish(served, "vllm", f"0.35.0.dev202611{day}", f"torch=={pin}")
        if day == 20:
            arguments = ("candidate", "add", "vllmnightly", "--index", served.url)
            matrix(tmp_path, *arguments, MATRIX_CANDIDATES=str(file))
    plan = json.loads(run("vllmnightly", "--watch", "--dry-run", "--json").stdout)["plan"]
    assert plan["version"] == "0.35.0.dev20261121"
    cells = {row["name"] for row in plan["cells"] if row["side"] == "candidate"}
    assert "py312-torch214-vllmnightly" in cells
    run("vllmnightly", "--watch")
    assert load_candidates(file).named("vllmnightly").pins["torch"] == "2.14.0"


def test_what_was_asked_for_besides_the_index_is_asked_of_the_next_build(
    tmp_path: Path, run: Command, served: Served
) -> None:
    """So without another build there is nothing new, and the next has the companion again."""
    environ = {"MATRIX_CANDIDATES": str(tmp_path / "candidates.toml")}
    vision = write_wheel(tmp_path, "torchvision", "0.30.9", tag=f"cp38-abi3-{LINUX}")
    for python in ("311", "312"):
        nightlies.publish(served, "torch", "2.17.0.dev20261120", python=python)
    add = ["add", "torchasked", "--index", served.url, "--python", "3.12"]
    ended = matrix(tmp_path, "candidate", *add, "--companion", str(vision), **environ)
    assert ended.returncode == 0, ended.stderr
    before = load_candidates(tmp_path / "candidates.toml").named("torchasked")
    plan = json.loads(run("torchasked", "--watch", "--dry-run", "--json").stdout)["plan"]
    assert plan["build"] == before.identity
    nightlies.publish(served, "torch", "2.17.0.dev20261121")
    run("torchasked", "--watch")
    after = load_candidates(tmp_path / "candidates.toml").named("torchasked")
    assert (after.version, after.companions) == ("2.17.0.dev20261121", before.companions)
