"""How a vLLM from sources is had on cuda: indexes of this machine, and git repositories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from local_index import Served, serving
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.gathered import CandidateRequest, Gathered
from matrix.catalog.candidates.model import Commit, Wheel
from matrix.catalog.candidates.on_cuda import CudaWays
from matrix.catalog.candidates.sources import from_commit, from_sdist, from_tree
from matrix.catalog.cells import Made
from matrix.catalog.index import FetchError
from matrix.catalog.projects import Project
from matrix.catalog.releases_file import load_releases
from matrix.catalog.vllm_sources.compiled import compiled_differently
from small_index import leave_settings
from vllm_tree import commit_all, write_sdist, write_tree

pytestmark = pytest.mark.programs

TAG = "cp38-abi3-manylinux_2_17_x86_64"
WANTED = CandidateRequest(name="vllmmain", project=Project.VLLM)


def quiet(_: str) -> None:
    pass


@pytest.fixture
def own(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    """Make a user's own index: the wheel and the sources of a release."""
    leave_settings(monkeypatch, tmp_path)
    monkeypatch.setenv("UV_DEFAULT_INDEX", served.url)
    sdist = write_sdist(tmp_path, "0.33.0")
    served.add("vllm", f"vllm-0.33.0-{TAG}.whl", b"the wheel")
    served.add("vllm", sdist.name, sdist.read_bytes())
    return served


@pytest.fixture
def channel(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Give the index of a commit, with nothing on it yet."""
    with serving() as index:
        monkeypatch.setenv("MATRIX_CHANNEL_VLLM_COMMIT", f"{index.url}{{commit}}")
        yield index


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = write_tree(tmp_path / "vllm")
    commit_all(folder, tag="v0.33.0")
    return folder


def ways(*, build: bool = False, wheel: bool = True) -> CudaWays:
    return CudaWays(
        releases=load_releases(),
        pythons=("3.11", "3.12"),
        say=quiet,
        build=build,
        wheel=wheel,
    )


def added(tree: Path, asked: CudaWays | None, version: str | None = None) -> Gathered:
    return from_commit(WANTED, f"{tree}@HEAD", version, quiet, asked)


def head_of(tree: Path) -> str:
    candidate = added(tree, None).candidate
    assert isinstance(candidate.source, Commit)
    return candidate.source.revision


def way_of(found: Gathered) -> Made:
    assert found.candidate.on_cuda is not None
    return found.candidate.on_cuda.way


def test_a_published_wheel_of_the_commit_comes_first(
    tree: Path, own: Served, channel: Served
) -> None:
    commit = commit_all(tree, "after")
    version = f"0.33.1.dev1+g{commit[:9]}"
    channel.add("vllm", f"vllm-{version}-{TAG}.whl", b"of the commit")
    for build in (False, True):
        found = added(tree, ways(build=build))
        assert way_of(found) is Made.PUBLISHED
        assert found.candidate.version == version
        way = found.candidate.on_cuda
        assert way is not None and way.index == f"{channel.url}{commit}"
        assert [file.name for file in way.files] == [f"vllm-{version}-{TAG}.whl"]
        assert found.candidate.is_built and way.file("3.12") == way.files[0]
    assert own.asked == []
    # It is the same candidate however it is had.
    assert found.candidate.identity == added(tree, None).candidate.identity


def test_where_none_is_published_a_person_may_let_it_be_compiled(
    tree: Path, own: Served, channel: Served
) -> None:
    found = added(tree, ways(build=True))
    assert way_of(found) is Made.COMPILED
    index = f"{channel.url}{head_of(tree)}"
    assert found.notes[1:] == (f"the index {index} has no wheel of this commit",)
    assert own.asked == []


def test_else_the_extensions_of_a_release_that_was_compiled_from_the_same_files(
    tree: Path, own: Served, channel: Served
) -> None:
    (tree / "vllm" / "new.py").write_text("python = 'alone'\n")
    commit_all(tree, "python alone")
    found = added(tree, ways())
    assert way_of(found) is Made.WITH_EXTENSIONS
    way = found.candidate.on_cuda
    assert way is not None and [file.version for file in way.files] == ["0.33.0"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("csrc/ops.cu", "another kernel"),
        ("csrc/new.cu", "a new kernel"),
        ("vllm/_custom_ops.py", "other = 1"),
    ],
)
def test_what_was_compiled_from_other_files_is_not_taken(
    tree: Path, own: Served, channel: Served, path: str, text: str
) -> None:
    (tree / path).write_text(text)
    commit_all(tree, "compiled")
    with pytest.raises(CandidateError, match=rf"{path} differs from vllm 0\.33\.0.*--build"):
        added(tree, ways())


def test_no_wheel_asks_no_index_of_the_commit(tree: Path, own: Served, channel: Served) -> None:
    assert way_of(added(tree, ways(wheel=False))) is Made.WITH_EXTENSIONS
    assert way_of(added(tree, ways(wheel=False, build=True))) is Made.COMPILED
    assert channel.asked == []


def test_a_tree_and_a_source_distribution_have_no_index_of_a_commit(
    tree: Path, own: Served, channel: Served, tmp_path: Path
) -> None:
    assert way_of(from_tree(WANTED, str(tree), None, ways())) is Made.WITH_EXTENSIONS
    sdist = str(tmp_path / "vllm-0.33.0.tar.gz")
    assert way_of(from_sdist(WANTED, sdist, None, ways())) is Made.WITH_EXTENSIONS
    assert way_of(from_sdist(WANTED, sdist, None, ways(build=True))) is Made.COMPILED
    assert channel.asked == []


def test_an_index_that_does_not_answer_is_not_one_without_the_wheel(
    tree: Path, own: Served, channel: Served
) -> None:
    channel.faults[f"/simple/{head_of(tree)}/vllm/"] = [403]
    with pytest.raises(FetchError, match="go without a published wheel: --no-wheel") as raised:
        added(tree, ways(build=True))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("tag", ["cp38-abi3-manylinux_2_17_aarch64", "cp39-cp39-manylinux1_x86_64"])
def test_a_wheel_of_another_machine_or_python_is_none(
    tree: Path, own: Served, channel: Served, tag: str
) -> None:
    channel.add("vllm", f"vllm-0.33.0-{tag}.whl", b"x")
    found = added(tree, ways(build=True))
    assert way_of(found) is Made.COMPILED and "vllm 0.33.0" in found.notes[1]


def test_a_wheel_of_another_commit_or_version_is_refused(
    tree: Path, own: Served, channel: Served
) -> None:
    channel.add("vllm", f"vllm-0.33.0+g0000000-{TAG}.whl", b"x")
    with pytest.raises(CandidateError, match=r"is of commit 0000000, not of .*--no-wheel"):
        added(tree, ways())
    channel.projects.clear()
    channel.add("vllm", f"vllm-0.33.0-{TAG}.whl", b"x")
    assert way_of(added(tree, ways(), "0.33.0")) is Made.PUBLISHED
    with pytest.raises(CandidateError, match=r"--version 0\.34\.0: the published wheel"):
        added(tree, ways(), "0.34.0")


def test_without_a_release_to_take_extensions_of_it_must_be_compiled(
    tree: Path, own: Served, channel: Served
) -> None:
    with pytest.raises(CandidateError, match=r"no known release is at or below vllm 0\.2\.0"):
        added(tree, ways(), "0.2.0")
    own.withdraw("vllm-0.33.0.tar.gz")
    with pytest.raises(CandidateError, match=r"no source distribution to compare with.*--build"):
        added(tree, ways())
    own.projects.clear()
    with pytest.raises(FetchError, match="vllm: is not on the index"):
        added(tree, ways())


def test_sources_that_take_no_extensions_must_be_compiled(
    tree: Path, own: Served, channel: Served
) -> None:
    (tree / "setup.py").write_text("old = True\n")
    commit_all(tree, "old")
    with pytest.raises(CandidateError, match=r"takes no extensions .* compile it with --build$"):
        added(tree, ways())
    with pytest.raises(CandidateError, match=r"with --build, or add it for the CPU$"):
        added(tree, replace(ways(), otherwise=", or add it for the CPU"))
    assert way_of(added(tree, ways(build=True))) is Made.COMPILED


def test_links_and_missing_files_differ(tmp_path: Path) -> None:
    one, other = write_tree(tmp_path / "one"), write_tree(tmp_path / "other")
    assert compiled_differently(one, other) == []
    (one / "setup.py").write_text("of no matter")
    (one / "csrc" / "link.cu").symlink_to("ops.cu")
    (other / "csrc" / "link.cu").symlink_to("ops.cu")
    assert compiled_differently(one, other) == []
    (other / "csrc" / "link.cu").unlink()
    (other / "csrc" / "link.cu").write_text((one / "csrc" / "ops.cu").read_text())
    (other / "CMakeLists.txt").write_text("x")
    assert compiled_differently(one, other) == ["CMakeLists.txt", "csrc/link.cu"]


def test_a_way_goes_with_sources_and_with_its_files(
    tree: Path, own: Served, channel: Served
) -> None:
    candidate = added(tree, ways()).candidate
    way = candidate.on_cuda
    assert way is not None
    source = Wheel(location="x.whl", sha256="0" * 64)
    with pytest.raises(CandidateError, match="has wheels of its own, and on-cuda is for sources"):
        replace(candidate, source=source, files=way.files, version="0.33.0")
    with pytest.raises(CandidateError, match="without compiling, and cuda needs its extensions"):
        replace(candidate, on_cuda=replace(way, way=Made.WITHOUT_COMPILING))
    for bad in (replace(way, way=Made.COMPILED), replace(way, files=())):
        with pytest.raises(CandidateError, match="does not go with its files"):
            replace(candidate, on_cuda=bad)
    for name, fault in (
        ("vllm-1.0-py3-none-any.whl", "is not of version"),
        ("torch-1.0-py3-none-any.whl", "is a wheel of torch"),
        ("vllm.zip", "is not the name of a wheel"),
    ):
        files = (replace(way.files[0], name=name),)
        with pytest.raises(CandidateError, match=fault):
            replace(candidate, on_cuda=replace(way, way=Made.PUBLISHED, files=files))
