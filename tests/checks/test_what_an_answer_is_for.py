"""`matrix resolve`: for which processor, glibc, CUDA and indexes an answer holds."""

from pathlib import Path

import pytest

from matrix.catalog.cells import Cell
from matrix.catalog.releases_file import load_releases
from matrix.checks.linkage.link import load_tables
from matrix.checks.lookup import Answers
from matrix.checks.resolution.cache import (
    PLATFORM,
    Question,
    Resolution,
    Resolutions,
    load_resolutions,
)
from matrix.checks.resolution.lock import LockError, Target
from matrix.checks.resolution.resolver import ResolverError, ask
from matrix.checks.resolution.wheel_tags import wheels_in, without_wheel
from small_index import (
    ABI3,
    CUDA,
    TODAY,
    asked,
    leave_settings,
    resolve,
    write_index,
    write_wheel,
)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_settings(monkeypatch, tmp_path)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_index(monkeypatch, tmp_path)


def test_a_build_without_cuda_resolves_for_the_cpu_alone(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on aarch64 with torch before 2.11.0. That other packages need CUDA shows nothing."""
    tag = "cp38-abi3-manylinux_2_31_aarch64"
    pins = ["torch==2.10.0", f"{CUDA}==12.8.90"]
    write_wheel(index, "vllm", "0.19.1", pins, tag=tag)
    question = Question(cell=Cell("3.12", "2.10.0", "0.19.1"))
    answer = ask(question, Target(python="3.12", machine="aarch64"), TODAY)
    assert (answer.ok, answer.cuda, answer.count) == (True, None, 4)
    data = tmp_path / "r.json"
    assert resolve(data, "py312-torch210-vllm019", "--machine", "aarch64") == 0
    out = capsys.readouterr().out
    assert "resolves for the CPU alone, torch is a build without CUDA: 4 packages" in out
    assert "for manylinux_2_35_aarch64\n" in out
    assert "1 resolve (1 without CUDA), 0 do not" in out


def test_without_cuda_no_answer_counts_on_cuda(tmp_path: Path) -> None:
    releases = load_releases()
    cell = releases.resolve("py312-torch210-vllm019")
    row = Resolution(
        cell=cell,
        platform=PLATFORM,
        asked=TODAY,
        ok=True,
        count=4,
        packages={"torch": cell.torch, "nvidia-nccl-cu12": "2.27.5"},
    )
    answers = Answers(releases, Resolutions(rows=(row,)), load_tables(tmp_path))
    assert answers.resolves(cell, "cuda") is None
    found = answers.resolves(cell, "cpu")
    assert found is not None and found.ok


def test_more_indexes_than_the_default_are_said(
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", str(index))
    data = tmp_path / "r.json"
    assert resolve(data, "py312-torch210-vllm019") == 0
    assert "with more indexes than the default one, CUDA 12.8\n" in capsys.readouterr().out
    (row,) = load_resolutions(data).rows
    assert row.more_indexes
    assert resolve(data, "py312-torch210-vllm019") == 0
    assert "; asked on 2026-11-23\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tag", "ok"),
    [
        ("manylinux_2_17_x86_64", True),
        ("manylinux2014_x86_64", True),
        ("manylinux_2_24_x86_64", True),
        ("manylinux_2_27_x86_64", False),
        ("manylinux_2_28_x86_64", False),
        ("manylinux_2_31_x86_64", False),
    ],
)
def test_a_glibc_that_uv_does_not_know(index: Path, tag: str, ok: bool) -> None:
    write_wheel(index, "vllm", "0.17.1", ["torch==2.10.0"], tag=f"cp38-abi3-{tag}")
    answer = asked("0.17.1", glibc="2.24")
    assert (answer.ok, answer.platform) == (ok, "manylinux_2_24_x86_64")
    if not ok:
        assert answer.reason == "vllm 0.17.1 has no wheel for manylinux_2_24_x86_64"


def test_what_only_an_older_release_of_a_dependency_could_answer_is_no_answer(index: Path) -> None:
    tag = "manylinux_2_28_x86_64"
    write_wheel(index, "vllm", "0.17.1", ["torch==2.10.0", "outlines"], tag="py3-none-any")
    write_wheel(index, "outlines", "1.0", tag=f"cp38-abi3-{tag}")
    with pytest.raises(
        ResolverError, match=r"uv does not know glibc 2\.24; for x86_64-manylinux_2"
    ):
        asked("0.17.1", glibc="2.24")
    assert asked("0.17.1", glibc="2.28").ok


@pytest.mark.parametrize(
    "text",
    ["", "torch==2.10.0\n", "packages = 1", "packages = [1]", "[[packages]]\nversion = '1'", "\0"],
)
def test_what_is_not_a_lock_is_refused(text: str) -> None:
    with pytest.raises(LockError, match=r"^the lock is not a pylock\.toml"):
        wheels_in(text)


def test_wheels_that_a_lock_names_by_url_path_or_name() -> None:
    wheels = wheels_in(
        "[[packages]]\nname = 'A_b'\nwheels = ["
        "{ url = 'https://x/y/a_b-1%2Bcu129-py3-none-any.whl#sha256=0' },"
        " { path = 'w/a_b-2-py3-none-linux_x86_64.whl' }, { url = 'u', name = 'n.whl' }]\n"
        "[[packages]]\nname = 'sdist'\n"
    )
    assert wheels == {
        "a-b": ("a_b-1+cu129-py3-none-any.whl", "a_b-2-py3-none-linux_x86_64.whl", "n.whl"),
        "sdist": (),
    }
    assert without_wheel(wheels, Target(python="3.12")) == ("sdist",)


def test_a_companion_that_is_left_out_is_not_installed(index: Path) -> None:
    write_wheel(index, "vllm", "0.18.2", ["torch==2.10.0", "torchaudio==2.10.0"], tag=ABI3)
    forced = {"torch": "2.11.0", "torchvision": "0.26.0"}
    question = Question(cell=Cell("3.12", "2.11.0", "0.18.2"), override=forced)
    answer = ask(question, Target(python="3.12"), TODAY)
    assert answer.ok and answer.count == 5  # vllm, torch, torchvision, triton, CUDA's runtime
    assert "torchaudio" not in answer.packages
