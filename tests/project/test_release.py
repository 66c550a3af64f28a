"""A release: its tag, its files, the changelog, and the workflow that publishes it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from matrix._util import own_version
from matrix._util.files import write_text

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FILES = ("torch_vllm_matrix-0.2.0.tar.gz", "torch_vllm_matrix-0.2.0-py3-none-any.whl")
NEW = "### Added\n\n- What is new.\n"
LOG = f"# Changelog\n\n## 0.2.0 (2026-12-01)\n\n{NEW}\n## 0.1.0 (2026-11-01)\n\n- b\n"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "scripts" / "check_release.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RELEASE = load()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a checkout with the built files of 0.2.0, which the changelog has."""
    write_text(tmp_path / "CHANGELOG.md", LOG)
    for name in ("changelog.d/README.md", *(f"dist/{name}" for name in FILES)):
        write_text(tmp_path / name, "")
    return tmp_path


def check(root: Path, tag: str = "v0.2.0") -> int:
    notes = str(root / "notes.md")
    status = RELEASE.main([tag, str(root / "dist"), "--notes", notes], root=root)
    assert isinstance(status, int)
    return status


def test_the_notes_are_the_section_of_the_changelog(root: Path) -> None:
    assert check(root) == 0
    assert (root / "notes.md").read_text() == NEW


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        ("CHANGELOG.md", "# Changelog\n", "CHANGELOG.md has no section of 0.2.0"),
        ("CHANGELOG.md", "# C\n\n## 0.2.0 (x)\n\n## 0.1.0 (y)\n", "CHANGELOG.md has no section"),
        ("changelog.d/1.fixed.md", "x", "1 fragments are left in changelog.d"),
        ("dist/torch_vllm_matrix-0.3.0.tar.gz", "", "has torch_vllm_matrix-0.3.0.tar.gz, which"),
        (f"dist/{FILES[0]}", None, f"lacks {FILES[0]}; is the tag on this commit?"),
    ],
)
def test_what_does_not_agree_is_named(
    root: Path, capsys: pytest.CaptureFixture[str], path: str, text: str | None, fault: str
) -> None:
    if text is None:
        (root / path).unlink()
    else:
        write_text(root / path, text)
    assert check(root) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("release: ") and fault in line


@pytest.mark.parametrize("tag", ["v0.2", "v0.3.0", "0.2.0", "v0.2.0-1", "v1", "main", "v0.2.0\n"])
def test_another_tag_is_refused(root: Path, tag: str) -> None:
    assert check(root, tag) == 1


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("v0.2.0", "0.2.0"),
        ("v0.2.0rc1", "0.2.0rc1"),
        ("v1.10b2", "1.10b2"),
        ("v1", None),
        ("v0.2.0-rc1", None),
        ("v0.2.0.post1", None),
        ("v0.2.0.dev1", None),
        ("v\u0661.0", None),
    ],
)
def test_the_version_of_a_checkout_takes_the_tags_that_a_release_takes(
    tag: str, version: str | None
) -> None:
    found = own_version.TAG.fullmatch(tag)
    assert (found and found[1]) == version
    assert RELEASE._TAG == own_version.TAG


def test_a_folder_that_is_not_there_is_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (root / "elsewhere", root / "CHANGELOG.md"):
        assert RELEASE.main(["v0.2.0", str(path), "--notes", str(root / "n")], root=root) == 1
        (line,) = capsys.readouterr().out.splitlines()
        assert line == f"release: {path}: no such folder; build the sdist and the wheel into it"


def test_the_help_says_what_each_argument_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        RELEASE.main(["--help"])
    assert "where to write the notes" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_hash_and_says_its_version(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)", workflow.read_text(encoding="utf-8"))
    assert used
    assert [use for use in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", use)] == []


def test_an_action_has_one_hash_in_all_workflows() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    used = set(re.findall(r"uses: (\S+)@(.*)", texts))
    assert len(used) == len({action for action, _ in used})


def jobs_of_the_release() -> dict[str, Any]:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    jobs: dict[str, Any] = yaml.safe_load(text)["jobs"]
    return jobs


def test_nothing_is_published_before_the_tests_passed() -> None:
    jobs = jobs_of_the_release()
    needs = {name: {*job["needs"]} if "needs" in job else set() for name, job in jobs.items()}
    assert needs == {
        "tests": set(),
        "build": set(),
        "pypi": {"tests", "build"},
        "github": {"build", "pypi"},
    }
    ran = [step["run"] for step in jobs["tests"]["steps"] if "run" in step]
    assert ran[-1] == "tox -e lint,type,unit"
    # A condition or a step that may fail would let a red commit pass.
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert not any({"if", "continue-on-error"} & set(part) for part in (*jobs.values(), *steps))


@pytest.mark.parametrize(
    ("tag", "apart"),
    [("v0.2.0", False), ("v0.2.0a1", True), ("v0.2.0b12", True), ("v0.2.0rc1", True)],
)
def test_a_candidate_is_not_published_as_the_latest_release(
    tmp_path: Path, tag: str, apart: bool
) -> None:
    """The step runs as the runner starts it, with a `gh` that shows its arguments."""
    gh = tmp_path / "bin" / "gh"
    write_text(gh, '#!/bin/sh\nprintf "%s\\n" "$@"\n')
    gh.chmod(0o755)
    for name in ("dist/a.whl", "dist/b.tar.gz", "notes.md"):
        write_text(tmp_path / name, "")
    (step,) = (step for step in jobs_of_the_release()["github"]["steps"] if "run" in step)
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=tmp_path,
        env={"PATH": f"{gh.parent}{os.pathsep}{os.environ['PATH']}", "GITHUB_REF_NAME": tag},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [
        *("release", "create", tag, *(["--prerelease"] if apart else []), "--verify-tag"),
        *("--title", tag, "--notes-file", "notes.md", "dist/a.whl", "dist/b.tar.gz"),
    ]


def test_the_jobs_of_the_release_that_may_write_run_nothing_of_the_checkout() -> None:
    """Nor anything that an index brought: they get the files from the job that built them."""
    jobs = jobs_of_the_release()
    for name, job in jobs.items():
        uses = [step.get("uses", "").partition("@")[0] for step in job["steps"]]
        may_write = "write" in job["permissions"].values()
        assert may_write == (name not in ("tests", "build"))
        assert may_write != ("actions/checkout" in uses)
        assert not any("${{" in step.get("run", "") for step in job["steps"])
    assert jobs["pypi"]["permissions"] == {"id-token": "write"}
