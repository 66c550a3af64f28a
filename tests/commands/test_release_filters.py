"""What `--torch 2.12` means in each command that takes some releases only: its newest patch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import matrix
from commanded import make
from made import provenance
from matrix._util.versions import newest_patch
from matrix.catalog.releases_file import load_releases
from matrix.cli import main
from matrix.record.writer import write

TORCHES = load_releases().published["torch"]
MINOR = "2.12"
PATCHES = [version for version in TORCHES if version.startswith(f"{MINOR}.")]
NEWEST = newest_patch(MINOR, TORCHES)
UNKNOWN_PYTHON = "--python 3.99: is not known; the known are 3."
UNKNOWN_RELEASE = (
    "{}: no known release matches (the nearest: {}); `matrix refresh` reads new ones\n"
)


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    assert main(list(arguments)) == 0
    printed = capsys.readouterr()
    return printed.out, printed.err


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with a record of each patch release of that torch, and of another one."""
    monkeypatch.chdir(tmp_path)
    for minute, torch in enumerate([*PATCHES, "2.13.0"]):
        started = f"2026-11-22T18:{minute:02}:00Z"
        cell = f"py311-torch{''.join(torch.split('.')[:2])}-vllm020"
        told = provenance(f"{torch}+cu130", "0.20.2", started=started)
        write(
            make(cell=cell, provenance=told), tmp_path / "records" / "cpu" / f"{cell}.{minute}.json"
        )
    return tmp_path / "records"


def listed(capsys: pytest.CaptureFixture[str], text: str) -> list[str]:
    found = json.loads(output(capsys, "results", "list", "--torch", text, "--json")[0])
    return sorted(row["torch"].partition("+")[0] for row in found)


def test_there_are_patches_to_tell_apart() -> None:
    assert len(PATCHES) > 1 and NEWEST in PATCHES


def test_a_list_of_a_minor_release_is_of_its_newest_patch(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert listed(capsys, MINOR) == [NEWEST]
    assert listed(capsys, f"=={MINOR}.*") == sorted(PATCHES)
    assert listed(capsys, f">={MINOR},<2.13") == sorted(PATCHES)
    assert listed(capsys, PATCHES[0]) == [PATCHES[0]]


def test_an_empty_list_says_which_patch_was_meant(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in records.rglob("*.json"):
        if json.loads(path.read_text("utf-8"))["provenance"]["torch"].startswith(NEWEST):
            path.unlink()
    _, err = output(capsys, "results", "list", "--torch", MINOR)
    assert err == f"matrix: --torch {MINOR} is its newest patch, {NEWEST}; '=={MINOR}.*' has all\n"
    # Where something was found, or the patch was named, there is nothing to say.
    assert output(capsys, "results", "list", "--torch", f"=={MINOR}.*")[1] == ""
    assert output(capsys, "results", "list", "--torch", NEWEST)[1] == ""


def test_so_does_an_empty_plan(capsys: pytest.CaptureFixture[str]) -> None:
    message = f"--torch {MINOR} is its newest patch, {NEWEST}; '=={MINOR}.*' has all"
    out, err = output(capsys, "plan", "--torch", MINOR, "--vllm", "0.19.1")
    assert "\nnothing to run" in out and message in err
    assert output(capsys, "plan", "--torch", NEWEST, "--vllm", "0.19.1")[1] == ""


def columns(capsys: pytest.CaptureFixture[str], text: str) -> list[str]:
    vllm = "--vllm", ">=0.13,<0.15"
    out, _ = output(capsys, "grid", "--platform", "cpu", "--torch", text, *vllm, "records")
    return out.splitlines()[1].split()[2:]


def test_a_grid_of_a_minor_release_has_its_newest_patch(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """vLLM 0.13 pins 2.9.0, which is so a column of the grid beside 2.9.1."""
    newest = newest_patch("2.9", TORCHES)
    assert columns(capsys, "2.9") == [newest]
    assert columns(capsys, "==2.9.*") == [newest, "2.9.0"]


def planned(capsys: pytest.CaptureFixture[str], text: str) -> set[str]:
    out, _ = output(
        capsys,
        *("plan", "--off-pin", "--json", "--platform", "cpu", "--python", "3.12"),
        *("--torch", text, "records"),
    )
    return {cell["torch"] for cell in json.loads(out)["cells"]}


def test_a_plan_of_a_minor_release_has_its_newest_patch(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """2.9.0 is the pin of some vLLM, and so in cells as well as 2.9.1."""
    newest = newest_patch("2.9", TORCHES)
    assert planned(capsys, "2.9") == {newest}
    assert planned(capsys, "==2.9.*") > {newest}


@pytest.mark.parametrize("command", ["grid", "plan", "results list"])
def test_the_help_says_what_a_minor_release_means(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "only these: 2.12 (its newest patch), '==2.12.*' (all of them) or '>=2.11'" in text


@pytest.mark.parametrize("text", ["", "x", "2.12..2.13", ">=", "2.12.x"])
def test_a_bad_filter_is_refused(
    text: str, records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["results", "list"], ["grid"], ["plan"]):
        assert main([*command, "--torch", text, "records"]) == 2
        assert capsys.readouterr().err.startswith(f"matrix: --torch {text!r}: is ")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("plan", ("--torch 9.9", "--vllm 0.99", "--python 3.99")),
        ("grid", ("--torch 9.9", "--vllm 0.99")),
        ("wheels", ("--torch 9.9", "--vllm 0.99")),
        ("recommend", ("--torch 9.9", "--vllm 0.99", "--python 3.99")),
        ("results list", ("--torch 9.9", "--vllm 0.99", "--python 3.99")),
    ],
)
def test_what_is_not_known_gets_no_answer(
    tmp_path: Path, command: str, options: tuple[str, ...]
) -> None:
    if command != "wheels":
        (tmp_path / "records").mkdir()
    for option in options:
        done = matrix(tmp_path, *command.split(), *option.split())
        assert (done.returncode, done.stdout) == (2, "")
        project = option.split()[0].removeprefix("--")
        newest = load_releases().published.get(project, ("",))[-1]
        line = UNKNOWN_PYTHON if "python" in option else UNKNOWN_RELEASE.format(option, newest)
        assert f"matrix: {line}" in done.stderr


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        ("wheels", "`matrix candidate show torch216rc1` names its wheels"),
        ("recommend", "`matrix qualify torch216rc1` shows whether it works"),
        (
            "results list",
            "`matrix results list --cell '*torch216rc1*'` lists the records of its cells",
        ),
    ],
)
def test_where_releases_alone_are_meant_a_candidate_gets_its_command(
    tmp_path: Path, command: str, instead: str
) -> None:
    (tmp_path / "records").mkdir()
    done = matrix(tmp_path, *command.split(), "--torch", "torch216rc1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "matrix: --torch torch216rc1: is the name of a candidate, a build of torch that is not"
        f" published as a final release, and matrix {command} takes releases alone; {instead}\n"
    )


@pytest.mark.parametrize("command", ["grid", "plan"])
def test_a_candidate_that_nobody_added_is_named(tmp_path: Path, command: str) -> None:
    (tmp_path / "records").mkdir()
    none = str(tmp_path / "none.toml")
    done = matrix(tmp_path, command, "--torch", "torch216rc1", MATRIX_CANDIDATES=none)
    assert (done.returncode, done.stdout) == (2, "")
    assert "matrix: candidate 'torch216rc1': is not known; nobody added one yet" in done.stderr
