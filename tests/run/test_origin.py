"""Whether the installed torch and vLLM are the cell's: real folders of metadata."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from candidates import commit_candidate, torch_candidate, vllm_candidate, with_candidates
from matrix.bundle.run import REWRITTEN
from matrix.catalog.candidates.model import Candidate
from matrix.catalog.cells import Cell
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.record.model import ErrorKind, Platform
from matrix.run.environment import read_environment
from matrix.run.origin import (
    look_at_origins,
    named_index,
    origins_of,
    without_extensions,
    wrong_origin,
)

RELEASES = load_releases()
REVISION = "3f2a9c81d0e5c77"
CANDIDATE = replace(torch_candidate(), revision=REVISION)
FILE = CANDIDATE.files[1]
RELEASE = Cell("3.12", "2.11.0", "0.26.0")
KNOWN = RELEASES.revision(Project.TORCH, "2.11.0")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder of packages, the only one of this Python."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder)])
    return folder


def install(
    site: Path,
    name: str,
    version: str,
    *requires: str,
    url: str | None = None,
    revision: str | None = None,
    more: object = None,
) -> None:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {line}" for line in requires]
    (info / "METADATA").write_text("\n".join([*lines, ""]))
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nTag: cp312-cp312-manylinux_2_28_x86_64\n")
    (info / "RECORD").write_text(f"{name}/a.py,sha256=x,1\n{info.name}/INSTALLER,sha256=y,2\n")
    if url is not None:
        direct = {"url": url, **(more if isinstance(more, dict) else {"archive_info": {}})}
        (info / "direct_url.json").write_text(json.dumps(direct))
    if revision is not None:
        (site / name).mkdir(exist_ok=True)
        text = f"__version__ = '{version}'\ngit_version = '{revision}'\n"
        if name == "vllm":
            text = f"__commit_id__ = commit_id = 'g{revision}'\n"
        (site / name / ("version.py" if name == "torch" else "_version.py")).write_text(text)


def fault(cell: Cell, releases: Releases = RELEASES) -> str | None:
    refusal = wrong_origin(cell, releases, look_at_origins(), read_environment())
    if refusal is None:
        return None
    assert refusal.kind is ErrorKind.WRONG_CELL and "\n" not in refusal.reason
    assert refusal.reason.startswith(f"this environment is not the cell {cell.name}: its ")
    return refusal.reason


def cell_of(candidate: Candidate, *more: Candidate) -> tuple[Cell, Releases]:
    releases = with_candidates(candidate, *more)
    return releases.resolve("py312-torch216rc1-vllm033"), releases


def test_a_candidate_by_its_address_is_what_was_asked_for(site: Path) -> None:
    install(site, "torch", "2.16.0+cu130", url=FILE.url, revision=REVISION)
    install(site, "vllm", "0.33.0")
    cell, releases = cell_of(CANDIDATE)
    assert fault(cell, releases) is None
    torch, vllm = origins_of(cell, releases, look_at_origins(), Platform.CPU)
    assert torch.candidate == CANDIDATE.build and torch.index == CANDIDATE.index
    assert (torch.file, torch.sha256, torch.built) == (FILE.name, FILE.sha256, FILE.uploaded)
    assert torch.revision == REVISION and torch.version == "2.16.0+cu130"
    assert vllm.candidate is None and vllm.index is None and vllm.sha256 is None
    assert vllm.file == "vllm-0.33.0-cp312-cp312-manylinux_2_28_x86_64.whl"
    assert torch.content and vllm.content and torch.content != vllm.content


def test_the_content_does_not_depend_on_the_installer(site: Path) -> None:
    install(site, "torch", "2.11.0")
    content = look_at_origins()[Project.TORCH].content
    record = site / "torch-2.11.0.dist-info" / "RECORD"
    own = ["../../bin/torchrun,sha256=q,1", "torch/__pycache__/a.pyc,,", "torch/a.py,sha256=x,1"]
    record.write_text("\n".join([*own, "torch-2.11.0.dist-info/RECORD,,", ""]))
    assert look_at_origins()[Project.TORCH].content == content
    record.write_text("torch/a.py,sha256=z,1\n")
    assert look_at_origins()[Project.TORCH].content != content


@pytest.mark.parametrize(
    ("version", "url", "revision", "said"),
    [
        ("2.16.0", None, None, "from an index, so it is not known to be torch216rc1"),
        ("2.16.0+cu130", "https://x.example/torch-2.16.0-o.whl", None, "torch-2.16.0-o.whl"),
        ("2.16.0+cu130", FILE.url, "f1f1f1f", "is of git revision f1f1f1f, and torch216rc1"),
        ("2.16.0", None, "f1f1f1f", "is of git revision f1f1f1f"),
        ("2.16.0+cu130", f"{FILE.url}#sha256={'0' * 64}", None, "has another SHA-256 than torch2"),
        ("2.14.0", None, None, "is 2.14.0, which xformers requires, not torch216rc1 (torch 2.16.0"),
    ],
)
def test_another_torch_is_no_candidate(
    site: Path, version: str, url: str | None, revision: str | None, said: str
) -> None:
    install(site, "torch", version, url=url, revision=revision)
    install(site, "xformers", "1.0", "torch==2.14.0")
    install(site, "numpy", "1.0", "torch>=2.0")
    cell, releases = cell_of(CANDIDATE)
    found = fault(cell, releases)
    assert found is not None and said in found


def test_the_same_revision_is_enough_where_a_bundle_installs(site: Path) -> None:
    install(site, "torch", "2.16.0+cu130", revision=f"{REVISION}{'0' * 25}")
    cell, releases = cell_of(CANDIDATE)
    assert fault(cell, releases) is None


OURS = "0" * 64


@pytest.mark.parametrize(
    ("note", "is_ours"),
    [
        (json.dumps({OURS: FILE.sha256}), True),
        (json.dumps({OURS: "1" * 64}), False),
        (json.dumps({"1" * 64: FILE.sha256}), False),
        (json.dumps({OURS: 3}), False),
        ("[]", False),
        ("{", False),
        (None, False),
    ],
)
def test_a_wheel_that_a_bundle_rewrote_is_known_by_the_hash_that_it_had(
    site: Path, monkeypatch: pytest.MonkeyPatch, note: str | None, *, is_ours: bool
) -> None:
    monkeypatch.setattr(sys, "prefix", str(site))
    if note is not None:
        (site / REWRITTEN).write_text(note)
    url = f"file:///bundle/candidates/a/{FILE.name}#sha256={OURS}"
    install(site, "torch", "2.16.0+cu130", url=url)
    cell, releases = cell_of(CANDIDATE)
    found = fault(cell, releases)
    assert (found is None) is is_ours
    assert is_ours or "has another SHA-256 than torch216rc1" in str(found)


def test_a_release_of_another_revision_is_refused(site: Path) -> None:
    assert KNOWN is not None
    install(site, "torch", "2.11.0+cu130", revision=KNOWN)
    install(site, "vllm", "0.26.0")
    assert fault(RELEASE) is None
    (site / "torch" / "version.py").write_text("git_version = 'cccccccccccccccc'\n")
    found = fault(RELEASE)
    assert found is not None
    assert f"is of git revision cccccccccccc, and the release 2.11.0 of {KNOWN[:12]};" in found
    assert "matrix candidate add" in found


def test_a_vllm_of_another_revision_is_not_its_release(site: Path) -> None:
    known = RELEASES.revision(Project.VLLM, "0.26.0")
    assert known is not None and RELEASES.revision(Project.VLLM, "0.9.0") is None
    install(site, "vllm", "0.26.0", revision=f"{known}{'0' * 31}")
    assert fault(RELEASE) is None
    (site / "vllm" / "_version.py").write_text("commit_id = 'gcccccccccccc'\n")
    found = fault(RELEASE)
    assert found is not None
    assert f"its vLLM is of git revision cccccccccccc, and the release 0.26.0 of {known}" in found
    (site / "vllm" / "_version.py").write_text("__version__ = '0.26.0'\n")
    assert fault(RELEASE) is None


@pytest.mark.parametrize(
    ("version", "url", "said"),
    [
        ("2.12.1", None, None),
        ("2.12.1+cu130", None, "has the local version cu130, which the release of"),
        ("2.12.1", "https://me:hunter2@x.example/torch-2.12.1-x.whl", "from torch-2.12.1-x"),
        ("2.12.1", "file:///home/ann/src", "was installed from torch-2.12.1-cp312-cp312"),
    ],
)
def test_a_release_comes_from_the_index(
    site: Path, version: str, url: str | None, said: str | None
) -> None:
    install(site, "torch", version, url=url)
    found = fault(Cell("3.12", "2.12.1", "0.26.0"))
    assert (found is None) == (said is None)
    assert said is None or (found is not None and said in found and "hunter2" not in found)


def test_a_commit_is_told_by_its_hash(site: Path) -> None:
    releases = with_candidates(commit_candidate())
    cell = releases.resolve("py312-torch214-vllmfix")
    install(site, "vllm", "0.34.0.dev5+g4141414.empty", revision="41" * 4)
    assert fault(cell, releases) is None
    (site / "vllm" / "_version.py").write_text("commit_id = 'gdddddddd'\n")
    found = fault(cell, releases)
    assert found is not None and "its vLLM is of git revision dddddddd, and vllmfix" in found


def test_what_is_not_there_or_unreadable_is_no_fault(site: Path) -> None:
    cell, releases = cell_of(CANDIDATE, vllm_candidate())
    assert fault(cell, releases) is None
    torch, vllm = origins_of(cell, releases, look_at_origins(), Platform.CPU)
    assert torch.version == "2.16.0+cu130" and vllm.version is None
    install(site, "torch", "2.11.0")
    info = site / "torch-2.11.0.dist-info"
    for name in ("direct_url.json", "RECORD", "WHEEL"):
        (info / name).write_bytes(b"\xff[")
    assert look_at_origins()[Project.TORCH].version == "2.11.0"


@pytest.mark.parametrize(
    ("version", "platform", "refused"),
    [
        ("0.34.0.dev5+g4152872ac.empty", Platform.CUDA, True),
        ("0.33.0+empty", Platform.CUDA, True),
        ("0.34.0.dev5+g4152872ac.empty", Platform.CPU, False),
        ("0.34.0.dev5+g4152872ac.precompiled", Platform.CUDA, False),
        ("0.33.0", Platform.CUDA, False),
    ],
)
def test_a_vllm_without_extensions_does_not_run_on_cuda(
    site: Path, version: str, platform: Platform, refused: bool
) -> None:
    install(site, "vllm", version)
    refusal = without_extensions(RELEASE, look_at_origins(), platform)
    assert (refusal is not None) == refused
    if refusal is not None:
        assert refusal.kind is ErrorKind.WRONG_CELL and "\n" not in refusal.reason
        assert refusal.reason.startswith(f"this environment is not the cell {RELEASE.name}: its ")
        assert refusal.reason.endswith(f"Run tox -e {RELEASE.name} -- --platform cuda")


def test_nothing_is_said_of_a_vllm_that_is_not_there(site: Path) -> None:
    assert without_extensions(RELEASE, look_at_origins(), Platform.CUDA) is None


@pytest.mark.parametrize(
    ("index", "name", "said"),
    [
        ("https://pkg.corp.example/simple", "our mirror", "our mirror"),
        ("https://pkg.corp.example/simple", "", "https://pkg.corp.example/simple"),
        ("https://pkg.corp.example/simple", " a\nb ", "a b"),
        ("https://download.pytorch.org/whl/test/cu130", "mine", "=="),
        ("https://download.pytorch.org.corp.example/whl", "mine", "mine"),
        (None, "mine", None),
    ],
)
def test_a_record_calls_a_private_index_by_the_name_that_the_user_gives(
    index: str | None, name: str, said: str | None
) -> None:
    assert named_index(index, {"MATRIX_INDEX_NAME": name}) == (index if said == "==" else said)
    assert named_index(index, {}) == index
