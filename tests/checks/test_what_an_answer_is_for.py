"""`matrix resolve`: for which processor, glibc, CUDA and indexes an answer holds."""

from pathlib import Path

import pytest

from matrix.catalog.cells import Cell
from matrix.catalog.releases_file import load_releases
from matrix.checks.linkage.link import load_tables
from matrix.checks.lookup import Answers
from matrix.checks.resolution import resolver
from matrix.checks.resolution.cache import (
    PLATFORM,
    Resolution,
    Resolutions,
    ResolverQuestion,
    load_resolutions,
)
from matrix.checks.resolution.lock import LockFileError, Target
from matrix.checks.resolution.resolver import ResolverError, ask
from matrix.checks.resolution.uv_settings import more_indexes
from matrix.checks.resolution.wheel_tags import wheels_in, without_wheel
from matrix.record.model import Platform
from matrix.report.facts import facts_words
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
    question = ResolverQuestion(cell=Cell("3.12", "2.10.0", "0.19.1"))
    answer = ask(question, Target(python="3.12", machine="aarch64"), TODAY)
    assert (answer.ok, answer.cuda, answer.count) == (True, None, 4)
    data = tmp_path / "r.json"
    assert resolve(data, "py312-torch210-vllm019", "--machine", "aarch64") == 0
    out = capsys.readouterr().out
    assert "resolves for the CPU only: torch is a build without CUDA: 4 packages" in out
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
    assert answers.resolves(cell, Platform.CUDA) is None
    found = answers.resolves(cell, Platform.CPU)
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


EXTRA = '[pip]\nfind-links = ["{index}"]\n'
EXPLICIT = '[[index]]\nurl = "https://me:secret@127.0.0.1:9/"\nname = "a"\nexplicit = true\n'
ONLY = '[[index]]\nurl = "{index}"\nformat = "flat"\ndefault = true\n'
PROJECT = '[project]\nname = "a"\nversion = "1"\n'
FILES = {"here/pyproject.toml": PROJECT, "user/uv/uv.toml": ONLY, "one.toml": ONLY}


@pytest.mark.parametrize(
    ("files", "config", "more"),
    [
        ({}, None, False),
        ({"here/uv.toml": EXTRA}, None, True),
        ({"here/uv.toml": '[[index]]\nurl = "{index}"\nformat = "flat"\n'}, None, True),
        ({"here/uv.toml": EXPLICIT}, None, False),
        ({"here/pyproject.toml": PROJECT + '[tool.uv]\nfind-links = ["{index}"]\n'}, None, True),
        ({"user/uv/uv.toml": 'find-links = ["{index}"]\n' + ONLY}, None, True),
        ({"system/uv/uv.toml": EXTRA}, None, True),
        ({"one.toml": ONLY + EXTRA}, "one.toml", True),
        ({"here/uv.toml": EXTRA}, "one.toml", False),  # that file takes the place of all others
    ],
)
def test_indexes_of_uvs_own_files_are_said_too(
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    config: str | None,
    *,
    more: bool,
) -> None:
    monkeypatch.delenv("UV_CONFIG_FILE")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "system"))
    for name, text in {**FILES, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text.replace("{index}", str(index)))
    monkeypatch.chdir(tmp_path / "here")
    if config is not None:
        monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / config))
    data = tmp_path / "r.json"
    assert resolve(data, "py312-torch210-vllm019") == 0
    (row,) = load_resolutions(data).rows
    assert row.more_indexes is more
    assert "secret" not in data.read_text() and str(index) not in data.read_text()


SHOWN = """
        index_locations: IndexLocations {
            indexes: [
                Index {
                    name: None,
                    explicit: %s,
                    default: %s,
                },
            ],
            flat_index: [],
            no_index: false,
"""


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        (SHOWN % ("false", "false"), True),
        (SHOWN % ("false", "true"), False),
        (SHOWN % ("true", "false"), False),
        ((SHOWN % ("false", "true")).replace("flat_index: []", "flat_index: [x]"), True),
        ((SHOWN % ("false", "false")).replace("explicit", "another word"), None),
        ((SHOWN % ("false", "false")).replace("flat_index", "another word"), None),
        ("", None),
    ],
)
def test_settings_in_another_form_are_not_guessed_at(settings: str, *, more: bool | None) -> None:
    assert more_indexes(settings) is more


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("links", ["", "."])
def test_a_uv_that_does_not_show_its_settings_is_known_by_its_variables(
    monkeypatch: pytest.MonkeyPatch, links: str
) -> None:
    monkeypatch.setattr(resolver, "more_indexes", lambda settings: None)
    monkeypatch.setenv("UV_FIND_LINKS", links)
    assert asked("0.19.1").more_indexes == bool(links)


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
        assert facts_words(answer.facts) == "vllm 0.17.1 has no wheel for manylinux_2_24_x86_64"


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
    with pytest.raises(LockFileError, match=r"^the lock is not a pylock\.toml"):
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
    question = ResolverQuestion(cell=Cell("3.12", "2.11.0", "0.18.2"), override=forced)
    answer = ask(question, Target(python="3.12"), TODAY)
    assert answer.ok and answer.count == 5  # vllm, torch, torchvision, triton, CUDA's runtime
    assert "torchaudio" not in answer.packages
