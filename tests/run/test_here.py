"""What would run here: the packages of environments, GPUs, wheels and what a resolver found."""

from __future__ import annotations

import json
import platform
import sysconfig
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest
from packaging.version import Version

from matrix.catalog.cells import Cell
from matrix.catalog.releases_file import load_releases
from matrix.checks.linkage.link import load_tables
from matrix.checks.lookup import Answers
from matrix.checks.resolution.cache import PLATFORM, Resolution, Resolutions
from matrix.record.model import Platform, Record
from matrix.run import here as module
from matrix.run.environment import read_environment
from matrix.run.here import (
    Hardware,
    ThisMachine,
    common,
    environment_packages,
    listed_packages,
)
from matrix.verdict.run_key import Packages, RunKey, WheelFile
from plans import record
from programs import program

CELL = Cell("3.12", "2.13.0", "0.32.0")
INSTALLED = ("torch-2.13.0+cu130.dist-info", "vllm-0.32.0.dist-info", "Jinja2-3.1.6.dist-info")
PACKAGES = {"torch": "2.13.0+cu130", "vllm": "0.32.0", "jinja2": "3.1.6"}


def resolution(**more: object) -> Resolution:
    found = {"torch": "2.13.0", "numpy": "2.2.6"}
    made = Resolution(
        cell=CELL, platform=PLATFORM, asked=date(2026, 11, 28), ok=True, packages=found
    )
    return made if not more else type(made)(**{**vars(made), **more})


def answers(*rows: Resolution) -> Answers:
    return Answers(load_releases(), Resolutions(rows=rows), load_tables())


def place(
    root: Path, *rows: Resolution, environ: Mapping[str, str] | None = None, **more: object
) -> ThisMachine:
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    return ThisMachine(
        load_releases(),
        answers(*rows),
        list,
        root=root,
        environ=hidden if environ is None else environ,
        **more,  # type: ignore[arg-type]
    )


def install(root: Path, *names: str, work: str = ".tox") -> Path:
    """Make a checkout with an environment of these folders of packages."""
    (root / "tox.ini").touch()
    folder = root / work / CELL.name
    site = folder / "lib" / "python3.12" / "site-packages"
    for name in names or INSTALLED:
        (site / name).mkdir(parents=True)
    return folder


def key(
    machine: ThisMachine, platform: Platform = Platform.CPU, *, off_pin: bool = False
) -> RunKey:
    return machine.key(CELL, platform, off_pin=off_pin)


def test_the_packages_are_those_of_the_environment_by_normalized_name(tmp_path: Path) -> None:
    folder = install(
        tmp_path,
        *INSTALLED,
        "flashinfer_python-0.6.14.dist-info",
        "ruamel.yaml-0.19.0.dist-info",
        "old-1.0-py3.12.egg-info",
        "~orch-2.12.0.dist-info.bak",
        "torch",
        "x.dist-info",
    )
    found = environment_packages(folder, CELL)
    assert found == {
        **PACKAGES,
        "flashinfer-python": "0.6.14",
        "ruamel-yaml": "0.19.0",
        "old": "1.0",
    }
    assert key(place(tmp_path)).packages == Packages(found)


def test_the_folders_of_an_environment_say_what_a_run_reads_in_its_metadata() -> None:
    """A record would else never stand for the environment that made it."""
    listed = listed_packages(Path(sysconfig.get_path("purelib")))
    read = read_environment().versions
    assert len(listed) > 20
    differ = {
        name: (version, read.get(name))
        for name, version in listed.items()
        if version != read.get(name) and Version(version) != Version(read.get(name, "0"))
    }
    assert differ == {}


@pytest.mark.parametrize(
    "names",
    [
        ("torch-2.13.0.dist-info",),  # its install failed
        ("torch-2.12.1.dist-info", "vllm-0.32.0.dist-info"),  # tox makes it again
        ("torch-x.dist-info", "vllm-0.32.0.dist-info"),
    ],
)
def test_an_environment_of_other_releases_says_nothing(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    install(tmp_path, *names)
    assert key(place(tmp_path)).packages is None


def test_environments_are_where_tox_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    install(tmp_path, work="elsewhere")
    assert key(place(tmp_path)).packages is None
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"}
    for named in ("elsewhere", str(tmp_path / "elsewhere")):
        found = key(place(tmp_path, environ={"TOX_WORK_DIR": named, **hidden}))
        assert found.packages == Packages(PACKAGES)
    (tmp_path / "tox.ini").unlink()
    assert key(place(tmp_path, environ={"TOX_WORK_DIR": "elsewhere", **hidden})).packages is None


def test_without_an_environment_it_is_what_a_resolver_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MACHINE", "x86_64")
    found = Packages({"torch": "2.13.0", "numpy": "2.2.6"}, asked="2026-11-28")
    assert key(place(tmp_path, resolution())).packages == found
    # As another machine may not have asked, or the environment would not install it.
    assert key(place(tmp_path, resolution(more_indexes=True))).packages is None
    assert key(place(tmp_path, resolution()), off_pin=True).packages is None
    forced = resolution(override={"torch": "2.13.0"})
    assert key(place(tmp_path, forced), off_pin=True).packages == found
    install(tmp_path)
    assert key(place(tmp_path, resolution())).packages == Packages(PACKAGES)
    monkeypatch.setattr(module, "_MACHINE", "aarch64")
    assert key(place(tmp_path / "none", resolution())).packages is None


def test_the_wheels_are_those_that_tox_noted(tmp_path: Path) -> None:
    folder = install(tmp_path)
    note = {
        "c1": {"file": "torch-2.13.0-cp312-cp312-manylinux_2_28_x86_64.whl", "sha256": "s1"},
        "c2": {"file": "vllm-0.32.0-cp38-abi3-manylinux_2_28_x86_64.whl"},
        "c3": {"file": "numpy-2.2.6-cp312-cp312-manylinux_2_28_x86_64.whl", "sha256": "s3"},
        "c4": None,
    }
    (folder / "matrix_published.json").write_text(json.dumps(note))
    assert key(place(tmp_path)).files == {"torch": WheelFile("c1", "s1"), "vllm": WheelFile("c2")}
    (folder / "matrix_published.json").write_text("{")
    assert key(place(tmp_path)).files == {}


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a nvidia-smi that prints what is in a file, and notes its arguments in another."""
    path = program(tmp_path / "bin", "nvidia-smi", 'echo "$@" > "$0.asked"\ncat "$0.txt"')
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    return path


def test_the_kinds_of_gpu_and_the_driver_are_those_that_nvidia_smi_names(
    tmp_path: Path, smi: Path
) -> None:
    smi.with_suffix(".txt").write_text(
        "NVIDIA H200, 580.159.04\nNVIDIA H200, 580.159.04\nNVIDIA A100, PCIe, 580.159.04\n"
    )
    found = key(place(tmp_path, environ={"CUDA_VISIBLE_DEVICES": "0,2,3"}), Platform.CUDA)
    assert found.gpus == {"NVIDIA H200", "NVIDIA A100, PCIe"}
    assert (found.driver, found.machine) == ("580.159", platform.machine())
    assert smi.with_suffix(".asked").read_text().endswith("-i 0,2,3\n")


@pytest.mark.parametrize("text", ["", "\n", "No devices were found\n"])
def test_without_a_gpu_nothing_is_known_of_cuda(tmp_path: Path, smi: Path, text: str) -> None:
    smi.with_suffix(".txt").write_text(text)
    found = key(place(tmp_path, environ={}), Platform.CUDA)
    assert (found.gpus, found.driver, found.machine) == (frozenset(), None, None)
    # The CPU platform needs none.
    assert key(place(tmp_path, environ={})).machine == platform.machine()


def test_a_hidden_gpu_and_one_that_is_not_needed_are_not_asked_for(
    tmp_path: Path, smi: Path
) -> None:
    smi.with_suffix(".txt").write_text("NVIDIA H200, 580.159.04\n")
    assert key(place(tmp_path), Platform.CUDA).gpus == frozenset()
    assert key(place(tmp_path, environ={}), Platform.CPU).gpus == frozenset()
    assert not smi.with_suffix(".asked").exists()


def test_the_records_are_read_once_and_only_where_they_are_asked_for(tmp_path: Path) -> None:
    read: list[int] = []

    def every() -> list[Record]:
        read.append(1)
        return [record(), record("py310-torch29-vllm016", platform="cpu")]

    machine = ThisMachine(load_releases(), answers(), every, root=tmp_path, environ={})
    machine.key(CELL, Platform.CPU, off_pin=False)
    found = machine.others("py311-torch210-vllm019", Platform.CUDA)
    assert read == []
    assert [made.platform for made in found] == [Platform.CUDA]
    assert list(machine.others("py311-torch210-vllm019", Platform.CPU)) == []
    assert read == [1]


def test_of_another_machine_only_what_is_resolved_and_asked_for_is_known(
    tmp_path: Path, smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MACHINE", "x86_64")
    smi.with_suffix(".txt").write_text("NVIDIA H200, 580.159.04\n")
    install(tmp_path)
    resolved = Packages({"torch": "2.13.0", "numpy": "2.2.6"}, asked="2026-11-28")

    def there(where: Hardware) -> ThisMachine:
        return place(tmp_path, resolution(), environ={}, elsewhere=where, flags={"VLLM_A": "1"})

    machine = there(Hardware())
    flags = {"VLLM_A": "1"}
    assert key(machine, Platform.CUDA) == RunKey(cell=CELL, packages=resolved, flags=flags)
    assert key(machine, Platform.CPU).machine is None
    known = there(Hardware("x86_64", frozenset({"NVIDIA A100"}), "570.86"))
    found = key(known, Platform.CUDA)
    assert found == RunKey(
        cell=CELL,
        packages=resolved,
        machine="x86_64",
        gpus=frozenset({"NVIDIA A100"}),
        driver="570.86",
        flags=flags,
    )
    on_cpu = key(known)
    assert (on_cpu.machine, on_cpu.gpus, on_cpu.driver) == ("x86_64", frozenset(), None)
    other = key(there(Hardware("aarch64", frozenset({"NVIDIA GH200"}))), Platform.CUDA)
    assert (other.machine, other.packages) == ("aarch64", None)
    # Nodes without a GPU run nothing on cuda, whatever they are.
    assert key(there(Hardware("aarch64")), Platform.CUDA).machine is None


def test_of_several_machines_that_is_known_which_they_share() -> None:
    h200, a100 = frozenset({"H200"}), frozenset({"A100"})
    assert common([]) == Hardware()
    assert common([Hardware("x86_64", h200, "1"), Hardware("x86_64", a100, "1")]) == Hardware(
        "x86_64", h200 | a100, "1"
    )
    assert common([Hardware("x86_64", h200, "1"), Hardware("aarch64", a100, "2")]) == Hardware(
        None, h200 | a100, None
    )
    assert common([Hardware("x86_64"), Hardware("x86_64", h200, "1")]).driver == "1"


def test_the_flags_are_those_that_are_asked_for(tmp_path: Path) -> None:
    assert key(place(tmp_path)).flags == {}
    assert key(place(tmp_path, flags={"VLLM_A": "1"})).flags == {"VLLM_A": "1"}
