"""A bundle with candidates: their own wheels are in it, and its runner installs them offline."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from candidates import keep_built, torch_candidate, vllm_candidate, with_candidates
from command import matrix
from fake_wheels import GIT_VERSION, write_torch, write_wheel
from local_index import Served
from matrix._util.files import digest_of
from matrix.bundle import build
from matrix.bundle.build import BundleRequest, make_bundle, refresh_bundle
from matrix.bundle.candidates import without_paths
from matrix.bundle.manifest import faults, read_manifest
from matrix.bundle.plan import Have
from matrix.catalog.candidates.collection import Candidates
from matrix.catalog.candidates.file import load_candidates, write_candidates
from matrix.catalog.candidates.model import (
    Candidate,
    Commit,
    File,
    OnCuda,
    Sdist,
    Tree,
    Wheel,
)
from matrix.catalog.cells import Cell, Made
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.checks.resolution import resolver
from matrix.checks.resolution.lock import Pinned, Target
from matrix.errors import MatrixError

PYTHON = ".".join(map(str, sys.version_info[:2]))
TARGET = Target(python=PYTHON)
HAVE = tuple(Have(name=name, version=metadata.version(name)) for name in ("packaging", "pytest"))
ANY = "py3-none-any"
VLLM = "0.16.0"
PIN = "2.9.1"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: Served) -> Path:
    """Make a folder of candidates' wheels; `served` is uv's index of all else."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "UV_NO_CONFIG": "1",
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
        "UV_DEFAULT_INDEX": served.url,
        "MATRIX_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "index"
    folder.mkdir()
    of_pin = load_releases().revision(Project.TORCH, PIN)
    assert of_pin is not None
    script = f'#!/bin/sh\nexec {shlex.join(resolver.uv())} "$@"\n'
    wheels = [
        write_wheel(folder, "vllm", VLLM, needs=[f"torch=={PIN}"]),
        write_torch(folder, PIN, local="", needs=["triton"], tag=ANY, git_version=of_pin),
        write_wheel(folder, "torchvision", "0.24.1"),
        write_wheel(folder, "torchaudio", PIN),
        write_wheel(folder, "triton", "3.5.1"),
        write_wheel(folder, "uv", "1.0", {"uv-1.0.data/scripts/uv": script}),
        *(write_wheel(folder, had.name, had.version) for had in HAVE),
        *((write_wheel(folder, "tomli", "2.0"),) if sys.version_info < (3, 11) else ()),
    ]
    for wheel in wheels:
        served.add_wheel(wheel)
    places = {(wheel.name.split("-")[0], wheel.name.split("-")[1]): wheel for wheel in wheels}

    def copy(pinned: Sequence[Pinned], _: Target, into: Path) -> None:
        for distribution in pinned:
            assert distribution.url is None  # the wheel of a candidate is not fetched so
            shutil.copy(places[distribution.name, distribution.version], into)

    monkeypatch.setattr(build, "fetch", copy)
    made = tmp_path / "made"
    made.mkdir()
    return made


def own(path: Path, url: str | None = None) -> File:
    return File(name=path.name, url=url or path.as_uri(), sha256=digest_of(path))


def torch(place: Path, **changes: Any) -> Candidate:
    """Return a build of the version of a release, with its own triton."""
    wheel = write_torch(place, PIN, local="", needs=["triton"], tag=ANY)
    facts: dict[str, Any] = {
        "source": Wheel(location=str(wheel), sha256=digest_of(wheel)),
        "files": (own(wheel),),
        "companions": (own(write_wheel(place, "triton", "3.5.1", {"triton/a.py": "x = 1\n"})),),
        "pins": {"torchvision": "0.24.1"},
        "python": None,
        "cuda": None,
        **changes,
    }
    return replace(torch_candidate("torchmine", PIN), **facts)


def request(cell: Cell, *more: Cell, **changes: Any) -> BundleRequest:
    return BundleRequest(**{"cells": (cell, *more), "target": TARGET, "have": HAVE, **changes})


def run(
    bundle: Path, cwd: Path, *arguments: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Start the bundle's run.py as a person does, on a machine without a network."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("UV_")}
    return subprocess.run(
        [sys.executable, str(bundle / "run.py"), *arguments, "--platform", "cpu"],
        cwd=cwd,
        env={**clean, "HOME": str(cwd), "MATRIX_CANDIDATES": "/nowhere", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def record_of(cwd: Path) -> Mapping[str, Any]:
    (path,) = [path for path in (cwd / "records").rglob("*.json") if "junit" not in path.name]
    found: Mapping[str, Any] = json.loads(path.read_text())
    return found


def origin(record: Mapping[str, Any], project: str) -> Mapping[str, Any]:
    (found,) = [row for row in record["origins"] if row["project"] == project]
    assert isinstance(found, dict)
    return found


def checked(out: Path) -> dict[str, Any]:
    """Check a bundle's manifest by its schema, and its files; return it."""
    data: dict[str, Any] = json.loads((out / "bundle.json").read_text())
    schema = json.loads((resources.files("matrix") / "data" / "bundle.schema.json").read_text())
    jsonschema.validate(data, schema)
    assert faults(read_manifest(out), out) == []
    return data


@pytest.mark.programs
@pytest.mark.parametrize("changes", [{}, {"repack": True, "split": 50_000}])
def test_a_candidate_is_installed_from_its_bundle_and_is_what_was_asked_for(
    place: Path, tmp_path: Path, served: Served, changes: dict[str, Any]
) -> None:
    candidate = torch(place)
    assert candidate.revision is None
    releases, out = with_candidates(candidate), tmp_path / "out"
    cell = Cell(PYTHON, candidate.key, VLLM)
    release = Cell(PYTHON, PIN, VLLM)
    make_bundle(request(cell, release, **changes), releases, out)
    data = checked(out)
    build = {"name": "torchmine", "identity": candidate.identity, "version": PIN}
    assert data["cells"][cell.name]["candidates"] == {"torch": build}
    assert "candidates" not in data["cells"][release.name]
    assert str(tmp_path) not in json.dumps(data)
    locks = {
        name: {line["name"]: line for line in row["lock"]} for name, row in data["cells"].items()
    }
    by_file = {name for name, line in locks[cell.name].items() if line.get("by_file")}
    assert by_file == {"torch", "triton"}
    assert locks[cell.name]["torch"]["wheel"] != locks[release.name]["torch"]["wheel"]
    shutil.rmtree(place)
    served.projects.clear()
    served.contents.clear()

    target = tmp_path / "target"
    target.mkdir()
    done = run(out, target, cell.name)
    assert "is not the cell" not in done.stderr, done.stderr
    record = record_of(target)
    found = origin(record, "torch")
    assert found["candidate"] == {"name": "torchmine", "identity": candidate.identity}
    assert found["sha256"] == candidate.files[0].sha256
    assert found["revision"] == GIT_VERSION
    assert (record["error"] or {}).get("kind") != "wrong_cell"
    assert str(tmp_path) not in json.dumps(record["origins"])
    # The vLLM is a release: the bundle knows its wheel, and not where it was published.
    found = origin(record, "vllm")
    wheel = locks[cell.name]["vllm"]["wheel"]
    (item,) = [file for file in data["files"] if file["name"] == wheel]
    assert found["sha256"] == item.get("published", item["sha256"])
    assert wheel.endswith(found["file"]) and found["index"] is None and found["built"] is None


@pytest.mark.programs
def test_another_torch_in_the_environment_is_refused_there(place: Path, tmp_path: Path) -> None:
    candidate = torch(place, revision=GIT_VERSION)
    out, target = tmp_path / "out", tmp_path / "target"
    cell = Cell(PYTHON, candidate.key, VLLM)
    make_bundle(request(cell), with_candidates(candidate), out)
    target.mkdir()
    run(out, target, cell.name, "--timeout", "0")
    (module,) = target.glob(
        ".cache/torch-vllm-matrix/bundle-*/py*/lib/*/site-packages/torch/version.py"
    )
    module.write_text(module.read_text().replace(GIT_VERSION, "cd" * 20))
    done = run(out, target, cell.name)
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert "its torch is of git revision cdcdcdcdcdcd, and torchmine (torch 2.9.1" in line
    assert record_of(target)["error"]["kind"] == "wrong_cell"


def test_the_file_of_candidates_names_no_folder_of_this_machine(
    place: Path, tmp_path: Path
) -> None:
    candidate = torch(place)
    out = tmp_path / "out"
    make_bundle(request(Cell(PYTHON, candidate.key, VLLM)), with_candidates(candidate), out)
    path = out / "candidates" / "candidates.toml"
    assert str(tmp_path) not in path.read_text()
    (there,) = load_candidates(path).every
    assert (there.key, there.files[0].sha256) == (candidate.key, candidate.files[0].sha256)
    refresh_bundle(out)
    assert load_candidates(path).every == (there,)
    checked(out)


@pytest.mark.parametrize(
    "source",
    [
        Wheel(location="/home/me/torch.whl", sha256="ab" * 32),
        Sdist(location="/home/me/vllm-0.33.0.tar.gz", sha256="ab" * 32),
        Tree(path="/home/me/vllm", state="ab"),
        Commit(repository="/home/me/vllm", revision="41" * 20),
    ],
)
def test_a_candidate_without_paths_is_the_same_build(source: Any) -> None:
    if isinstance(source, Wheel):
        candidate = replace(torch_candidate(), source=source)
    else:
        candidate = replace(vllm_candidate(), source=source, files=())
    clean = without_paths(candidate)
    assert clean.key == candidate.key
    assert "/home" not in repr(clean)


@pytest.mark.programs
def test_a_vllm_from_sources_has_the_wheel_that_was_built(place: Path, tmp_path: Path) -> None:
    source = Commit(repository=str(place), revision="41" * 20)
    pins = {"torch": PIN, "torchvision": "0.24.1", "torchaudio": PIN}
    made = replace(vllm_candidate("vllmfix", "0.17.0"), source=source, files=(), pins=pins)
    candidate = replace(made, python=None)
    text = f"__commit_id__ = commit_id = 'g{'41' * 20}'\n"
    members = {"vllm/__init__.py": "", "vllm/_version.py": text}
    wheel = write_wheel(place, "vllm", "0.17.0+empty", members)
    releases, cell = with_candidates(candidate), Cell(PYTHON, PIN, candidate.key)
    with pytest.raises(MatrixError, match="candidate 'vllmfix': is built from its sources, and"):
        make_bundle(request(cell), releases, tmp_path / "none")
    out, target = tmp_path / "out", tmp_path / "target"
    make_bundle(request(cell, built={cell.name: own(wheel)}), releases, out)
    build = checked(out)["cells"][cell.name]["candidates"]["vllm"]
    assert (build["identity"], build["revision"]) == (candidate.identity, "41" * 20)
    target.mkdir()
    done = run(out, target, cell.name)
    assert "is not the cell" not in done.stderr, done.stderr
    found = origin(record_of(target), "vllm")
    assert found["candidate"]["identity"] == candidate.identity
    assert (found["revision"], found["version"]) == ("41" * 20, "0.17.0+empty")


def test_the_command_takes_the_wheel_that_tox_built(place: Path, tmp_path: Path) -> None:
    source = Commit(repository="https://git.example/vllm", revision="41" * 20)
    pins = {"torch": PIN, "torchvision": "0.24.1", "torchaudio": PIN}
    made = replace(vllm_candidate("vllmfix", "0.17.0"), source=source, files=(), pins=pins)
    candidate = replace(made, python=None)
    wheel = write_wheel(place, "vllm", "0.17.0+empty")
    keep_built(tmp_path / "cache", wheel, candidate, python=PYTHON)
    file = tmp_path / "candidates.toml"
    write_candidates(Candidates(every=(candidate,)), file)
    cell = Cell(PYTHON, PIN, candidate.key).name
    done = matrix(tmp_path, "bundle", cell, "--out", "out", MATRIX_CANDIDATES=str(file))
    assert done.returncode == 0, done.stderr
    (line,) = [
        line for line in checked(tmp_path / "out")["cells"][cell]["lock"] if "by_file" in line
    ]
    assert (line["name"], line["version"]) == ("vllm", "0.17.0+empty")
    unknown = f"py{PYTHON.replace('.', '')}-torchnone-vllm016"
    done = matrix(tmp_path, "bundle", unknown, "--out", "more", MATRIX_CANDIDATES=str(file))
    assert (done.returncode, done.stdout) == (2, "")
    (line_of_error,) = done.stderr.splitlines()
    assert "candidate 'torchnone': is not known" in line_of_error


def test_a_bundle_for_cuda_has_the_published_wheel_of_a_commit(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Commit(repository="https://git.example/vllm", revision="41" * 20)
    pins = {"torch": PIN, "torchvision": "0.24.1", "torchaudio": PIN}
    made = replace(vllm_candidate("vllmfix", "0.17.0"), source=source, files=(), pins=pins)
    wheel = own(write_wheel(place, "vllm", "0.17.0", tag="cp38-abi3-manylinux_2_28_x86_64"))
    way = OnCuda(way=Made.PUBLISHED, files=(wheel,), index="https://wheels.example/main")
    candidate = replace(made, python=None, on_cuda=way)
    monkeypatch.setenv("MATRIX_CANDIDATES", str(tmp_path / "candidates.toml"))
    write_candidates(Candidates(every=(candidate,)))
    cell = Cell(PYTHON, PIN, candidate.key).name
    done = matrix(tmp_path, "bundle", cell, "--out", "out", "--platform", "cuda")
    assert done.returncode == 0, done.stderr
    (line,) = [row for row in checked(tmp_path / "out")["cells"][cell]["lock"] if "by_file" in row]
    assert line["wheel"] == f"candidates/{wheel.sha256[:16]}/{wheel.name}"
    text = (tmp_path / "out" / "candidates" / "candidates.toml").read_text()
    assert wheel.sha256 in text and str(tmp_path) not in text
    compiled = OnCuda(way=Made.COMPILED)
    for on_cuda, message in (
        (compiled, "is compiled where it runs"),
        (None, "for the platform cpu"),
    ):
        write_candidates(Candidates(every=(replace(candidate, on_cuda=on_cuda),)))
        done = matrix(tmp_path, "bundle", cell, "--out", "none", "--platform", "cuda")
        assert (done.returncode, (tmp_path / "none").exists()) == (2, False)
        (line_of_error,) = done.stderr.splitlines()
        assert message in line_of_error


def refused(wanted: BundleRequest, releases: Releases, tmp_path: Path) -> str:
    with pytest.raises(MatrixError) as raised:
        make_bundle(wanted, releases, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_the_target_has_stands_for_a_candidate_by_its_git_revision_alone(
    place: Path, tmp_path: Path
) -> None:
    unknown, known = torch(place), torch(place, revision=GIT_VERSION)
    cell = Cell(PYTHON, unknown.key, VLLM)
    assert known.key == unknown.key
    have = (*HAVE, Have(name="torch", version=PIN))
    message = refused(request(cell, have=have), with_candidates(unknown), tmp_path)
    assert message.startswith(f"--have torch=={PIN}: {cell.name}: the git revision of torchmine is")
    companion = (*HAVE, Have(name="triton", version="3.5.1"))
    message = refused(request(cell, have=companion), with_candidates(known), tmp_path)
    assert "takes the file of a candidate" in message
    make_bundle(request(cell, have=have), with_candidates(known), tmp_path / "out")
    data = checked(tmp_path / "out")
    assert data["cells"][cell.name]["have"]["torch"] == PIN
    assert data["cells"][cell.name]["candidates"]["torch"]["revision"] == GIT_VERSION
    assert not list((tmp_path / "out" / "candidates").glob("*/torch-*.whl"))


@pytest.mark.parametrize("fault", ["gone", "changed", "served gone", "served changed", "machine"])
def test_a_wheel_that_cannot_be_had_is_one_line(
    place: Path, tmp_path: Path, served: Served, fault: str
) -> None:
    candidate = torch(place)
    path = place / candidate.files[0].name
    if fault.startswith("served"):
        served.withdraw(path.name)
        address = f"{served.url[:-8]}{served.add_wheel(path)}"
        candidate = torch(place, files=(own(path, address),))
        served.withdraw(path.name)
    elif fault == "gone":
        path.unlink()
    if fault.endswith("changed"):
        other = write_torch(tmp_path, PIN, local="", tag=ANY, git_version="ef" * 20)
        path.write_bytes(other.read_bytes())
        if fault.startswith("served"):
            served.add_wheel(path)
    if fault == "machine":
        arm = write_torch(place, PIN, local="", tag=f"{ANY[:8]}-manylinux_2_28_aarch64")
        candidate = torch(place, files=(own(arm),))
    cell = Cell(PYTHON, candidate.key, VLLM)
    message = refused(request(cell), with_candidates(candidate), tmp_path)
    assert {
        "gone": "does not exist",
        "changed": "its SHA-256 is",
        "served gone": "404",
        "served changed": "its SHA-256 is",
        "machine": "is not for x86_64 with glibc",
    }[fault] in message


def test_a_candidate_that_was_removed_is_one_line(place: Path, tmp_path: Path) -> None:
    cell = Cell(PYTHON, torch(place).key, VLLM)
    message = refused(request(cell), with_candidates(), tmp_path)
    assert f"cell {cell.name!r}: candidate 'torchmine' is not known" in message


def test_the_wheels_of_an_older_bundle_are_taken_again(place: Path, tmp_path: Path) -> None:
    candidate = torch(place)
    releases, cell = with_candidates(candidate), Cell(PYTHON, candidate.key, VLLM)
    make_bundle(request(cell, repack=True), releases, tmp_path / "old")
    make_bundle(request(cell, repack=True, reuse=tmp_path / "old"), releases, tmp_path / "new")
    old, new = (read_manifest(tmp_path / name) for name in ("old", "new"))
    (name,) = [name for name in new.files if name.startswith("candidates/") and "/torch-" in name]
    assert new.files[name] == old.files[name]
    assert new.files[name].published == candidate.files[0].sha256
    checked(tmp_path / "new")
