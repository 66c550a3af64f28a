"""The workflow of the nights, run here step by step with made-up records, tox and gh."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ci_tables import failed
from matrix.record.model import Record
from matrix.record.reader import read
from matrix.record.writer import to_json
from workflow_runner import Workflow

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
CELL = "py311-torch210-vllm018"
CELLS = ("py311-torch210-vllm017", CELL, "py311-torch210-vllm019")
_RUN = """\
#!/usr/bin/env bash
# A made-up `matrix run`, after the real one took the arguments: it writes the record of each cell
# that has one, with a log. Its status is the last cell's.
set -e
{python} -m matrix run "$@" --dry-run > /dev/null
while [ "$1" != --platform ]; do
    cells+=("$1")
    shift
done
mkdir -p "records/$2"
status=0
for cell in "${{cells[@]}}"; do
    to=records/$2/$cell.$NIGHT
    if [ -e "$MADE/$cell.json" ]; then
        head -c "$(cat "$MADE/$cell.bytes")" "$MADE/$cell.json" > "$to.json"
        echo log > "$to.log"
        status=$(cat "$MADE/$cell.status")
    else
        status=5
    fi
done
exit "$status"
"""
_GH = """\
#!/usr/bin/env bash
# A made-up gh: one issue, which is open or not.
printf '%s\\n' "$*" >> "$MADE/gh.log"
case "$1 $2" in
    "issue list") cat "$MADE/issue" 2> /dev/null || true ;;
    "issue create") echo 7 > "$MADE/issue" ;;
    "issue close") rm "$MADE/issue" ;;
    "pr list") echo 0 ;;
esac
"""
_TOX = """\
#!/usr/bin/env bash
# A made-up tox: it builds the guide.
[ "$*" = "-e docs" ] && mkdir -p build/docs && echo guide > build/docs/index.html
"""
_MATRIX = """\
#!/usr/bin/env bash
case "$1" in
    refresh) cat "$MADE/releases.json" > matrix/data/releases.json && touch elsewhere ;;
    sync) git diff --quiet || echo "# as synced" >> tox.ini ;;
    run) shift && exec made-run "$@" ;;
    *) exec {python} -m matrix "$@" ;;
esac
"""
# A cell is reckoned at 10 GB, and what is free where the tests run is another matter.
_DISK = """\
import collections, shutil
usage = collections.namedtuple("usage", "total used free")
shutil.disk_usage = lambda path: usage(1 << 40, 0, 1 << 40)
"""


def git(where: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments]
    return subprocess.run(command, cwd=where, check=True, stdout=subprocess.PIPE, text=True).stdout


class Nights:
    """A repository with the workflow, and what its cells will show."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made, self.programs = folder / "made", folder / "programs"
        self.origin = folder / "origin.git"
        self.count = itertools.count(1)
        self.mark = ""
        for path in (self.made, self.programs):
            path.mkdir()
        for name, text in (
            ("made-run", _RUN.format(python=sys.executable)),
            ("gh", _GH),
            ("tox", _TOX),
            ("matrix", _MATRIX.format(python=sys.executable)),
        ):
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)
        (self.programs / "sitecustomize.py").write_text(_DISK)
        shutil.copy(ROOT / "matrix" / "data" / "releases.json", self.made)
        self._commit_repository()

    def _commit_repository(self) -> None:
        tree = self.folder / "tree"
        for name in ("scripts/ci", "results/api", "results/cpu"):
            shutil.copytree(ROOT / name, tree / name)
        (tree / "matrix" / "data").mkdir(parents=True)
        for name in ("tox.ini", "matrix/data/releases.json"):
            shutil.copy(ROOT / name, tree / name)
        git(tree, "init", "-q", "-b", "main")
        git(tree, "add", "-A")
        git(tree, "commit", "-q", "-m", "all")
        git(self.folder, "clone", "-q", "--bare", str(tree), str(self.origin))

    def show(
        self, *cells: str, record: Record | None = None, status: int = 0, size: int = 1 << 30
    ) -> None:
        """Let the cells show in the next nights what their published record shows, or this.

        Of the record's file so many bytes come.
        """
        for cell in cells:
            held = record or read(ROOT / "results" / "cpu" / f"{cell}.json")
            for name, text in (("json", to_json(held)), ("status", status), ("bytes", size)):
                (self.made / f"{cell}.{name}").write_text(str(text))

    def run(self, force: str = "true", platform: str = "auto", **variables: str) -> Workflow:
        """Run one night."""
        # Later than what is published, and not ahead of this machine's clock by a day.
        night = next(self.count)
        moment = datetime.now(timezone.utc) + timedelta(minutes=night)
        started = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
        self.mark = f"{moment:%Y%m%dT%H%M%SZ}"
        for path in self.made.glob("py*.json"):
            record = read(path)
            provenance = {**record.provenance, "started": started}
            path.write_text(to_json(replace(record, provenance=provenance)))
        workflow = Workflow(
            content=yaml.safe_load((WORKFLOWS / "nightly.yml").read_text()),
            origin=self.origin,
            folder=self.folder / f"night {night}",
            programs=self.programs,
            environ={
                "MADE": str(self.made),
                "NIGHT": self.mark,
                "PYTHONPATH": os.pathsep.join(map(str, (ROOT, self.programs))),
                "HOME": str(self.folder),
                "GITHUB_ACTIONS": "true",
            },
        )
        workflow.run(
            github={"token": "secret", "ref_name": "main", "repository": "owner/name"},
            inputs={"force": force, "platform": platform},
            vars={"MATRIX_PLAN": "--torch 2.10 --python 3.11", **variables},
        )
        return workflow

    def branch(self, name: str) -> set[str]:
        """Return the files of a branch of the repository."""
        return set(git(self.origin, "ls-tree", "-r", "--name-only", name).split())

    def asked(self) -> list[str]:
        """Return what gh was asked to change since the last time."""
        log = self.made / "gh.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [
            line for line in lines if line.startswith(("issue ", "pr ")) and " list " not in line
        ]


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    return Nights(tmp_path)


def published(cell: str) -> Record:
    return read(ROOT / "results" / "cpu" / f"{cell}.json")


@pytest.mark.programs
def test_a_regression_opens_an_issue_that_two_good_nights_close(nights: Nights) -> None:
    broken = replace(published(CELL), cases=(failed("small_startup[dense]"),))
    nights.show(*CELLS)
    nights.show(CELL, record=broken, status=1)
    first = nights.run()
    assert set(first.results.values()) == {"success", "skipped"}, first.log
    assert first.results["refused"] == "skipped"
    assert first.outputs["table"] == {"asked": "3", "open": "1", "status": "0"}
    create = next(line for line in nights.asked() if line.startswith("issue create"))
    assert "--title Compatibility matrix: 1 finding not closed, 1 of them new" in create
    body = (first.artifact("issue") / "body.md").read_text()
    assert "New: 1" in body
    assert f"`{CELL}` on cpu" in body
    pages = first.artifact("github-pages")
    for name in ("index.html", "api/vllm/0.19.1.json", "compatibility.json", "guide/index.html"):
        assert (pages / name).exists()
    held = nights.branch("matrix-records")
    assert {"watch.json", f"records/cpu/{CELL}.json"} < held
    assert {path.split("/")[1] for path in held if "/" in path} == {"cpu"}
    came = {f"records/cpu/{cell}.{nights.mark}" for cell in CELLS}
    assert {f"{path}.{ending}" for path in came for ending in ("json", "log")} < held

    nights.show(CELL)
    second = nights.run()
    assert second.outputs["table"]["open"] == "1"
    assert [line.partition(" --")[0] for line in nights.asked()] == ["issue edit 7"]
    assert "Silent once: 1" in (second.artifact("issue") / "body.md").read_text()
    third = nights.run()
    assert third.outputs["table"]["open"] == "0"
    assert [line.partition(" --")[0] for line in nights.asked()] == [
        "issue edit 7",
        "issue comment 7",
        "issue close 7",
    ]
    assert held < nights.branch("matrix-records")


@pytest.mark.programs
def test_a_night_without_stale_cells_has_a_table_and_no_issue(nights: Nights) -> None:
    (nights.programs / "tox").write_text("#!/bin/sh\nexit 1\n")
    done = nights.run(force="", MATRIX_PLAN="--torch 2.11 --vllm 0.26 --python 3.12")
    assert "::error::the guide does not build" in done.log
    assert {"index.html"} == {path.name for path in done.artifact("github-pages").glob("*.html")}
    assert done.outputs["plan"] == {"any": "false", "matrix": '{"include":[]}'}
    assert (done.results["cells"], done.results["issue"]) == ("skipped", "skipped")
    assert (done.results["table"], done.results["publish"], done.results["pages"]) == (
        ("success",) * 3
    )
    assert not any(line.startswith("issue") for line in nights.asked())


@pytest.mark.programs
def test_a_cell_without_a_record_and_a_broken_artifact_lose_no_other_record(
    nights: Nights,
) -> None:
    nights.show(CELLS[0], CELL)
    done = nights.run()
    assert f"::error::{CELLS[2]} on cpu: left no record" in done.log
    assert (done.results["cells"], done.results["table"]) == ("failure", "success")
    held = nights.branch("matrix-records")
    assert f"records/cpu/{CELLS[0]}.{nights.mark}.json" in held

    nights.show(*CELLS)
    nights.show(CELL, size=99)
    done = nights.run()
    assert (done.results["table"], done.results["publish"]) == ("success", "success")
    assert done.outputs["table"]["status"] == "2"
    assert done.results["refused"] == "failure"
    held = nights.branch("matrix-records")
    assert f"records/cpu/{CELLS[0]}.{nights.mark}.json" in held
    assert f"records/cpu/{CELL}.{nights.mark}.json" not in held


@pytest.mark.programs
def test_a_bad_record_of_before_ends_no_night(nights: Nights) -> None:
    """It is named, and the job that says so is red; the cells run all the same."""
    tree = nights.folder / "damaging"
    git(nights.folder, "clone", "-q", str(nights.origin), str(tree))
    (tree / f"results/cpu/{CELL}.20260101T000000Z.json").write_text("{")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "a bad record")
    git(tree, "push", "-q", "origin", "HEAD:main")
    nights.show(*CELLS)
    done = nights.run()
    assert (done.results["plan"], done.results["cells"]) == ("success", "success"), done.log
    assert done.outputs["table"]["status"] == "2" and done.results["refused"] == "failure"
    held = nights.branch("matrix-records")
    assert {f"records/cpu/{cell}.{nights.mark}.json" for cell in CELLS} < held


@pytest.mark.programs
def test_options_that_plan_nothing_end_the_night(nights: Nights) -> None:
    done = nights.run(MATRIX_PLAN="--torch nonsense")
    assert done.results["plan"] == "failure"
    assert "--torch 'nonsense': is neither a release nor a specifier" in done.log
    assert {done.results[name] for name in ("cells", "table", "publish")} == {"skipped"}


@pytest.mark.programs
def test_a_night_whose_table_cannot_be_made_publishes_nothing(nights: Nights) -> None:
    program = nights.programs / "matrix"
    program.write_text(program.read_text().replace("    *)", "    table) exit 2 ;;\n    *)"))
    done = nights.run(force="", MATRIX_PLAN="--torch 2.11 --vllm 0.26 --python 3.12")
    assert (done.results["table"], done.results["publish"]) == ("failure", "skipped")


@pytest.mark.programs
def test_new_releases_are_a_pull_request(nights: Nights) -> None:
    data = json.loads((nights.made / "releases.json").read_text())
    (nights.made / "releases.json").write_text(json.dumps({**data, "made up": 1}))
    done = nights.run(force="", MATRIX_PLAN="--torch 2.11 --vllm 0.26 --python 3.12")
    assert done.results["propose"] == "success", done.log
    (create,) = (line for line in nights.asked() if line.startswith("pr create"))
    assert "--head matrix-releases --base main" in create
    changed = git(nights.origin, "diff", "--name-only", "main", "matrix-releases").split()
    assert changed == ["matrix/data/releases.json", "tox.ini"]


@pytest.mark.programs
@pytest.mark.parametrize("platform", ["cuda", "all"])
def test_cuda_without_a_runner_is_refused(nights: Nights, platform: str) -> None:
    done = nights.run(platform=platform)
    assert done.results["plan"] == "failure"
    assert "name its label in the repository's variable MATRIX_CUDA_RUNNER" in done.log
    assert {done.results[name] for name in ("cells", "table", "publish")} == {"skipped"}


def test_the_workflow_runs_every_script_and_shells_read_no_expression() -> None:
    content = (WORKFLOWS / "nightly.yml").read_text()
    scripts = {f"scripts/ci/{path.name}" for path in (ROOT / "scripts" / "ci").iterdir()}
    lines = [
        step["run"]
        for job in yaml.safe_load(content)["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    assert {line for line in lines if line.startswith("scripts/")} == scripts
    assert not any("${{" in line for line in lines)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    scripts = sorted(map(str, (ROOT / "scripts" / "ci").glob("*.sh")))
    done = subprocess.run(["shellcheck", *scripts], stdout=subprocess.PIPE, text=True, check=False)
    assert done.stdout == ""
