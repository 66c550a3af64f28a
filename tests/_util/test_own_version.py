"""The version of the project: by tags, in shallow clones, archives and sdists, and without git."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

from matrix._util import own_version
from matrix._util.own_version import version

ROOT = Path(__file__).parents[2]
UNTAGGED = "0.1.0.dev0"


def git(where: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments]
    return subprocess.run(command, cwd=where, check=True, capture_output=True, text=True).stdout


def commit(where: Path) -> str:
    git(where, "commit", "-q", "--allow-empty", "-m", "x")
    return git(where, "rev-parse", "--short", "HEAD").strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Make a checkout of a first commit, with what git fills in for an archive."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for name in (".gitattributes", ".git_archival.txt"):
        shutil.copy(ROOT / name, folder)
    git(folder, "add", "-A")
    commit(folder)
    return folder


def archived(checkout: Path) -> Path:
    folder = checkout.parent / "archived"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tar = subprocess.run(
        ["git", "archive", "HEAD"], cwd=checkout, check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x"], cwd=folder, check=True, input=tar)
    return folder


def test_a_tag_is_the_version_and_commits_after_it_are_counted(checkout: Path) -> None:
    head = commit(checkout)
    assert version(checkout) == f"{UNTAGGED}+g{head}"
    git(checkout, "tag", "v0.2.0")
    git(checkout, "tag", "nightly")  # not of a release
    assert version(checkout) == "0.2.0"
    first, second = commit(checkout), commit(checkout)
    assert version(checkout) == f"0.2.0.post1.dev2+g{second}"
    git(checkout, "tag", "v0.3.0rc1")
    third = commit(checkout)
    assert version(checkout) == f"0.3.0rc1.post1.dev1+g{third}"
    assert first != second
    order = [UNTAGGED, "0.2.0", f"0.2.0.post1.dev2+g{second}", "0.3.0rc1", version(checkout)]
    assert sorted(order, key=Version) == order


@pytest.mark.parametrize(
    "tag", ["v0.2.0.post1", "v0.2.0.dev1", "v0.2.0-rc1", "v1x", "v1", "v0.2.0+cu128", "v0.2.0-3-x"]
)
def test_a_tag_that_no_release_has_is_not_a_version(checkout: Path, tag: str) -> None:
    """The commit keeps its own name, at the tag and after it, in a checkout and in an archive."""
    for later in range(3):
        head = commit(checkout) if later else git(checkout, "rev-parse", "--short", "HEAD").strip()
        if not later:
            git(checkout, "tag", tag)
        assert version(checkout) == f"{UNTAGGED}+g{head}"
        assert version(archived(checkout)) == version(checkout)
        assert str(Version(version(checkout))) == version(checkout)


@pytest.mark.parametrize("tag", ["nightly-1", "v0.3.0-rc1", "v0.3.0.dev1", "v1", "v9x"])
def test_a_tag_of_another_form_hides_no_older_release(checkout: Path, tag: str) -> None:
    git(checkout, "tag", "v0.2.0")
    head = commit(checkout)
    git(checkout, "tag", tag)
    assert version(checkout) == f"0.2.0.post1.dev1+g{head}"
    assert version(archived(checkout)) == version(checkout)


def test_an_archive_of_a_commit_has_the_version_of_the_commit(checkout: Path) -> None:
    assert version(archived(checkout)).startswith(f"{UNTAGGED}+g")
    git(checkout, "tag", "v0.2.0")
    assert version(archived(checkout)) == "0.2.0"
    commit(checkout)
    assert version(archived(checkout)) == version(checkout)


def test_a_shallow_clone_without_its_tag_still_has_a_version(checkout: Path) -> None:
    git(checkout, "tag", "v0.2.0")
    head = commit(checkout)
    shallow = checkout.parent / "shallow"
    git(checkout, "clone", "-q", "--depth", "1", f"file://{checkout}", str(shallow))
    assert version(shallow) == f"{UNTAGGED}+g{head}"


def test_an_sdist_has_the_version_that_it_was_made_with(checkout: Path) -> None:
    git(checkout, "tag", "v0.2.0")
    (checkout / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: x\nVersion: 0.1.7\n\ntext\n")
    assert version(checkout) == "0.1.7"
    (checkout / "PKG-INFO").write_text("nothing of a version\n")
    assert version(checkout) == "0.2.0"


def test_a_copy_of_the_tree_has_the_fallback(checkout: Path, tmp_path: Path) -> None:
    """Also one inside the checkout of another project, whose tags are not this one's."""
    assert version(tmp_path) == UNTAGGED
    shutil.copy(ROOT / ".git_archival.txt", tmp_path)  # not filled in
    assert version(tmp_path) == UNTAGGED
    git(checkout, "tag", "v9.9.9")
    inner = checkout / "inner"
    inner.mkdir()
    assert version(inner) == UNTAGGED


def test_variables_of_git_lead_to_no_other_repository(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(checkout, "tag", "v0.2.0")
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert version(checkout) == "0.2.0"


@pytest.mark.parametrize("path", ["", "/nowhere"])
def test_without_git_there_is_a_version(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    git(checkout, "tag", "v0.2.0")
    monkeypatch.setenv("PATH", path)
    assert version(checkout) == UNTAGGED


def test_a_repository_that_git_refuses_has_the_fallback(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert version(tmp_path) == UNTAGGED


def test_the_build_backend_runs_the_file_with_nothing_but_python() -> None:
    code = f"import runpy; print(runpy.run_path({own_version.__file__!r})['version']())"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == version(ROOT)
    assert str(Version(version(ROOT))) == version(ROOT)
