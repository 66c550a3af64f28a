"""tox.ini against the data that it repeats, and what tox does with names that are no cell."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from matrix.catalog.cells import Cell, factors, is_candidate
from matrix.catalog.releases_file import load_releases
from matrix.record.reader import read
from toxed import Tox, command_of, environ_of, write_wheel

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
RELEASES = load_releases()
NAMES = {name: cell for cell in RELEASES.on_pin() for name in RELEASES.names(cell)}
OFF_PIN = {
    name: RELEASES.resolve(name)
    for name in ("py312-torch212-vllm020", "py311-torch29-vllm019", "py314-torch215-vllm033")
}
HERE = f"py{sys.version_info.major}{sys.version_info.minor}"


@pytest.fixture(scope="module")
def configured(tox: Tox, tmp_path_factory: pytest.TempPathFactory) -> configparser.ConfigParser:
    """Return what tox makes of every environment of tox.ini."""
    return config(tox, "ALL", tmp_path_factory.mktemp("config"))


def config(tox: Tox, names: str, folder: Path) -> configparser.ConfigParser:
    keys = ["deps", "commands", "description", "package", "interrupt_timeout", "set_env"]
    done = tox("config", "-k", *keys, "-e", names, folder=folder)
    assert done.returncode == 0, done.stderr
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(done.stdout)
    return parser


def test_tox_has_the_client_of_an_index_that_its_hook_asks() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini")
    has = set(map(Requirement, parser["tox"]["requires"].split()))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    index = set(map(Requirement, project["optional-dependencies"]["index"]))
    # tox itself needs filelock; the files that tomli-w writes are not written by tox.
    assert {need for need in index if need.name not in {"filelock", "tomli-w"}} <= has


def pins(section: configparser.SectionProxy) -> dict[str, str]:
    """Return what the environment's dependencies pin."""
    wanted = [Requirement(line) for line in section["deps"].split()]
    found = {requirement.name: str(requirement.specifier) for requirement in wanted}
    assert found.pop("pytest") == ">=8"
    return {name: specifier.removeprefix("==") for name, specifier in found.items()}


def constraints(cell: Cell) -> dict[str, str]:
    wanted = map(Requirement, RELEASES.constraints(cell.vllm))
    return {requirement.name: str(requirement.specifier) for requirement in wanted}


def test_tox_has_an_environment_for_each_name_of_each_on_pin_cell(
    configured: configparser.ConfigParser,
) -> None:
    named = {section.removeprefix("testenv:") for section in configured.sections()}
    assert {environment for environment in named if environment.startswith("py3")} == set(NAMES)
    assert {"unit", "lint", "type", "table", "bench"} <= named


def test_a_cells_pins_are_those_of_the_releases(configured: configparser.ConfigParser) -> None:
    for name, cell in NAMES.items():
        check_on_pin(configured, name, cell)


def check_on_pin(configured: configparser.ConfigParser, name: str, cell: Cell) -> None:
    section = configured[f"testenv:{name}"]
    assert pins(section) == {"vllm": cell.vllm, "torch": cell.torch, **constraints(cell)}
    assert "UV_OVERRIDE" not in section["set_env"]
    assert section["commands"] == f"python -m matrix run {name} --here"
    assert section["package"] == "editable"
    said = section["description"]
    assert said.startswith(f"torch {cell.torch} with vLLM {cell.vllm} on Python {cell.python}:")
    # tox's own default, 0.3 s, would kill a cell before it has written its record.
    assert float(section["interrupt_timeout"]) >= 20


def test_an_off_pin_cell_is_an_environment_for_whom_asks(tox: Tox, tmp_path: Path) -> None:
    found = config(tox, ",".join(["unit", *OFF_PIN]), tmp_path)
    assert set(found.sections()) == {"testenv:unit", *(f"testenv:{name}" for name in OFF_PIN)}
    for name, cell in OFF_PIN.items():
        section = found[f"testenv:{name}"]
        wanted = {"vllm": cell.vllm, **RELEASES.companions(cell), **constraints(cell)}
        assert pins(section) == wanted
        assert section["commands"] == f"python -m matrix run {name} --here"
        assert section["package"] == "editable"
        assert section["description"].startswith("off-pin ")
        assert f"/{name}/tmp/overrides.txt" in section["set_env"]
        assert float(section["interrupt_timeout"]) >= 20
    assert "UV_OVERRIDE" not in found["testenv:unit"]["set_env"]


def test_every_environment_is_explained_in_a_line(
    tox: Tox, configured: configparser.ConfigParser, tmp_path: Path
) -> None:
    done = tox("list", folder=tmp_path)
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if "->" in line]
    named = {section[8:] for section in configured.sections() if section.startswith("testenv:")}
    assert {line.split()[0] for line in lines} == {
        environment for environment in named if environment[0] != "."
    }
    assert not [line for line in lines if "no description" in line]


def test_tox_alone_runs_no_cell(tox: Tox, tmp_path: Path) -> None:
    done = tox("list", "--no-desc", "-d", folder=tmp_path)
    assert done.stdout.split() == ["lint", "type", "unit"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("py311-torch99", "torch 9.9"),
        ("py312-torch212", "no known vLLM pins torch 2.12, so name one; use py312-torch212-vllm0"),
        ("py39-torch210", "py39"),
        ("py311-torch210-vllm0x", "vllm0x"),
        ("lint,py311-torch99", "torch 9.9"),
        ("py310-torch213", "vLLM 0.32.0 needs Python >=3.11,<3.15"),
        ("py310-torch212-vllm033", "vLLM 0.33.0 needs Python >=3.11,<3.15"),
        ("py312-torch212-vllm020,py312-torch212-vllm099", "vLLM 0.99"),
        ("unti", "did you mean 'unit'?"),
        ("py311-torch211-vlm026", "did you mean 'py311-torch211-vllm026'?"),
        ("py", "tox list"),
    ],
)
def test_a_name_that_is_no_environment(tox: Tox, tmp_path: Path, name: str, reason: str) -> None:
    done = tox("-e", name, folder=tmp_path)
    assert done.returncode == 2
    assert reason in done.stderr
    assert re.fullmatch(r"matrix: [^\n]+\n", done.stderr)
    assert done.stdout == ""
    assert not list((tmp_path / "tox").glob("*/bin"))


def test_a_factor_that_is_none(tox: Tox, tmp_path: Path) -> None:
    done = tox("-f", "torch99", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "matrix: no environment has the factor 'torch99'; tox list shows them all\n"
    )


def test_a_factor_that_is_mistyped(tox: Tox, tmp_path: Path) -> None:
    done = tox("-f", "trch211", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("; did you mean 'torch211'?\n")


def test_arguments_go_on_to_the_cell(tox: Tox, tmp_path: Path) -> None:
    arguments = ["--platform", "cpu", "-k", "moe"]
    done = tox(
        "config", "-e", "py311-torch210", "-k", "commands", "--", *arguments, folder=tmp_path
    )
    assert "python -m matrix run py311-torch210 --here --platform cpu -k moe" in done.stdout


def install(
    tox: Tox, name: str, dependency: str, folder: Path, **environ: str
) -> tuple[str, list[Path]]:
    """Let tox make a cell's environment out of one dependency, from the folder's own index."""
    index, uv = folder / "index", folder / "uv.toml"
    index.mkdir(exist_ok=True)
    uv.write_text(f'no-index = true\nfind-links = ["{index}"]\n')
    done = tox(
        *("-e", name, "-x", f"testenv:{name}.deps={dependency}"),
        *("-x", f"testenv:{name}.skip_install=true", "-x", f"testenv:{name}.commands="),
        *("--", "--platform", "cpu", "--records", str(folder / "records"), "-k", "moe"),
        folder=folder,
        UV_CONFIG_FILE=str(uv),
        **environ,
    )
    return done.stdout + done.stderr, sorted((folder / "records").glob("*/*.json"))


@pytest.mark.programs
def test_a_cell_that_cannot_be_installed_leaves_a_record(tox: Tox, tmp_path: Path) -> None:
    said, paths = install(tox, f"{HERE}-torch210", "packaging==99999", tmp_path)
    (path,) = paths
    record = read(path)
    assert record.error is not None and record.error.kind == "not_published"
    assert record.error.reason.startswith("Because ")
    assert "packaging==99999" in record.error.reason
    assert record.cell == f"{HERE}-torch210-vllm019" and path.parent.name == "cpu"
    assert record.rungs == ()
    assert f"matrix: {HERE}-torch210: {record.error.reason}" in said
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


@pytest.mark.programs
def test_an_off_pin_cell_gets_its_torch_in_the_place_of_the_pin(tox: Tox, tmp_path: Path) -> None:
    cell = RELEASES.resolve(f"{HERE}-torch212-vllm020")
    pin = RELEASES.pin(cell)
    index = tmp_path / "index"
    write_wheel(index, "vllm", cell.vllm, f"torch=={pin}", "torchvision", "torchaudio")
    for name, version in RELEASES.companions(cell).items():
        write_wheel(index, name, version)
        write_wheel(index, name, "99.0")
    said, paths = install(tox, cell.name, f"vllm=={cell.vllm}", tmp_path)
    assert paths == [], said
    found = {folder.stem for folder in tmp_path.glob("tox/*/lib/python*/site-packages/*.dist-info")}
    wanted = {"vllm": cell.vllm, **RELEASES.companions(cell)}
    assert found == {f"{name}-{version}" for name, version in wanted.items()}
    assert f"{HERE}-torch212-vllm020" in {folder.name for folder in (tmp_path / "tox").iterdir()}


@pytest.mark.parametrize("torch", ["torch211", "torch212"])
@pytest.mark.programs
def test_what_is_not_overridden_is_not_forced(tox: Tox, tmp_path: Path, torch: str) -> None:
    cell = RELEASES.resolve(f"{HERE}-{torch}-vllm020")
    pin = "torch==2.11.0" if torch == "torch211" else "ray==2.0"
    write_wheel(tmp_path / "index", "vllm", cell.vllm, pin)
    write_wheel(tmp_path / "index", "torch", "2.12.1")
    write_wheel(tmp_path / "index", "ray", "2.1")
    said, (path,) = install(tox, cell.name, f"vllm=={cell.vllm}", tmp_path)
    record = read(path)
    assert record.error is not None and record.error.kind == "resolves"
    assert pin in record.error.reason
    assert record.cell == cell.name
    assert f"matrix: {cell.name}: {record.error.reason}" in said


def test_uv_takes_no_path_with_a_space(tox: Tox, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    done = tox("-e", "py312-torch212-vllm020", folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"matrix: '[^\n]+' has a space[^\n]+\n", done.stderr)
    done = tox("config", "-e", "py312-torch211-vllm020", "-k", "deps", folder=folder)
    assert done.returncode == 0


@pytest.mark.programs
def test_bad_data_keeps_no_test_from_running(tmp_path: Path) -> None:
    # The copy is another project, for which nothing is loaded before.
    for source in (ROOT / "matrix", ROOT / "tox.ini", ROOT / "toxfile.py"):
        copy = tmp_path / source.name
        if source.is_dir():
            shutil.copytree(
                source, copy, ignore=shutil.ignore_patterns("__pycache__", "inside", "symbols")
            )
        else:
            shutil.copyfile(source, copy)
    (tmp_path / "matrix" / "data" / "releases.json").write_text("{")

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "tox", *command_of(arguments, tmp_path)],
            cwd=tmp_path,
            env=environ_of({"PYTHONPATH": ""}),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    done = run("config", "-e", "unit", "-k", "extras")
    assert (done.returncode, done.stderr) == (0, "")
    done = run("-e", "py312-torch212-vllm020")
    assert done.returncode == 2
    assert re.fullmatch(r"matrix: [^\n]+releases\.json: is not JSON [^\n]+\n", done.stderr)


@pytest.mark.programs
def test_a_cell_without_its_python_leaves_a_record(tox: Tox, tmp_path: Path) -> None:
    other = "py310" if HERE != "py310" else "py313"
    _, paths = install(
        tox,
        f"{other}-torch210",
        "packaging",
        tmp_path,
        PATH=str(Path(sys.executable).parent),
        UV_PYTHON_DOWNLOADS="never",
        UV_PYTHON_INSTALL_DIR=str(tmp_path / "none"),
    )
    (path,) = paths
    record = read(path)
    assert record.error is not None and record.error.kind == "no_python"
    assert record.error.reason.startswith(f"Python 3.{other[3:]} is missing on this machine, ")


@pytest.mark.programs
def test_a_cell_that_installs_leaves_its_record_to_the_run(tox: Tox, tmp_path: Path) -> None:
    said, paths = install(tox, f"{HERE}-torch210", "", tmp_path)
    assert paths == [], said


def test_the_commands_of_the_readme_are_those_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    setup = 'python3.11 -m venv .venv && .venv/bin/pip install -q "tox>=4.40" && '
    command = re.escape(f"{setup}.venv/bin/tox -e ")
    found = re.findall(rf"^{command}(\S+)$", readme, re.MULTILINE)
    assert found == ["py311-torch210,table", "lint,type,unit"]
    for page, names in (("docs/tutorial/first-cell.md", found[:1]), ("CONTRIBUTING.md", found[1:])):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert re.findall(rf"^{command}(\S+)$", text, re.MULTILINE) == names
    assert "tox -e lint,type,unit" in (ROOT / ".github/workflows/ci.yml").read_text()
    assert "README.md" in (ROOT / ".ci/run").read_text()


def test_what_unit_leaves_to_programs_is_run_wherever_unit_is() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini")
    chosen = {}
    for name in ("unit", "programs", "coverage", "lowest"):
        _, _, options = parser[f"testenv:{name}"]["commands"].partition(" -m pytest ")
        chosen[name] = re.findall(r"-m (\w+|\"[^\"]+\")", options.splitlines()[0])
    # Coverage and the lowest releases are of all tests.
    assert chosen == {
        "unit": ['"not programs"'],
        "programs": ["programs"],
        "coverage": [],
        "lowest": [],
    }
    jobs = (ROOT / ".github/workflows/ci.yml").read_text().split("\n\n")
    found = [job for job in jobs if re.search(r"tox -e \S*\bunit\b", job)]
    assert len(found) == 2
    assert all(re.search(r"tox -e \S*\bprograms\b", job) for job in found)
    assert ".venv/bin/tox -e coverage" in (ROOT / ".ci/run").read_text()


def test_ci_runs_cells_that_the_matrix_holds_and_checks_this_block() -> None:
    (listed,) = re.findall(r"cell: \[(.*)\]", (ROOT / ".github/workflows/ci.yml").read_text())
    named = [
        *listed.split(", "),
        *re.findall(r"^cell (\S+)", (ROOT / ".ci/run").read_text(), re.MULTILINE),
    ]
    assert len(named) >= 6
    assert {RELEASES.resolve(name) for name in named} <= set(RELEASES.cells())
    lint = (ROOT / "tox.ini").read_text().partition("[testenv:lint]")[2].partition("\n[")[0]
    assert "python -m matrix sync --check" in lint


def test_the_table_of_ci_is_kept_where_a_record_is_bad() -> None:
    _, _, after = (ROOT / ".github/workflows/ci.yml").read_text().partition("- run: tox -e table\n")
    steps = after.split("      - ")[1:]
    assert len(steps) == 2
    assert all("if: always()" in step for step in steps)


def test_each_extra_and_group_is_an_environments_or_a_commands() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    tox = configparser.ConfigParser(interpolation=None)
    tox.read_string((ROOT / "tox.ini").read_text(encoding="utf-8"))
    used = {extra for section in tox.sections() for extra in tox[section].get("extras", "").split()}
    groups = {tox[section].get("dependency_groups", "") for section in tox.sections()} - {""}
    # `matrix refresh` is a command of people, and so is a shell.
    assert set(extras) == {*used, "bundle", "completion", "index"}
    (every,) = extras.pop("all")
    del extras["ray"]  # a large one, for who has a cluster
    assert every == f"torch-vllm-matrix[{','.join(sorted(extras))}]"
    assert set(project["dependency-groups"]) == groups


def test_the_readme_names_the_cells() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    by_torch = dict[str, list[Cell]]()
    for cell in (triple for triple in RELEASES.cells() if triple.python == "3.12"):
        by_torch.setdefault(cell.torch, []).append(cell)
    for torch, cells in by_torch.items():
        row = next(line for line in readme.splitlines() if line.startswith(f"| {torch} | "))
        first, last = cells[0].name, cells[-1].name
        through = f" to `-{last.rpartition('-')[2]}`" if len(cells) > 1 else ""
        assert f"| {', '.join(cell.vllm for cell in cells)} | `{first}`{through}, " in row
        assert all(f"`{name}`" in row for name in RELEASES.names(cells[-1]) if name != last)
    commands = re.findall(r"tox -e (py3\d+-torch[\w-]+)", readme)
    # A candidate is in no data until somebody adds it.
    releases = [name for name in commands if not any(map(is_candidate, _versions(name)))]
    assert {RELEASES.is_off_pin(RELEASES.resolve(name)) for name in releases} == {True, False}


def _versions(name: str) -> list[str]:
    found = factors(name)
    return [found.torch, *([] if found.vllm is None else [found.vllm])]


@pytest.mark.parametrize("names", ["", " ", ","])
def test_an_empty_e_runs_nothing(tox: Tox, tmp_path: Path, names: str) -> None:
    ended = tox("run", "-e", names, folder=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("matrix: -e names no environment: ")
