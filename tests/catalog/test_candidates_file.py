"""The file of the candidates, written and read, and what is wrong in one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from candidates import commit_candidate, torch_candidate, vllm_candidate, wheel
from matrix.catalog.candidates.channels import CHANNELS, place_of, variable
from matrix.catalog.candidates.collection import CandidateError, Candidates
from matrix.catalog.candidates.file import (
    CandidatesFileError,
    load_candidates,
    parse_candidates,
    render_candidates,
    write_candidates,
)
from matrix.catalog.candidates.model import OnCuda, OnIndex
from matrix.catalog.candidates.place import candidates_path
from matrix.catalog.cells import Made
from matrix.catalog.projects import Project
from matrix.catalog.releases_file import load_releases

FOR_CUDA = replace(
    commit_candidate(),
    on_cuda=OnCuda(
        way=Made.PUBLISHED,
        index="https://wheels.example/41",
        files=(wheel("vllm", "0.34.0.dev5", "cp38-abi3-manylinux_2_28_x86_64"),),
    ),
)
ASKED = OnIndex(
    index="https://rc.example/asked",
    version="2.16.0+cu130",
    pythons=("3.11", "3.12"),
    companions=("torchaudio==2.11.0", "https://rc.example/torchvision-0.30.0-py3-none-any.whl"),
)
EVERY = Candidates(
    every=(
        torch_candidate(),
        replace(torch_candidate("torchasked"), source=ASKED),
        vllm_candidate(),
        FOR_CUDA,
    ),
    channels={"torch": {"test": "https://mirror.example/{flavour}"}},
)
PYTORCH = "https://download.pytorch.org/whl"
VLLM = "https://wheels.vllm.ai"
TEXT = render_candidates(EVERY)


def test_what_is_written_is_read() -> None:
    found = parse_candidates(TEXT, "candidates.toml")
    assert {candidate.key for candidate in found.every} == {
        candidate.key for candidate in EVERY.every
    }
    assert found.channels == EVERY.channels
    assert render_candidates(found) == TEXT
    assert found.named("vllmfix").on_cuda == FOR_CUDA.on_cuda
    assert found.named("torchasked").source == ASKED


def test_the_text_does_not_depend_on_the_order() -> None:
    turned = Candidates(every=EVERY.every[::-1], channels=EVERY.channels)
    assert render_candidates(turned) == TEXT


def test_the_file_lies_by_tox_ini_or_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert candidates_path({}).name == "candidates.toml"
    assert (candidates_path({}).parent / "tox.ini").is_file()
    monkeypatch.setenv("MATRIX_CANDIDATES", str(tmp_path / "mine.toml"))
    assert load_candidates() == Candidates()
    assert write_candidates(EVERY) == tmp_path / "mine.toml"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]
    cell = load_releases().resolve("py312-torch216rc1-vllmmain")
    assert cell.torch_build == torch_candidate().build


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("[channels.torch]", "[channelz.torch]", "channelz: unknown key; did you mean 'channels'?"),
        (
            "torch-2.16.0+cu130-cp311-cp311-manylinux_2_28_x86_64.whl",
            "torch-2.16.0+cu130-cp311-cp311-../../x.whl",
            "is not the name of a wheel",
        ),
        ('channel = "nightly"', 'channel = "me:pw@host"', "channel: 'me:pw@host' has another form"),
        ('uploaded = "2026-11-27T', 'uploaded = "http://me:pw@h/27T', "uploaded: "),
        ("[[candidate]]", "[[candidate", "is not TOML"),
        ('project = "torch"', 'project = "jax"', "torch216rc1: project: 'jax' is unknown"),
        ('project = "torch"', "", "candidate torch216rc1: project: is missing; add it"),
        ('project = "torch"', 'project = "vllm"', "is a name of torch, not of vllm"),
        ('name = "torch216rc1"', 'name = "torch216"', "candidate 'torch216': is not a name"),
        ('name = "torch216rc1"', "name = 216", "name: 216 is not a text; quote it"),
        ('kind = "index"', 'kind = "idx"', "source: kind: 'idx' is unknown"),
        ('kind = "index"', "", "source: kind: is missing"),
        ("revision = ", "revisio = ", "source: revisio: unknown key; did you mean 'revision'?"),
        ('revision = "4141', 'revision = "zz41', "source: revision: 'zz41"),
        ('version = "2.16.0+cu130"', 'version = "two"', "version: 'two' is not a version"),
        ('python = ">=3.10"', 'python = "new"', "python: 'new' is not a range"),
        ('cuda = "13.0"', 'cuda = "new"', "cuda: 'new' has another form; write 13.0"),
        ("without = [", "without = [1,", "without: is not a list of names"),
        ('torch = "2.14.0"', 'torsh = "2.14.0"', "pins: torsh: unknown key; did you mean 'torch'?"),
        ("https://rc.example/whl/test/cu130/torch-", "ftp://rc.example/torch-", "files 1: url: "),
        (
            "https://rc.example/whl/test/cu130/torch-",
            "https://me:hunter2@rc.example/whl/test/cu130/torch-",
            "files 1: url: contains a user, a password",
        ),
        (
            'index = "https://rc.example',
            'index = "https://me:hunter2@rc.example',
            "source: index: contains a user, a password",
        ),
        (
            'index = "https://rc.example/whl/test/cu130"',
            'index = "https://rc.example/?token=hunter2"',
            "source: index: contains a user, a password",
        ),
        (
            'test = "https://mirror.example',
            'test = "https://u:hunter2@m.example',
            "contains a user",
        ),
        ("[channels.torch]", "[channels.jax]", "channels: jax: unknown key"),
        ('test = "https', '"a b" = "https', "channels: torch: 'a b' is not a name"),
        ('way = "wheel"', 'way = "magic"', "on-cuda: way: 'magic' is unknown"),
        ('way = "wheel"', "", "on-cuda: way: is missing"),
        ('way = "wheel"', 'way = "build"', "the way build does not go with its files"),
        ("[candidate.on-cuda]", "[candidate.on-cudas]", "on-cudas: unknown key"),
        (
            'index = "https://wheels.example/41"',
            'index = "https://me:hunter2@wheels.example/41"',
            "on-cuda: index: contains a user, a password",
        ),
        ('    "3.12",', '    "3",', "pythons 2: '3' has another form; write 3.12"),
        ('    "3.12",', "    3.12,", "pythons 2: 3.12 is not a text; quote it"),
        ("pythons = [", 'pythons = "3.11" # [', "is not TOML"),
        ('"torchaudio==2.11.0"', '"numpy==2.11.0"', "companions 1: 'numpy==2.11.0' is not a comp"),
        ('"torchaudio==2.11.0"', '"torchaudio==x"', "companions 1: 'x' is not a version"),
        (
            '"https://rc.example/torchvision',
            '"https://me:hunter2@rc.example/torchvision',
            "companions 2: contains a user, a password",
        ),
    ],
)
def test_a_fault_is_one_line_with_file_key_and_fix(old: str, new: str, fault: str) -> None:
    assert old in TEXT
    with pytest.raises(CandidatesFileError) as raised:
        parse_candidates(TEXT.replace(old, new, 1), "candidates.toml")
    assert str(raised.value).startswith("candidates.toml: ")
    assert fault in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_two_of_one_name_are_a_fault() -> None:
    rows = render_candidates(Candidates(every=EVERY.every[:1]))
    twice = rows + rows.partition("\n\n")[2]
    with pytest.raises(CandidatesFileError, match="'torch216rc1': appears twice; keep one"):
        parse_candidates(twice, "candidates.toml")


def test_a_bad_file_stops_what_reads_the_releases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "candidates.toml").write_bytes(b"\xff")
    monkeypatch.setenv("MATRIX_CANDIDATES", str(tmp_path / "candidates.toml"))
    with pytest.raises(CandidatesFileError, match="is not UTF-8"):
        load_releases()


@pytest.mark.parametrize(
    ("asked", "project", "index", "channel"),
    [
        ("test", Project.TORCH, f"{PYTORCH}/test/cu132", "test/cu132"),
        ("test/cpu", Project.TORCH, f"{PYTORCH}/test/cpu", "test/cpu"),
        ("nightly/cpu", Project.TORCH, f"{PYTORCH}/nightly/cpu", "nightly/cpu"),
        ("nightly", Project.VLLM, f"{VLLM}/nightly", "nightly"),
        ("commit/4152872ac", Project.VLLM, f"{VLLM}/4152872ac", "commit/4152872ac"),
        ("commit/4152872/cu129", Project.VLLM, f"{VLLM}/4152872/cu129", "commit/4152872/cu129"),
        ("https://a:b@own.example/simple", Project.TORCH, "https://own.example/simple", None),
    ],
)
def test_a_channel_is_an_index(
    asked: str, project: Project, index: str, channel: str | None
) -> None:
    place = place_of(asked, project, {}, flavour="cu132", environ={})
    assert (place.index, place.channel) == (index, channel)


def test_a_channel_is_overridden_by_the_file_and_by_the_environment() -> None:
    overrides = {"torch": {"test": "https://mirror.example/{flavour}", "mine": "https://x.example"}}
    environ = {variable(Project.TORCH, "test"): "https://me:hunter2@near.example/{flavour}"}
    found = place_of("test/cpu", Project.TORCH, overrides, environ={})
    assert found.index == "https://mirror.example/cpu"
    assert place_of("mine", Project.TORCH, overrides, environ={}).index == "https://x.example"
    near = place_of("test/cpu", Project.TORCH, overrides, environ=environ)
    assert near.index == "https://near.example/cpu"
    assert near.address == "https://me:hunter2@near.example/cpu"


@pytest.mark.parametrize(
    ("asked", "project", "fault"),
    [
        ("tset", Project.TORCH, "is not a channel of torch; the channels are test, nightly"),
        ("commit", Project.VLLM, "needs a commit; write it as commit/SHA"),
        ("commit/main", Project.VLLM, "needs a commit"),
        ("test/gpu", Project.TORCH, "'gpu' is not a build; write test/cu130 or test/cpu"),
        ("ftp://me:hunter2@x.example", Project.TORCH, "--index: 'ftp://x.example' is not an http"),
        ("http://[::1", Project.TORCH, "is not an http(s) address"),
    ],
)
def test_an_index_that_is_none_is_refused(asked: str, project: Project, fault: str) -> None:
    with pytest.raises(CandidateError) as raised:
        place_of(asked, project, {}, environ={})
    assert fault in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_every_channel_says_where_upstream_publishes_it() -> None:
    for channels in CHANNELS.values():
        assert all(channel.published.startswith("https://") for channel in channels)
