"""A release: its tag, its files, the changelog, and the workflow that publishes it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

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


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_hash_and_says_its_version(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)", workflow.read_text(encoding="utf-8"))
    assert used
    assert [use for use in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", use)] == []


def test_an_action_has_one_hash_in_all_workflows() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    used = set(re.findall(r"uses: (\S+)@(.*)", texts))
    assert len(used) == len({action for action, _ in used})


def test_the_jobs_of_the_release_that_may_write_run_nothing_of_the_checkout() -> None:
    """Nor anything that an index brought: they get the files from the job that built them."""
    path = ROOT / ".github" / "workflows" / "release.yml"
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    for name, job in jobs.items():
        uses = [step.get("uses", "").partition("@")[0] for step in job["steps"]]
        may_write = "write" in job["permissions"].values()
        assert may_write == (name != "build")
        assert may_write != ("actions/checkout" in uses)
        assert not any("${{" in step.get("run", "") for step in job["steps"])
    assert jobs["pypi"]["permissions"] == {"id-token": "write"}
