"""`matrix linkage` and the rung *links* of candidates: the symbols are those of their wheels."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from candidates import commit_candidate, torch_candidate, vllm_candidate
from command import matrix
from fake_wheels import write_wheel
from local_index import Served
from matrix._util.files import digest_of
from matrix.catalog.candidates.collection import Candidates
from matrix.catalog.candidates.file import write_candidates
from matrix.catalog.candidates.model import Candidate, File, OnCuda
from matrix.catalog.cells import Cell, Made
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.checks.linkage.candidate import candidate_tables, table_path
from matrix.checks.lookup import load_answers
from matrix.record.model import Platform
from matrix.verdict.grid import survey
from matrix.verdict.states import StepState
from schemas import valid

PYTHON = "3.12"
TORCH_TAG = "cp312-cp312-manylinux_2_28_x86_64"
VLLM_TAG = "cp38-abi3-manylinux_2_31_x86_64"


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Make a libtorch.so that has a symbol, one without it, and an extension that needs it."""
    folder = tmp_path_factory.mktemp("libraries")

    def compiled(name: str, text: str, *more: str) -> bytes:
        source, out = folder / f"{name}.c", folder / f"{name}.so"
        source.write_text(text)
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", out, source, *more], check=True)
        return out.read_bytes()

    (folder / "lib").mkdir()
    torch = compiled("torch", "int torch_f(void) { return 1; }", "-Wl,-soname,libtorch.so")
    (folder / "lib" / "libtorch.so").write_bytes(torch)
    text = "int torch_f(void); int g(void) { return torch_f(); }"
    return {
        "torch": torch,
        "old": compiled("old", "int torch_g(void) { return 1; }", "-Wl,-soname,libtorch.so"),
        "vllm": compiled("vllm", text, f"-L{folder / 'lib'}", "-ltorch"),
    }


def torch_wheel(folder: Path, library: bytes, version: str = "2.15.0") -> Path:
    folder.mkdir(exist_ok=True)
    return write_wheel(folder, "torch", version, {"torch/lib/libtorch.so": library}, tag=TORCH_TAG)


def vllm_wheel(folder: Path, members: dict[str, str | bytes], tag: str = VLLM_TAG) -> Path:
    folder.mkdir(exist_ok=True)
    return write_wheel(folder, "vllm", "0.33.0", members, tag=tag)


def own_file(wheel: Path, url: str | None = None) -> File:
    return File(name=wheel.name, url=url or wheel.as_uri(), sha256=digest_of(wheel))


def torch_of(wheel: Path, url: str | None = None, name: str = "torchmine") -> Candidate:
    version = wheel.name.split("-")[1]
    return replace(
        torch_candidate(name, version), files=(own_file(wheel, url),), companions=(), python=None
    )


def vllm_of(*wheels: Path) -> Candidate:
    return replace(vllm_candidate("vllmmine", "0.33.0"), files=tuple(map(own_file, wheels)))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with a cache and candidates of its own."""
    monkeypatch.setenv("MATRIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MATRIX_CANDIDATES", str(tmp_path / "candidates.toml"))
    return tmp_path


def add(*every: Candidate) -> Releases:
    write_candidates(Candidates(every=every))
    return load_releases()


def linkage(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return matrix(here, "linkage", "--python", PYTHON, *arguments)


def links(releases: Releases, torch: str, vllm: str, python: str = PYTHON) -> object:
    return load_answers(releases).links(Cell(python, torch, vllm))


def test_a_pair_of_candidates_is_answered_from_their_wheels(
    here: Path, libraries: dict[str, bytes], served: Served
) -> None:
    wheel = torch_wheel(here / "a", libraries["torch"])
    path = served.add_wheel(wheel)
    torch = torch_of(wheel, f"{served.url[:-8]}{path}")
    vllm = vllm_of(vllm_wheel(here / "b", {"vllm/_C.abi3.so": libraries["vllm"]}))
    releases = add(torch, vllm)
    assert links(releases, torch.key, vllm.key) is None
    done = linkage(here, "--torch", "torchmine", "--vllm", "vllmmine")
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 2)
    assert f"vLLM {vllm.key} with torch {torch.key} on Python 3.12: links\n" in done.stdout
    assert sorted(candidate_tables(releases.candidates.every)) == sorted([torch.key, vllm.key])
    served.withdraw(wheel.name)
    again = linkage(here, "--torch", "torchmine", "--vllm", "vllmmine", "--json")
    assert (again.returncode, again.stderr) == (0, "")
    [row] = valid("linkage", again.stdout)["pairs"]
    assert row["builds"]["torch"]["version"] == "2.15.0"
    assert (row["torch"], row["builds"]["torch"]["sha256"]) == (torch.key, digest_of(wheel))


def test_a_candidate_and_a_release_of_one_version_never_share_a_table(
    here: Path, libraries: dict[str, bytes]
) -> None:
    torch = torch_of(torch_wheel(here / "a", libraries["old"]))
    vllm = vllm_of(vllm_wheel(here / "b", {"vllm/_C.abi3.so": libraries["vllm"]}))
    releases = add(torch, vllm)
    done = linkage(here, "--torch", "torchmine", "--vllm", "vllmmine")
    assert done.returncode == 1
    assert "does not link" in done.stdout and "torch_f" in done.stdout
    answer = load_answers(releases).links(Cell(PYTHON, "2.15.0", "0.33.0"))
    assert answer is not None and answer.ok
    assert not list((here / "cache").glob("**/torch-2.15.0.table"))


def test_a_newer_build_of_the_name_has_no_table(here: Path, libraries: dict[str, bytes]) -> None:
    old = torch_of(torch_wheel(here / "a", libraries["old"]))
    vllm = vllm_of(vllm_wheel(here / "b", {"vllm/_C.abi3.so": libraries["vllm"]}))
    add(old, vllm)
    assert linkage(here, "--torch", "torchmine", "--vllm", "vllmmine").returncode == 1
    new = torch_of(torch_wheel(here / "c", libraries["torch"]))
    releases = add(new, vllm)
    assert new.key != old.key
    assert links(releases, new.key, vllm.key) is None
    assert linkage(here, "--torch", "torchmine", "--vllm", "vllmmine").returncode == 0


def test_the_grid_has_the_rung_links_of_a_candidate(
    here: Path, libraries: dict[str, bytes]
) -> None:
    torch = torch_of(torch_wheel(here / "a", libraries["old"]))
    vllm = vllm_of(vllm_wheel(here / "b", {"vllm/_C.abi3.so": libraries["vllm"]}))
    releases = add(torch, vllm)
    assert linkage(here, "--torch", "torchmine", "--vllm", "vllmmine").returncode == 1
    grid = survey(releases, links=load_answers(releases).links)
    cell = Cell(PYTHON, torch.key, vllm.key)
    steps = {
        platform: grid.progress(cell, platform).steps[2]  # type: ignore[union-attr]
        for platform in Platform
    }
    assert steps[Platform.CUDA].state is StepState.FAILED
    assert steps[Platform.CPU].state is StepState.NOT_NEEDED


@pytest.mark.parametrize("kind", ["built", "empty wheel"])
def test_a_vllm_without_extensions_does_not_link_and_is_not_blamed(here: Path, kind: str) -> None:
    empty = vllm_of(vllm_wheel(here / "b", {"vllm/__init__.py": ""}, tag="py3-none-any"))
    vllm = commit_candidate() if kind == "built" else empty
    releases = add(vllm)
    done = linkage(here, "--torch", "2.15", "--vllm", vllm.name)
    assert done.returncode == 0
    assert "the rung links does not apply; on cuda it is unknown" in done.stdout
    as_json = valid("linkage", linkage(here, "--vllm", vllm.name, "--json").stdout)
    assert as_json["pairs"][0]["ok"] is None
    cell = Cell(PYTHON, vllm.pins["torch"], vllm.key)
    grid = survey(releases, links=load_answers(releases).links)
    progress = grid.progress(cell, Platform.CUDA)
    assert progress is not None and progress.fails is None
    assert "links" in progress.unknown
    assert progress.steps[2].reason is not None
    cpu = grid.progress(cell, Platform.CPU)
    assert cpu is not None and cpu.steps[2].state is StepState.NOT_NEEDED


@pytest.mark.parametrize("way", [Made.PUBLISHED, Made.WITH_EXTENSIONS])
def test_a_vllm_from_sources_links_as_the_wheel_of_its_way_to_cuda(
    here: Path, libraries: dict[str, bytes], way: Made
) -> None:
    torch = torch_of(torch_wheel(here / "a", libraries["old"]))
    wheel = vllm_of(vllm_wheel(here / "b", {"vllm/_C.abi3.so": libraries["vllm"]}))
    on_cuda = OnCuda(way=way, files=wheel.files)
    vllm = replace(commit_candidate(), version=wheel.version, on_cuda=on_cuda)
    releases = add(torch, vllm)
    done = linkage(here, "--torch", "torchmine", "--vllm", "vllmfix")
    assert done.returncode == 1 and "torch_f" in done.stdout
    grid = survey(releases, links=load_answers(releases).links)
    cell = Cell(PYTHON, torch.key, vllm.key)
    cuda, cpu = (grid.progress(cell, platform) for platform in (Platform.CUDA, Platform.CPU))
    assert cuda is not None and cuda.steps[2].state is StepState.FAILED
    assert cpu is not None and cpu.steps[2].state is StepState.NOT_NEEDED
    built = replace(vllm, on_cuda=OnCuda(way=Made.COMPILED))
    found = load_answers(add(torch, built)).links(Cell(PYTHON, torch.key, built.key))
    assert found is not None and found.unknown


def test_a_table_of_one_python_answers_for_no_other(
    here: Path, libraries: dict[str, bytes]
) -> None:
    extension: dict[str, str | bytes] = {"vllm/_C.so": libraries["vllm"]}
    wheels = [
        vllm_wheel(here / python, extension, tag=f"{python}-{python}-linux_x86_64")
        for python in ("cp312", "cp313")
    ]
    torch, vllm = torch_of(torch_wheel(here / "a", libraries["torch"])), vllm_of(*wheels)
    assert digest_of(wheels[0]) != digest_of(wheels[1])
    releases = add(torch, vllm)
    assert linkage(here, "--torch", "torchmine", "--vllm", "vllmmine").returncode == 0
    found = load_answers(releases)
    answers = [found.links(Cell(python, torch.key, vllm.key)) for python in ("3.12", "3.13")]
    assert [answer and (answer.ok, answer.unknown) for answer in answers] == [
        (True, False),
        (False, True),
    ]


def broken(here: Path, libraries: dict[str, bytes]) -> Sequence[tuple[str, Candidate]]:
    gone, other = (torch_wheel(here / name, libraries["torch"]) for name in ("gone", "other"))
    candidates = [torch_of(gone, name="torchgone"), torch_of(other, name="torchother")]
    gone.unlink()
    other.write_bytes(torch_wheel(here / "third", libraries["old"]).read_bytes())
    nothing = write_wheel(here, "torch", "2.15.0", {"torch/a.py": ""}, tag=TORCH_TAG)
    arm = write_wheel(here, "torch", "2.15.0", tag="cp312-cp312-manylinux_2_28_aarch64")
    return [
        ("does not exist", candidates[0]),
        ("its SHA-256 is", candidates[1]),
        ("contains no shared object", torch_of(nothing, name="torchnothing")),
        ("is not for x86_64", torch_of(arm, name="torcharm")),
    ]


def test_what_cannot_be_read_is_one_line(here: Path, libraries: dict[str, bytes]) -> None:
    rows = broken(here, libraries)
    add(*(candidate for _, candidate in rows))
    for message, candidate in rows:
        done = linkage(here, "--torch", candidate.name, "--vllm", "0.33")
        assert done.returncode == 2
        assert message in done.stderr.splitlines()[-1]
        assert not table_path(candidate).exists()
    for option, name, message in (
        ("--torch", "torchnone", "candidate 'torchnone': is not known; the known ones are"),
        ("--vllm", "torchgone", "--vllm 'torchgone': is a candidate of torch; write --torch"),
    ):
        done = linkage(here, option, name)
        assert (done.returncode, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        assert message in line


def test_a_range_means_releases_and_no_candidate(here: Path, libraries: dict[str, bytes]) -> None:
    torch = torch_of(torch_wheel(here / "a", libraries["torch"]))
    add(torch)
    assert linkage(here, "--torch", "torchmine", "--vllm", "0.33").returncode in (0, 1)
    done = linkage(here, "--torch", ">=2.14", "--vllm", "0.33", "--json")
    asked = {row["torch"] for row in valid("linkage", done.stdout)["pairs"]}
    assert "2.15.0" in asked and torch.key not in asked
