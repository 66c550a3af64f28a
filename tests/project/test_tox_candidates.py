"""What tox does with cells of candidates: whose torch it installs, and when it does so again."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from candidates import commit_candidate, torch_candidate, vllm_candidate
from matrix._util.files import digest_of
from matrix.catalog.candidates.collection import Candidates
from matrix.catalog.candidates.file import load_candidates, write_candidates
from matrix.catalog.candidates.gathered import CandidateRequest
from matrix.catalog.candidates.model import Candidate, File, OnCuda, Wheel
from matrix.catalog.candidates.sources import from_commit, from_sdist, from_tree
from matrix.catalog.cells import Made, factor_of
from matrix.catalog.projects import Project
from matrix.catalog.releases_file import load_releases
from matrix.record.model import ErrorKind, Record
from matrix.record.reader import read
from toxed import Tox, write_wheel
from vllm_tree import commit_all, write_nvcc, write_sdist, write_tree

HERE = f"py{sys.version_info.major}{sys.version_info.minor}"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
VLLM = next(row for row in reversed(load_releases().vllm) if row.python.contains(PYTHON))
CELL = f"{HERE}-torch216rc1-{factor_of('vllm', VLLM.version)}"


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Make a file of candidates of each kind."""
    every = (torch_candidate(), vllm_candidate(), commit_candidate())
    return write_candidates(Candidates(every=every), tmp_path / "candidates.toml")


def config(tox: Tox, name: str, listed: Path) -> str:
    done = tox(
        "config", "-k", "deps", "description", "set_env", "commands", "-e", name,
        folder=listed.parent, MATRIX_CANDIDATES=str(listed),
    )  # fmt: skip
    return done.stdout if done.returncode == 0 else f"{done.returncode}: {done.stderr}"


def test_a_candidate_is_an_environment_like_any_other(tox: Tox, listed: Path) -> None:
    said = config(tox, "py312-torch216rc1-vllm033", listed)
    assert "torch @ https://rc.example/whl/test/cu130/torch-2.16.0%2Bcu130-cp312-" in said
    assert "#sha256=" in said and "pytest>=8" in said and "vllm==0.33.0" in said
    assert "torch216rc1 (torch 2.16.0+cu130 of test/cu130)" in said
    assert "/py312-torch216rc1-vllm033/tmp/overrides.txt" in said
    assert "python -m matrix run py312-torch216rc1-vllm033 --here" in said


def test_a_vllm_candidate_with_its_pin_overrides_nothing(tox: Tox, listed: Path) -> None:
    said = config(tox, "py312-torch214-vllmmain", listed)
    assert "torch==2.14.0" in said and "vllm @ https://" in said
    assert "UV_OVERRIDE" not in said
    assert "UV_OVERRIDE" in config(tox, "py312-torch215-vllmmain", listed)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("py312-torch216rc2-vllm033", "candidate 'torch216rc2': is not known"),
        ("py313-torch216rc1-vllm033", "has no wheel for Python 3.13"),
        ("py312-torch216-vllm033", "torch 2.16 is not known here"),
        ("py312-torch216rc1", "no vLLM pins a candidate, so name one"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(tox: Tox, listed: Path, name: str, fault: str) -> None:
    said = config(tox, name, listed)
    assert said.startswith("2: matrix: ") and fault in said
    assert len(said.splitlines()) == 1


def test_a_bad_file_of_candidates_is_a_line_and_keeps_no_other_test(
    tox: Tox, tmp_path: Path
) -> None:
    bad = tmp_path / "candidates.toml"
    bad.write_text("[[candidates]]\n")
    assert config(tox, CELL, bad).startswith(f"2: matrix: {bad}: candidates: unknown key")
    assert "pytest" in config(tox, "unit", bad)


def candidate(wheel: Path) -> Candidate:
    digest = digest_of(wheel)
    return Candidate(
        project=Project.TORCH,
        name="torch216rc1",
        version=str(parse_wheel_filename(wheel.name)[1]),
        source=Wheel(location=str(wheel), sha256=digest),
        files=(File(name=wheel.name, url=wheel.as_uri(), sha256=digest),),
        without=("torchvision", "torchaudio"),
    )


def make(
    tox: Tox, name: str, folder: Path, listed: Path, platform: str = "cpu", **environ: str
) -> tuple[int, str]:
    """Let tox make an environment from the folder's own index, and say what happened."""
    uv = folder / "uv.toml"
    uv.write_text(f'no-index = true\nfind-links = ["{folder / "index"}"]\n')
    done = tox(
        *("-e", name, "--notest", "-x", f"testenv:{name}.skip_install=true"),
        *("--", "--platform", platform, "--records", str(folder / "records")),
        folder=folder,
        UV_CONFIG_FILE=str(uv),
        UV_CACHE_DIR=str(folder / "cache"),
        MATRIX_CANDIDATES=str(listed),
        **environ,
    )
    return done.returncode, done.stdout + done.stderr


def installed(folder: Path) -> tuple[str, str, list[str]]:
    """Give what torch says of itself in an environment, where it is from, and the distributions."""
    (site,) = (folder / "tox" / CELL).glob("lib/python*/site-packages")
    names = installed_names(folder)
    url = json.loads(next(site.glob("torch-*.dist-info/direct_url.json")).read_text())["url"]
    return (site / "torch" / "version.py").read_text(), url, names


def installed_names(folder: Path) -> list[str]:
    found = (folder / "tox" / CELL).glob("lib/python*/site-packages/*.dist-info")
    return sorted(path.name.partition(".dist")[0] for path in found)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Make a user's index: a vLLM that pins another torch, a final of the candidate's version."""
    folder = tmp_path / "index"
    write_wheel(folder, "pytest", "9.0")
    for constraint in map(Requirement, load_releases().constraints(VLLM.version)):
        write_wheel(folder, constraint.name.replace("-", "_"), "99.0")
    write_wheel(folder, "vllm", VLLM.version, f"torch=={VLLM.torch}", "torchvision", "torchaudio")
    final = {"torch/version.py": "git_version = 'f1f1f1f'\n"}
    for version in ("2.16.0", VLLM.torch):
        write_wheel(folder, "torch", version, members=final)
    write_wheel(folder, "torchvision", "0.31.0")
    return folder


@pytest.mark.programs
def test_the_candidate_is_installed_and_not_the_final_of_its_version(
    tox: Tox, tmp_path: Path, index: Path
) -> None:
    members = {"torch/version.py": "git_version = 'cacacac'\n"}
    wheel = write_wheel(tmp_path / "rc", "torch", "2.16.0", members=members)
    listed = tmp_path / "candidates.toml"
    write_candidates(Candidates(every=(candidate(wheel),)), listed)
    status, said = make(tox, CELL, tmp_path, listed)
    assert status == 0, said
    text, url, names = installed(tmp_path)
    assert "cacacac" in text and url.partition("#")[0] == wheel.as_uri()
    assert {"pytest-9.0", "torch-2.16.0", f"vllm-{VLLM.version}"} <= {*names}
    assert not any(name.startswith("torchvision") for name in names)

    # Another build of the same name, version and address: the environment is made again.
    members = {"torch/version.py": "git_version = 'dadadad'\n"}
    write_wheel(tmp_path / "rc", "torch", "2.16.0", members=members)
    status, said = make(tox, CELL, tmp_path, listed)
    assert "cacacac" in installed(tmp_path)[0]  # nobody added it: the environment stays
    write_candidates(Candidates(every=(candidate(wheel),)), listed)
    status, said = make(tox, CELL, tmp_path, listed)
    assert status == 0, said
    assert "dadadad" in installed(tmp_path)[0]


BESIDE = f"{HERE}-{factor_of('torch', VLLM.torch)}-{factor_of('vllm', VLLM.version)}"


@pytest.fixture
def beside(tox: Tox, tmp_path: Path, index: Path) -> Path:
    """Make the environment of the release; the index has a newer pytest since then.

    Returns the wheel of a candidate.
    """
    write_wheel(index, "torchaudio", "2.11.0")
    listed = write_candidates(Candidates(), tmp_path / "none.toml")
    status, said = make(tox, BESIDE, tmp_path, listed)
    assert status == 0 and "packages as in" not in said, said
    write_wheel(index, "pytest", "9.1")
    members = {"torch/version.py": "git_version = 'cacacac'\n"}
    return write_wheel(tmp_path / "rc", "torch", "2.16.0", members=members)


def add(wheel: Path, tmp_path: Path) -> Path:
    return write_candidates(Candidates(every=(candidate(wheel),)), tmp_path / "candidates.toml")


@pytest.mark.programs
def test_a_torch_candidate_has_the_packages_of_an_environment_beside_it(
    tox: Tox, tmp_path: Path, beside: Path
) -> None:
    listed = add(beside, tmp_path)
    status, said = make(tox, CELL, tmp_path, listed)
    assert status == 0, said
    assert f"{CELL}: packages as in {BESIDE}, which has the same vLLM; tox -r asks the" in said
    text, url, names = installed(tmp_path)
    assert "cacacac" in text and url.partition("#")[0] == beside.as_uri()
    assert {"pytest-9.0", f"vllm-{VLLM.version}"} <= {*names}
    assert not any(name.startswith("torchvision") for name in names)
    status, said = make(tox, CELL, tmp_path, listed, UV_EXCLUDE_NEWER="2030-01-01")
    assert status == 0 and "packages as in" not in said and "pytest-9.0" in installed(tmp_path)[2]
    status, said = make(tox, CELL, tmp_path, listed, TOX_RECREATE="yes")
    assert status == 0 and "packages as in" not in said, said
    assert "pytest-9.1" in installed(tmp_path)[2]


@pytest.mark.parametrize("need", ["pytest>=9.1", "more"])
@pytest.mark.programs
def test_a_candidate_that_requires_more_is_installed_from_the_index(
    tox: Tox, tmp_path: Path, index: Path, beside: Path, need: str
) -> None:
    """Neither a newer version than the one beside it, nor a package that was not there."""
    if need == "pytest>=9.1":
        wheel = write_wheel(tmp_path / "rc", "torch", "2.16.0", need)
    else:
        wheel = write_wheel(tmp_path / "rc", "torch", "2.16.0", "more")
        write_wheel(index, "more", "1.0")
    status, said = make(tox, CELL, tmp_path, add(wheel, tmp_path))
    assert status == 0, said
    names = installed_names(tmp_path)
    assert "pytest-9.1" in names if need == "pytest>=9.1" else "more-1.0" in names


@pytest.mark.programs
def test_a_wrong_hash_is_refused_beside_another_environment_too(
    tox: Tox, tmp_path: Path, beside: Path
) -> None:
    listed = add(beside, tmp_path)
    write_wheel(tmp_path / "rc", "torch", "2.16.0")
    status, said = make(tox, CELL, tmp_path, listed)
    assert status != 0 and "Hash mismatch" in said
    assert not list((tmp_path / "tox" / CELL).glob("lib/python*/site-packages/torch"))


@pytest.mark.programs
def test_a_file_with_another_hash_is_not_installed(tox: Tox, tmp_path: Path, index: Path) -> None:
    members = {"torch/version.py": "git_version = 'cacacac'\n"}
    wheel = write_wheel(tmp_path / "rc", "torch", "2.16.0", members=members)
    listed = tmp_path / "candidates.toml"
    write_candidates(Candidates(every=(candidate(wheel),)), listed)
    write_wheel(tmp_path / "rc", "torch", "2.16.0")
    status, said = make(tox, CELL, tmp_path, listed)
    assert status != 0
    assert "Hash mismatch" in said
    assert not list((tmp_path / "tox" / CELL).glob("lib/python*/site-packages/torch"))


def test_the_deps_are_requirements_that_name_a_file(tox: Tox, listed: Path) -> None:
    said = config(tox, "py312-torch216rc1-vllmmain", listed)
    lines = [line.strip() for line in said.splitlines() if " @ " in line]
    wanted = [Requirement(line) for line in lines]
    assert [requirement.name for requirement in wanted] == [
        "torch",
        "torchvision",
        "triton",
        "vllm",
    ]
    assert all("#sha256=" in str(requirement.url) for requirement in wanted)


BUILT = f"{HERE}-torch214-vllmmain"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a user's index: a torch with its companions, and tools of a build that do nothing."""
    monkeypatch.setenv("MATRIX_CACHE", str(tmp_path / "builds"))
    folder = tmp_path / "index"
    for name, version in (
        ("pytest", "9.0"),
        ("setuptools", "80.0.0"),
        ("setuptools_scm", "9.0.0"),
        ("wheel", "0.45"),
        ("cmake", "4.0"),
        ("ninja", "1.13"),
        ("torchvision", "0.29.0"),
    ):
        write_wheel(folder, name, version)
    for constraint in map(Requirement, load_releases().constraints("0.33.0")):
        write_wheel(folder, constraint.name.replace("-", "_"), "99.0")
    members = {"torch/__init__.py": "__version__ = '2.14.0'\n"}
    write_wheel(folder, "torch", "2.14.0", members=members)
    return folder


def from_sources(tmp_path: Path, *, fault: str = "pass", kind: str = "commit") -> Path:
    """Write a file with the candidate of a folder of sources, of its one commit or of an sdist."""
    folder = write_tree(tmp_path / "vllm", fault=fault)
    commit = commit_all(folder, tag="v0.33.0")
    wanted = CandidateRequest(name="vllmmain", project=Project.VLLM)
    if kind == "tree":
        found = from_tree(wanted, str(folder), None)
    elif kind == "sdist":
        found = from_sdist(wanted, str(write_sdist(tmp_path / "sdist", "0.33.0")), None)
    else:
        found = from_commit(wanted, f"{folder}@{commit}", None, lambda _: None)
    return write_candidates(Candidates(every=(found.candidate,)), tmp_path / "candidates.toml")


def packages(tmp_path: Path) -> set[str]:
    """Return what is installed in the environment of a cell whose vLLM is built."""
    found = (tmp_path / "tox" / BUILT).glob("lib/python*/site-packages/*.dist-info")
    return {path.name.partition("-")[0] for path in found}


def the_record(tmp_path: Path, platform: str = "cpu") -> Record:
    (path,) = (tmp_path / "records" / platform).glob("*.json")
    return read(path)


def for_cuda(tmp_path: Path) -> Path:
    """Write a file with the candidate of a commit that is compiled on cuda."""
    listed = from_sources(tmp_path)
    (added,) = load_candidates(listed).every
    compiled = replace(added, on_cuda=OnCuda(way=Made.COMPILED))
    return write_candidates(Candidates(every=(compiled,)), listed)


@pytest.mark.programs
@pytest.mark.parametrize(
    ("kind", "version"), [("commit", "0.33.0+g"), ("tree", "0.33.0+d"), ("sdist", "0.33.0)")]
)
def test_sources_are_built_once_and_installed_with_torch_and_its_companions(
    tox: Tox, tmp_path: Path, tools: Path, kind: str, version: str
) -> None:
    listed = from_sources(tmp_path, kind=kind)
    assert f"-r {tmp_path / 'tox' / BUILT / 'tmp' / 'built.txt'}" in config(tox, BUILT, listed)
    status, said = make(tox, BUILT, tmp_path, listed)
    assert status == 0, said
    assert f"matrix: vllmmain (vllm {version}" in said and "was built in " in said
    assert {"torch", "torchvision", "vllm"} <= packages(tmp_path)
    (site,) = (tmp_path / "tox" / BUILT).glob("lib/python*/site-packages")
    url = json.loads(next(site.glob("vllm-*/direct_url.json")).read_text())["url"]
    assert url.startswith((tmp_path / "builds" / "vllm-wheels").as_uri())
    assert "2.14.0" in (site / "vllm" / "torch_of_the_build.py").read_text()
    (site / "of-the-first-time").touch()
    status, said = make(tox, BUILT, tmp_path, listed)
    assert status == 0, said
    assert "was built before" in said and (site / "of-the-first-time").exists()
    assert not (tmp_path / "records").exists()


@pytest.mark.programs
def test_sources_that_do_not_build_leave_a_record_and_no_environment(
    tox: Tox, tmp_path: Path, tools: Path
) -> None:
    status, said = make(tox, BUILT, tmp_path, from_sources(tmp_path, fault="import nowhere"))
    assert status == 1, said
    record = the_record(tmp_path)
    assert record.error is not None and record.error.kind is ErrorKind.BUILDS
    wanted = "its sources do not build: ModuleNotFoundError: No module named 'nowhere'"
    assert record.error.reason == wanted
    assert f"matrix: {BUILT}: {wanted} (record: " in said and "Traceback" not in said
    assert [(rung.rung, rung.ok) for rung in record.rungs] == [("builds", False)]
    origin = record.origin("vllm")
    assert origin is not None and origin.made is Made.WITHOUT_COMPILING
    assert origin.revision is not None and len(origin.revision) == 40
    assert [path.name for path in (tmp_path / "tox" / BUILT).glob("*")] in ([], ["file.lock"])
    assert not list((tmp_path / "builds").glob("vllm-wheels/*"))


@pytest.mark.programs
def test_a_machine_that_cannot_build_blames_nobody(tox: Tox, tmp_path: Path, tools: Path) -> None:
    next(tools.glob("setuptools_scm-*")).unlink()
    status, said = make(tox, BUILT, tmp_path, from_sources(tmp_path))
    record = the_record(tmp_path)
    assert status == 1 and record.rungs == (), said
    assert record.error is not None and record.error.kind is ErrorKind.NOT_BUILT
    assert "setuptools-scm" in record.error.reason and "\n" not in record.error.reason


@pytest.mark.programs
def test_a_tree_that_changed_is_refused_before_anything_is_made(
    tox: Tox, tmp_path: Path, tools: Path
) -> None:
    listed = from_sources(tmp_path, kind="tree")
    (tmp_path / "vllm" / "setup.py").write_text("changed = True\n")
    status, said = make(tox, BUILT, tmp_path, listed)
    assert status == 2 and len(said.splitlines()) == 1, said
    assert said.startswith("matrix: candidate 'vllmmain': ") and "add it again: matrix" in said
    assert not (tmp_path / "records").exists()
    assert not (tmp_path / "tox" / BUILT).exists()


@pytest.mark.programs
def test_one_commit_is_compiled_for_cuda_and_not_for_the_cpu(
    tox: Tox, tmp_path: Path, tools: Path
) -> None:
    listed = for_cuda(tmp_path)
    compiler = {
        "CUDA_HOME": str(write_nvcc(tmp_path / "cuda")),
        "TORCH_CUDA_ARCH_LIST": "9.0",
    }
    status, said = make(tox, BUILT, tmp_path, listed, "cuda", **compiler)
    assert status == 0, said
    assert "is built with nvcc 13.0 for 9.0, or was before" in said
    (site,) = (tmp_path / "tox" / BUILT).glob("lib/python*/site-packages")
    core = site / "vllm" / "_C_stable_libtorch.abi3.so"
    assert core.read_text().endswith("for 9.0\n")
    status, said = make(tox, BUILT, tmp_path, listed)
    assert status == 0, said
    assert not core.exists() and list(site.glob("vllm-*empty.dist-info"))
    status, said = make(tox, BUILT, tmp_path, listed, "cuda", **compiler)
    assert "was built before, with nvcc 13.0" in said and core.exists()


@pytest.mark.programs
def test_what_the_compiler_of_the_user_says_is_in_the_record(
    tox: Tox, tmp_path: Path, tools: Path
) -> None:
    home = write_nvcc(tmp_path / "cuda", fault='echo "$1(1): error: no such op"; exit 1')
    environ = {"CUDA_HOME": str(home), "TORCH_CUDA_ARCH_LIST": "9.0"}
    status, said = make(tox, BUILT, tmp_path, for_cuda(tmp_path), "cuda", **environ)
    assert status == 1, said
    record = the_record(tmp_path, "cuda")
    assert record.error is not None and record.error.kind is ErrorKind.BUILDS
    assert record.error.reason == "its sources do not build: csrc/ops.cu(1): error: no such op"
    assert [(rung.rung, rung.ok) for rung in record.rungs] == [("builds", False)]
    origin = record.origin("vllm")
    assert origin is not None and origin.made is Made.COMPILED


@pytest.mark.programs
def test_a_machine_without_nvcc_or_gpu_is_no_fault_of_the_sources(
    tox: Tox, tmp_path: Path, tools: Path
) -> None:
    status, said = make(
        tox, BUILT, tmp_path, for_cuda(tmp_path), "cuda", CUDA_HOME=str(tmp_path / "nowhere")
    )
    record = the_record(tmp_path, "cuda")
    assert status == 1 and record.rungs == (), said
    assert record.error is not None and record.error.kind is ErrorKind.NOT_BUILT
    assert "install the CUDA toolkit" in record.error.reason
