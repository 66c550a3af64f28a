"""`matrix candidate add` of a commit, a folder and an sdist of vLLM."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from candidate_command import LINUX, Command, candidate_command, metadata, refused
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.file import load_candidates
from matrix.run.built import check_sources
from vllm_tree import write_tree

if TYPE_CHECKING:
    from local_index import Served

CUDA_TXT = "torch==2.14.0\ntorchvision==0.29.0\ntorchaudio==2.11.0\n"


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    return tmp_path / "candidates.toml"


@pytest.fixture
def run(tmp_path: Path, candidates: Path) -> Command:
    return candidate_command(tmp_path, candidates)


def repository(folder: Path, *, tag: str | None = "v0.33.0") -> Path:
    """Return a git repository of something like vLLM, with two commits; the tag is on the first."""
    for name, text in {
        "setup.py": "",
        "pyproject.toml": '[project]\nname = "vllm"\nrequires-python = ">=3.11,<3.15"\n',
        "vllm/__init__.py": "",
        "requirements/cuda.txt": CUDA_TXT,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q")
    commit(folder, "one")
    if tag:
        git(folder, "tag", tag)
    (folder / "vllm" / "more.py").write_text("")
    commit(folder, "two")
    return folder


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", message)


def test_a_commit_has_a_version_by_its_tags(run: Command, tmp_path: Path) -> None:
    repo = repository(tmp_path / "vllm")
    head = git(repo, "rev-parse", "HEAD")
    done = run("add", "vllmfix", "--commit", f"vllm@{head[:10]}")
    assert done.returncode == 0, done.stderr
    shown = json.loads(run("show", "vllmfix", "--json").stdout)
    assert shown["version"] == f"0.33.1.dev1+g{head[:9]}"
    assert shown["source"] == {"kind": "commit", "repository": str(repo), "revision": head}
    assert shown["pins"]["torch"] == "2.14.0" and "3.10" not in shown["pythons"]
    released = run("add", "vllmtag", "--commit", f"file://{repo}@v0.33.0")
    assert released.returncode == 0, released.stderr
    tag = git(repo, "rev-parse", "v0.33.0")
    shown = json.loads(run("show", "vllmtag", "--json").stdout)
    assert shown["version"] == f"0.33.0+g{tag[:9]}"


def test_add_and_show_say_which_way_leads_to_cuda(
    served: Served, run: Command, tmp_path: Path
) -> None:
    repo = repository(tmp_path / "vllm")
    head = git(repo, "rev-parse", "HEAD")
    add = ("add", "vllmfix", "--commit", "vllm@HEAD")
    channel = {"MATRIX_CHANNEL_VLLM_COMMIT": f"{served.url}{{commit}}"}
    assert run(*add).returncode == 0
    assert json.loads(run("show", "vllmfix", "--json").stdout)["on_cuda"] is None
    assert "not known: add it again with --platform cuda" in run("show", "vllmfix").stdout
    done = run(*add, "--platform", "cuda", "--build", **channel)
    assert done.returncode == 0, done.stderr
    assert "on cuda: compiled here by vLLM's own build" in done.stdout
    assert "has no wheel of this commit" in done.stdout
    assert f"/simple/{head}/vllm/" in [path for path, _ in served.asked]
    assert "compiled here" in run("show", "vllmfix").stdout
    served.add("vllm", f"vllm-0.33.1.dev1+g{head[:9]}-cp38-abi3-{LINUX}.whl", b"x")
    done = run(*add, "--platform", "cuda", "--build", **channel)
    assert done.returncode == 0, done.stderr
    shown = json.loads(run("show", "vllmfix", "--json").stdout)
    assert shown["on_cuda"]["way"] == "wheel" and len(shown["on_cuda"]["files"]) == 1
    assert shown["on_cuda"]["index"] == f"{served.url}{head}"
    assert "the published wheel of its commit, vllm-0.33.1.dev1" in run("show", "vllmfix").stdout


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--commit", "vllm@HEAD", "--build"], "no GPU is visible here; name it: --platform cuda"),
        (["--commit", "vllm@HEAD", "--no-wheel", "--platform", "cpu"], "and cpu is named; name it"),
        (["--index", "nightly", "--build"], "--build: goes with --commit, --tree and --sdist"),
        (["--index", "nightly", "--no-wheel"], "--no-wheel: goes with --commit, --tree and"),
        (["--index", "nightly", "--platform", "cuda"], "--platform: goes with --commit, --tree"),
        (["--wheel", "vllm-0.1-py3-none-any.whl", "--platform", "auto"], "--platform: goes with"),
        (["--commit", "vllm@HEAD", "--platform", "cuda", "--no-wheel"], "compile it with --build"),
    ],
)
def test_a_way_to_cuda_that_cannot_be_is_one_line(
    run: Command, tmp_path: Path, candidates: Path, arguments: list[str], fault: str
) -> None:
    repository(tmp_path / "vllm")
    refused(run("add", "vllmfix", *arguments), fault, candidates)


def test_the_state_of_a_tree_tells_two_builds_apart(run: Command, tmp_path: Path) -> None:
    repo = repository(tmp_path / "vllm")

    def identity() -> str:
        done = run("add", "vllmtree", "--tree", "vllm")
        assert done.returncode == 0, done.stderr
        return str(json.loads(run("show", "vllmtree", "--json").stdout)["identity"])

    clean = identity()
    assert identity() == clean
    (repo / "vllm" / "more.py").write_text("x = 1\n")
    changed = identity()
    (repo / "vllm" / "new.py").write_text("x = 1\n")
    assert len({clean, changed, identity()}) == 3
    (repo / "vllm" / "new.py").unlink()
    (repo / "vllm" / "more.py").write_text("")
    assert identity() == clean


@pytest.mark.parametrize("is_checkout", [True, False])
def test_a_tree_is_what_was_added_until_it_changes(
    run: Command, candidates: Path, tmp_path: Path, is_checkout: bool
) -> None:
    folder = tmp_path / "vllm"
    if is_checkout:
        repository(folder)
    else:
        write_tree(folder)
    assert run("add", "vllmtree", "--tree", "vllm", "--version", "0.34.0").returncode == 0
    (added,) = load_candidates(candidates).every
    check_sources(added)
    (folder / "vllm" / "more.py").write_text("x = 1\n")
    with pytest.raises(CandidateError, match="changed since it was added"):
        check_sources(added)


def test_a_tree_without_tags_needs_a_version(
    run: Command, candidates: Path, tmp_path: Path
) -> None:
    repository(tmp_path / "vllm", tag=None)
    add = ("add", "vllmtree", "--tree", "vllm")
    refused(run(*add), "and no file that states its version; state it: --version", candidates)
    assert run(*add, "--version", "0.34.0").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["vllmfix", "--commit", "nowhere@abc"], "'nowhere': is neither an existing folder"),
        (["vllmfix", "--commit", "vllm"], "write REPOSITORY@REVISION"),
        (["vllmfix", "--commit", "vllm@0123abc"], "vllm: has no branch, tag or commit 0123abc"),
        (["vllmfix", "--commit", "vllm@--help"], "'--help': is not a branch, a tag or a commit"),
        (["vllmtree", "--tree", "nowhere"], "nowhere: is not a folder"),
        (["vllmtree", "--tree", "empty"], "empty: has no setup.py"),
        (["vllmsdist", "--sdist", "vllm"], "is not the name of a source distribution"),
        (["vllmsdist", "--sdist", "torch-2.15.0.tar.gz"], "is a source distribution of torch"),
        (["torchfix", "--commit", "vllm@HEAD"], "--commit: goes with a vLLM"),
        (["torch216", "--tree", "vllm"], "candidate 'torch216': is not a name"),
        (["vllm034", "--tree", "vllm"], "candidate 'vllm034': is not a name"),
    ],
)
def test_sources_that_are_none_are_one_line(
    run: Command, candidates: Path, tmp_path: Path, arguments: list[str], fault: str
) -> None:
    repository(tmp_path / "vllm")
    (tmp_path / "empty").mkdir()
    refused(run("add", *arguments), fault, candidates)


@pytest.mark.parametrize(
    ("name", "lost", "fault"),
    [
        ("vllm", "setup.py", "has no setup.py; name a folder of vLLM's sources"),
        ("vllm", "vllm/__init__.py", "has no vllm/__init__.py; name a folder"),
        ("torch", None, "pyproject.toml: has the sources of torch, not of vllm; name vLLM's"),
    ],
)
def test_an_sdist_is_looked_into_when_it_is_added(
    served: Served,
    run: Command,
    candidates: Path,
    tmp_path: Path,
    name: str,
    lost: str | None,
    fault: str,
) -> None:
    path = tmp_path / "vllm-0.34.0rc2.tar.gz"
    members = {
        "PKG-INFO": metadata("vllm", "0.34.0rc2"), "requirements/cuda.txt": CUDA_TXT,
        "setup.py": "", "pyproject.toml": f'[project]\nname = "{name}"\n', "vllm/__init__.py": "",
    }  # fmt: skip
    members.pop(lost or "", None)
    path.write_bytes(served.sdist("vllm-0.34.0rc2", members))
    refused(run("add", "vllm034rc2", "--sdist", path.name), f"{path.name}: {fault}", candidates)


def test_an_sdist_is_a_candidate(served: Served, run: Command, tmp_path: Path) -> None:
    path = tmp_path / "vllm-0.34.0rc2.tar.gz"
    members = {
        "PKG-INFO": metadata("vllm", "0.34.0rc2"), "requirements/cuda.txt": CUDA_TXT,
        "setup.py": "", "pyproject.toml": '[project]\nname = "vllm"\n', "vllm/__init__.py": "",
    }  # fmt: skip
    path.write_bytes(served.sdist("vllm-0.34.0rc2", members))
    done = run("add", "vllm034rc2", "--sdist", path.name)
    assert done.returncode == 0, done.stderr
    shown = json.loads(run("show", "vllm034rc2", "--json").stdout)
    assert shown["version"] == "0.34.0rc2" and shown["source"]["location"] == str(path)
