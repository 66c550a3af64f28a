"""tox.ini against the data that it repeats, and what tox does with names that are no cell."""

import configparser
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from matrix.records import read, validate
from matrix.releases import load_releases

ROOT = Path(__file__).parents[1]
RELEASES = load_releases()
NAMES = {each.name: each for each in RELEASES.cells()} | {
    name: cell
    for cell in RELEASES.cells()
    for name in [cell.short_name]
    if RELEASES.resolve(name) == cell
}
HERE = f"py{sys.version_info.major}{sys.version_info.minor}"


def tox(*arguments: str, folder: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run tox on this project's tox.ini, its environments in another folder."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("TOX")}
    return subprocess.run(
        [sys.executable, "-m", "tox", *arguments, "--workdir", str(folder / "tox")],
        cwd=ROOT,
        env={**outside, "NO_COLOR": "1", "PYTHONWARNINGS": "ignore", **environ},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> configparser.ConfigParser:
    """What tox makes of every environment of tox.ini."""
    keys = ["deps", "commands", "description", "package", "interrupt_timeout"]
    done = tox("config", "-k", *keys, "-e", "ALL", folder=tmp_path_factory.mktemp("config"))
    assert done.returncode == 0, done.stderr
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(done.stdout)
    return parser


def test_tox_has_an_environment_for_each_name_of_each_cell(
    configured: configparser.ConfigParser,
) -> None:
    named = {each.removeprefix("testenv:") for each in configured.sections()}
    assert {each for each in named if each.startswith("py3")} == set(NAMES)
    assert {"unit", "lint", "type", "table", "bench"} <= named


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_cells_pins_are_those_of_the_releases(
    configured: configparser.ConfigParser, name: str
) -> None:
    cell = NAMES[name]
    section = configured[f"testenv:{name}"]
    pins = {}
    for line in section["deps"].split():
        requirement = Requirement(line)
        pins[requirement.name] = str(requirement.specifier).removeprefix("==")
    pins.pop("pytest")
    assert pins == {"vllm": cell.vllm, **RELEASES.companions(cell)}
    assert section["commands"] == f"python -m matrix run {name}"
    assert section["package"] == "editable"
    said = section["description"]
    assert f"torch {cell.torch} with vLLM {cell.vllm} on Python {cell.python}:" in said
    # tox's own default, 0.3 s, would kill a cell before it has written its record.
    assert float(section["interrupt_timeout"]) >= 20


def test_every_environment_is_explained_in_a_line(
    configured: configparser.ConfigParser, tmp_path: Path
) -> None:
    done = tox("list", folder=tmp_path)
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if "->" in line]
    named = {each[8:] for each in configured.sections() if each.startswith("testenv:")}
    assert {line.split()[0] for line in lines} == {each for each in named if each[0] != "."}
    assert not [line for line in lines if "no description" in line]


def test_tox_alone_runs_no_cell(tmp_path: Path) -> None:
    done = tox("list", "--no-desc", "-d", folder=tmp_path)
    assert done.stdout.split() == ["lint", "type", "unit"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("py311-torch99", "torch 9.9"),
        ("py311-torch29-vllm019", "vLLM 0.19.1 pins torch 2.10.0"),
        ("py39-torch210", "py39"),
        ("py311-torch210-vllm0x", "vllm0x"),
        ("lint,py311-torch99", "torch 9.9"),
        ("py311-torch214", "the matrix has no cell for torch 2.14 yet (the nearest: py311-torch"),
        ("py310-torch213", "vLLM 0.32.0 needs Python >=3.11,<3.15"),
        (
            "py311-torch214-vllm033",
            "matrix: the matrix has no cell py311-torch214-vllm033 yet; CONTRIBUTING.md says how",
        ),
        ("unti", "did you mean unit?"),
        ("py", "tox list"),
    ],
)
def test_a_name_that_is_no_environment(tmp_path: Path, name: str, reason: str) -> None:
    done = tox("-e", name, folder=tmp_path)
    assert done.returncode == 2
    assert reason in done.stderr
    assert re.fullmatch(r"matrix: [^\n]+\n", done.stderr)
    assert done.stdout == ""
    assert not list((tmp_path / "tox").glob("*/bin"))


def test_a_factor_that_is_none(tmp_path: Path) -> None:
    done = tox("-f", "torch99", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "matrix: no environment has the factor 'torch99'; tox list shows them all\n"
    )


def test_arguments_go_on_to_the_cell(tmp_path: Path) -> None:
    arguments = ["--platform", "cpu", "-k", "moe"]
    done = tox(
        "config", "-e", "py311-torch210", "-k", "commands", "--", *arguments, folder=tmp_path
    )
    assert "python -m matrix run py311-torch210 --platform cpu -k moe" in done.stdout


def install(name: str, dependency: str, folder: Path, **environ: str) -> tuple[str, list[Path]]:
    """Let tox make a cell's environment out of one dependency, from an index that holds nothing."""
    (folder / "index").mkdir()
    done = tox(
        *("-e", name, "-x", f"testenv:{name}.deps={dependency}"),
        *("-x", f"testenv:{name}.skip_install=true", "-x", f"testenv:{name}.commands="),
        *("--", "--platform", "cpu", "--records", str(folder / "records"), "-k", "moe"),
        folder=folder,
        UV_NO_INDEX="1",
        UV_FIND_LINKS=str(folder / "index"),
        **environ,
    )
    return done.stdout + done.stderr, sorted((folder / "records").glob("*/*.json"))


def test_a_cell_that_does_not_resolve_leaves_a_record(tmp_path: Path) -> None:
    said, paths = install(f"{HERE}-torch210", "packaging==99999", tmp_path)
    (path,) = paths
    validate(json.loads(path.read_text(encoding="utf-8")), path.name)
    record = read(path)
    assert record.error is not None and record.error.kind == "resolves"
    assert record.error.reason.startswith("Because ")
    assert "packaging==99999" in record.error.reason
    assert record.cell == f"{HERE}-torch210-vllm019" and path.parent.name == "cpu"
    assert not record.rungs[0].ok and record.rungs[0].rung == "resolves"
    assert f"matrix: {HERE}-torch210: {record.error.reason}" in said
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


def test_a_cell_without_its_python_leaves_a_record(tmp_path: Path) -> None:
    other = "py310" if HERE != "py310" else "py313"
    _, paths = install(
        f"{other}-torch210",
        "packaging",
        tmp_path,
        PATH=str(Path(sys.executable).parent),
        UV_PYTHON_DOWNLOADS="never",
        UV_PYTHON_INSTALL_DIR=str(tmp_path / "none"),
    )
    (path,) = paths
    record = read(path)
    assert record.error is not None and record.error.kind == "internal"
    assert record.error.reason.startswith("the environment could not be made: ")
    assert f"3.{other[3:]}" in record.error.reason


def test_a_cell_that_installs_leaves_its_record_to_the_run(tmp_path: Path) -> None:
    said, paths = install(f"{HERE}-torch210", "", tmp_path)
    assert paths == [], said


def test_the_commands_of_the_readme_are_those_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    setup = 'python3.11 -m venv .venv && .venv/bin/pip install -q "tox>=4.40" && '
    command = re.escape(f"{setup}.venv/bin/tox -e ")
    found = re.findall(rf"^{command}(\S+)$", readme, re.MULTILINE)
    assert found == ["py311-torch210,table", "lint,type,unit"]
    assert "tox -e lint,type,unit" in (ROOT / ".github/workflows/ci.yml").read_text()
    assert "README.md" in (ROOT / ".ci/run").read_text()


def test_the_table_of_ci_is_kept_where_a_record_is_bad() -> None:
    _, _, after = (ROOT / ".github/workflows/ci.yml").read_text().partition("- run: tox -e table\n")
    steps = after.split("      - ")[1:]
    assert len(steps) == 2
    assert all("if: always()" in step for step in steps)


def test_each_extra_is_an_environments_or_a_commands() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    _, _, extras = pyproject.partition("[project.optional-dependencies]\n")
    named = re.findall(r"^(\w+) = \[", extras.partition("\n[")[0], re.MULTILINE)
    used = re.findall(r"^extras = (\w+)$", (ROOT / "tox.ini").read_text(), re.MULTILINE)
    # `matrix refresh` is a person's command and needs the index.
    assert set(named) == {*used, "index"}


def test_the_readme_names_the_cells() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for cell in (each for each in RELEASES.cells() if each.python == "3.11"):
        names = [cell.name, *([cell.short_name] if cell.short_name in NAMES else [])]
        row = next(line for line in readme.splitlines() if f"`{cell.name}` |" in line)
        assert f"| {cell.torch} | {cell.vllm} |" in row
        if RELEASES.resolve(cell.short_name) == cell:
            assert all(f"`{name}`" in row for name in names)
