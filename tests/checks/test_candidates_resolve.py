"""`matrix resolve` on candidates: a real uv gets their files by address and hash."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from candidates import keep_built, torch_candidate, vllm_candidate
from command import matrix
from fake_wheels import write_torch, write_wheel
from local_index import Served, serving
from matrix._util.files import digest_of
from matrix.catalog.candidates.collection import Candidates
from matrix.catalog.candidates.file import load_candidates, write_candidates
from matrix.catalog.candidates.model import Candidate, Commit, File, OnIndex, Wheel
from matrix.catalog.cells import Cell
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.checks.lookup import load_answers
from matrix.checks.resolution.cache import RESOLUTIONS_FILE, candidates_path, load_resolutions
from matrix.checks.resolution.uv_output import read_conflict
from matrix.record.model import Platform
from matrix.report.facts import facts_words
from small_index import leave_settings

CELL = "py312-torch216rc1-vllm033"
RUNTIME = "nvidia_cuda_runtime"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: Served) -> Path:
    """Make a folder with a cache and candidates of its own; `served` is the user's own index."""
    leave_settings(monkeypatch, tmp_path)
    monkeypatch.setenv("UV_DEFAULT_INDEX", served.url)
    monkeypatch.setenv("MATRIX_CACHE", str(tmp_path / "matrix-cache"))
    monkeypatch.setenv("MATRIX_CANDIDATES", str(tmp_path / "candidates.toml"))
    for wheel in (
        write_wheel(tmp_path, "vllm", "0.33.0", needs=["torch==2.15.0", "torchvision==0.30.0"]),
        write_wheel(tmp_path, RUNTIME, "13.0.96"),
        write_wheel(tmp_path, "cuda_python", "13.1.0"),
        write_torch(tmp_path, "2.16.0", local=""),
    ):
        served.add_wheel(wheel)
    return tmp_path


@pytest.fixture
def rc(here: Path) -> Iterator[Served]:
    """Give the candidate's own index: a torch of the version of a release, and its companions."""
    folder = here / "rc"
    folder.mkdir()
    wheels = [
        write_torch(folder, "2.16.0+cu130", needs=["triton==3.8.0", f"{RUNTIME}==13.0.96"]),
        write_wheel(folder, "torchvision", "0.31.0+cu130", needs=["torch==2.16.0"]),
        write_wheel(folder, "triton", "3.8.0"),
    ]
    with serving(*wheels) as index:
        yield index


def file_of(index: Served, project: str) -> File:
    (row,) = index.projects[project]
    return File(name=row["filename"], url=row["url"], sha256=row["hashes"]["sha256"])


def torch(index: Served, *companions: str, **changes: object) -> Candidate:
    source = OnIndex(index=index.url, version="2.16.0+cu130", channel="test/cu130")
    candidate = replace(
        torch_candidate(version="2.16.0+cu130"),
        source=source,
        files=(file_of(index, "torch"),),
        companions=tuple(file_of(index, name) for name in companions),
    )
    return replace(candidate, **changes)  # type: ignore[arg-type]


def add(*every: Candidate) -> Releases:
    write_candidates(Candidates(every=every))
    return load_releases()


def resolve(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return matrix(here, "resolve", *arguments)


def test_a_candidate_resolves_with_its_own_files_as_tox_installs_it(
    here: Path, rc: Served, served: Served
) -> None:
    candidate = torch(rc, "torchvision", "triton")
    releases = add(candidate)
    before = RESOLUTIONS_FILE.read_bytes()
    done = resolve(here, CELL)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "override" in done.stdout
    assert "resolves: 6 packages (torchvision 0.31.0+cu130, triton 3.8.0)" in done.stdout
    (row,) = load_resolutions(candidates_path()).rows
    assert row.cell == Cell("3.12", candidate.key, "0.33.0")
    assert row.packages["torch"] == "2.16.0+cu130"
    assert RESOLUTIONS_FILE.read_bytes() == before
    asked = [path for path, _ in served.asked]
    assert not any("torch" in path for path in asked)
    for platform in Platform:
        answer = load_answers(releases).resolves(row.cell, platform)
        assert answer is not None and answer.ok
    release = load_answers(releases).resolves(Cell("3.12", "2.16.0", "0.33.0"), Platform.CPU)
    assert release is None
    again = resolve(here, CELL)
    assert "1 known before" in again.stdout


def test_a_companion_from_elsewhere_is_not_looked_for_on_the_index(
    here: Path, rc: Served, served: Served
) -> None:
    path = served.add_wheel(write_wheel(here, "torchvision", "0.32.0", needs=["torch==2.16.0"]))
    url = f"{served.url.removesuffix('/simple/')}{path}"
    candidate = torch(rc, "torchvision", "triton")
    vision = replace(file_of(served, "torchvision"), url=url)
    assert isinstance(candidate.source, OnIndex)
    source = replace(candidate.source, companions=(url,))
    add(replace(candidate, source=source, companions=(vision, candidate.companions[1])))
    done = resolve(here, CELL)
    assert done.returncode == 0, done.stderr
    assert "resolves: 6 packages (torchvision 0.32.0, triton 3.8.0)" in done.stdout


def test_another_build_of_the_name_has_no_answer(here: Path, rc: Served) -> None:
    add(torch(rc, "torchvision", "triton"))
    assert resolve(here, CELL).returncode == 0
    other = write_torch(here / "rc", "2.16.0+cu130", needs=["triton"], git_version="ab" * 20)
    rc.change(other)
    new = torch(rc, "torchvision", "triton")
    releases = add(new)
    assert load_answers(releases).resolves(Cell("3.12", new.key, "0.33.0"), Platform.CPU) is None
    assert "1 asked in" in resolve(here, CELL).stdout
    assert len(load_resolutions(candidates_path()).rows) == 2


@pytest.mark.parametrize("there", ["none", "older"])
def test_an_index_that_lacks_a_companion_is_unknown(
    here: Path, rc: Served, served: Served, there: str
) -> None:
    if there == "older":
        served.add_wheel(write_wheel(here, "triton", "3.7.0"))
    releases = add(torch(rc, "torchvision"))
    done = resolve(here, CELL)
    assert "0 do not" in done.stdout
    cell = releases.resolve(CELL)
    answer = load_answers(releases).resolves(cell, Platform.CPU)
    if there == "none":
        assert done.returncode == 2
        assert "no answer: the index has no triton" in done.stdout
        assert answer is None
    else:
        assert done.returncode == 0
        assert "not known yet: torch 2.16.0+cu130 needs triton==3.8.0" in done.stdout
        assert answer is not None and answer.unknown


def test_a_pinned_companion_that_the_own_index_lacks_is_no_answer(
    here: Path, rc: Served, served: Served
) -> None:
    served.add_wheel(write_wheel(here, "torchvision", "0.30.0"))
    add(torch(rc, "triton", pins={"torchvision": "0.31.0"}))
    done = resolve(here, CELL)
    assert done.returncode == 2
    assert "no answer: the index has no torchvision 0.31.0" in done.stdout
    assert not candidates_path().exists()


def test_two_demands_of_packages_are_still_a_conflict(here: Path, rc: Served) -> None:
    text = (
        "Because torch==2.16.0 depends on triton<3 and vllm==0.33.0 depends on triton>=3, we can"
        " conclude that they cannot be used together."
    )
    asked = {"torch": "2.16.0", "vllm": "0.33.0"}
    assert read_conflict(text, asked, "3.12", "", ("triton",)).cause == "conflict"
    lacking = "Because there is no version of triton==3.8.0 and torch==2.16.0 depends on"
    lacking += " triton==3.8.0, we can conclude that torch==2.16.0 cannot be used."
    found = read_conflict(lacking, asked, "3.12", "", ("triton",))
    assert (found.cause, facts_words(found.facts)) == (
        "not published",
        "torch 2.16.0 needs triton==3.8.0, and the index has no triton==3.8.0",
    )


@pytest.mark.parametrize("fault", ["withdrawn", "changed", "local gone", "local changed"])
def test_a_file_that_is_gone_or_changed_is_one_line(here: Path, rc: Served, fault: str) -> None:
    candidate = torch(rc, "torchvision", "triton")
    wheel = here / "rc" / candidate.files[0].name
    other = write_torch(here, "2.16.0+cu130", git_version="ab" * 20)
    if fault == "withdrawn":
        rc.withdraw(wheel.name)
    elif fault == "changed":
        rc.change(other)
    else:
        local = File(name=wheel.name, url=wheel.as_uri(), sha256=digest_of(wheel))
        source = Wheel(location=str(wheel), sha256=local.sha256)
        candidate = replace(candidate, files=(local,), source=source)
        wheel.unlink()
        if fault == "local changed":
            wheel.write_bytes(other.read_bytes())
    add(candidate)
    done = resolve(here, CELL)
    assert done.returncode == 2
    line, summary = done.stdout.splitlines()
    message = {
        "withdrawn": "torch-2.16.0+cu130",
        "changed": "its SHA-256 on the index",
        "local gone": "does not exist",
        "local changed": "its SHA-256 is",
    }[fault]
    assert "no answer: " in line and message in line
    assert "1 without an answer" in summary
    assert not candidates_path().exists()


def commit() -> Candidate:
    source = Commit(repository="https://git.example/vllm", revision="41" * 20)
    pins = {"torch": "2.15.0", "torchvision": "0.30.0", "torchaudio": "2.11.0"}
    return replace(vllm_candidate("vllmfix", "0.34.0"), source=source, files=(), pins=pins)


def test_a_vllm_from_sources_is_asked_about_once_it_was_built(here: Path, served: Served) -> None:
    served.add_wheel(write_wheel(here, "torch", "2.15.0", needs=[RUNTIME]))
    for name, version in (("torchvision", "0.30.0"), ("torchaudio", "2.11.0")):
        served.add_wheel(write_wheel(here, name, version))
    candidate, cell = commit(), "py312-torch215-vllmfix"
    add(candidate)
    done = resolve(here, cell)
    assert done.returncode == 2
    assert done.stderr == (
        f"matrix: {cell}: vllmfix is built from its sources, and was not yet for Python 3.12:"
        f" tox -e {cell} --notest builds it\n"
    )
    wheel = write_wheel(here, "vllm", "0.34.0+empty", needs=["torchaudio"])
    keep_built(here / "matrix-cache", wheel, candidate)
    done = resolve(here, cell)
    assert (done.returncode, done.stderr) == (0, "")
    # A constraint for its vLLM adds a package.
    ranges = [
        SpecifierSet(constraint.vllm.text or "") for constraint in load_releases().constrained
    ]
    added = sum("0.34.0" in versions for versions in ranges)
    assert f"resolves: {5 + added} packages" in done.stdout
    (row,) = load_resolutions(candidates_path()).rows
    assert row.override is None
    answers = load_answers(load_releases())
    found = [answers.resolves(row.cell, platform) for platform in (Platform.CPU, Platform.CUDA)]
    assert [answer is not None and answer.ok for answer in found] == [True, False]


@pytest.mark.parametrize("changes", [{"python": "3.13"}, {"identity": "00"}, {"sha256": "00"}])
def test_a_wheel_of_another_build_is_not_taken(here: Path, changes: dict[str, str]) -> None:
    candidate = commit()
    add(candidate)
    wheel = write_wheel(here, "vllm", "0.34.0+empty")
    keep_built(here / "matrix-cache", wheel, candidate, **changes)
    done = resolve(here, "py312-torch215-vllmfix")
    assert (done.returncode, "was not yet for Python 3.12" in done.stderr) == (2, True)


def test_a_candidate_that_was_removed_is_one_line(here: Path, rc: Served) -> None:
    add(torch(rc, "torchvision", "triton"))
    assert resolve(here, CELL).returncode == 0
    write_candidates(Candidates())
    assert load_candidates().every == ()
    done = resolve(here, CELL)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert "candidate 'torch216rc1': is not known" in line
    stale = resolve(here, "--data", "none.json", "--stale", "-1")
    assert (stale.returncode, stale.stdout) == (2, "")
    assert "no answer is older" in stale.stderr


def names(index: Served) -> Sequence[str]:
    return [path for path, _ in index.asked]


def test_the_url_of_the_answer_is_not_kept(here: Path, rc: Served) -> None:
    add(torch(rc, "torchvision", "triton"))
    assert resolve(here, CELL).returncode == 0
    assert "://" not in candidates_path().read_text()
    assert any(path.endswith((".whl", ".metadata")) for path in names(rc))
