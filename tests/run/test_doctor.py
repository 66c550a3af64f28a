"""What a machine lacks for cells: each check of a machine that has, lacks, or does not say it."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix._util.versions import VersionRange
from matrix.catalog.cells import Cell
from matrix.catalog.release import Torch, Vllm
from matrix.catalog.releases_file import load_releases
from matrix.checks.vllm_build.compiler import Nvcc
from matrix.record.jit_modules import load_jit_modules
from matrix.record.model import Platform
from matrix.run.doctor import cuda, examine, host, pythons
from matrix.run.doctor.model import (
    CheckState,
    Examination,
    FoundCode,
    HostSystem,
    MachineCheck,
    Need,
    Remedy,
    joined,
)
from matrix.run.nvidia_probe import DriverAnswer
from matrix.run.rerun import RerunError
from programs import program

MINOR = "{}.{}".format(*sys.version_info)
CELL = Cell("3.12", "2.11.0", "0.26.0")
GOOD = DriverAnswer(
    cuda=(13, 0),
    gpus=1,
    name="NVIDIA H200",
    capability=(9, 0),
    used_mib=0,
    free_mib=140_000,
    total_mib=143_000,
)


def by_need(checks: list[MachineCheck]) -> dict[Need, MachineCheck]:
    return {check.need: check for check in checks}


def test_the_own_python_starts_and_has_headers() -> None:
    found = pythons.find_python(MINOR, None)
    assert found is not None and found.version is not None and found.version.startswith(MINOR)
    checks = by_need(pythons.python_checks(MINOR, found, None))
    assert checks[Need.PYTHON].state is CheckState.OK
    assert set(checks) == {Need.PYTHON, Need.HEADERS}


def test_a_shim_that_does_not_start_is_named(tmp_path: Path) -> None:
    shim = program(
        tmp_path, "python3.99", "echo 'pyenv: python3.99: command not found' >&2; exit 127"
    )
    found = pythons.find_python("3.99", None, {"PATH": str(tmp_path)})
    assert found is not None and found.path == str(shim)
    (check,) = pythons.python_checks("3.99", found, None)
    assert check.state is CheckState.LACKS and check.code is FoundCode.DOES_NOT_START
    assert check.detail == "pyenv: python3.99: command not found"
    assert check.remedy is Remedy.INSTALL_PYTHON


@pytest.mark.parametrize(
    ("uv", "environ", "state"),
    [
        (None, {}, CheckState.LACKS),
        ("/usr/bin/uv", {}, CheckState.UNKNOWN),
        ("/usr/bin/uv", {"UV_PYTHON_DOWNLOADS": "never"}, CheckState.LACKS),
    ],
)
def test_a_python_that_uv_would_fetch_is_not_known(
    uv: str | None, environ: dict[str, str], state: CheckState
) -> None:
    (check,) = pythons.python_checks("3.99", None, uv, environ)
    assert check.state is state and check.remedy is Remedy.INSTALL_PYTHON


def test_uv_says_which_python_it_takes(tmp_path: Path) -> None:
    uv = program(tmp_path, "uv", f"echo warning: x >&2; echo {sys.executable}")
    found = pythons.find_python(MINOR, str(uv), {"PATH": ""})
    assert found is not None and found.path == sys.executable
    silent = program(tmp_path, "silent", "exit 2")
    assert pythons.find_python("3.99", str(silent), {"PATH": ""}) is None


def test_headers_that_are_missing_are_lacking(tmp_path: Path) -> None:
    found = pythons.FoundPython(path="python", version="3.12.1", include=str(tmp_path))
    headers = by_need(pythons.python_checks("3.12", found, None))[Need.HEADERS]
    assert (headers.state, headers.remedy) == (CheckState.LACKS, Remedy.INSTALL_HEADERS)
    (tmp_path / "Python.h").write_text("")
    headers = by_need(pythons.python_checks("3.12", found, None))[Need.HEADERS]
    assert headers.state is CheckState.OK


@pytest.mark.parametrize(
    ("body", "code", "remedy"),
    [
        ("exit 0", None, None),
        ("echo 'fatal error: vector: none' >&2; exit 1", FoundCode.FAILS, Remedy.SET_CXX),
        (None, FoundCode.DOES_NOT_START, Remedy.SET_CXX),
    ],
)
def test_the_compiler_compiles(
    tmp_path: Path, body: str | None, code: FoundCode | None, remedy: Remedy | None
) -> None:
    name = tmp_path / "cxx"
    if body is not None:
        program(tmp_path, "cxx", body)
    check = pythons.compiler_check({"CXX": str(name)})
    assert (check.code, check.remedy) == (code, remedy)
    assert check.state is (CheckState.LACKS if code else CheckState.OK)


def test_without_a_compiler_it_is_to_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pythons.compiler_check({}).remedy is Remedy.INSTALL_COMPILER
    assert pythons.c_compiler_check({}).remedy is Remedy.INSTALL_C_COMPILER
    assert pythons.c_compiler_check({"CC": "tcc"}).remedy is Remedy.SET_CC
    program(tmp_path, "clang", "exit 0")
    assert pythons.c_compiler_check({"PATH": str(tmp_path)}).found == "clang"
    openssl = host.openssl_check()
    assert (openssl.state, openssl.remedy) == (CheckState.LACKS, Remedy.INSTALL_OPENSSL)
    program(tmp_path, "openssl", "echo 00")
    assert host.openssl_check().state is CheckState.OK


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("4.67.15 from x", CheckState.OK),
        ("4.2 from x", CheckState.UNKNOWN),
        ("x", CheckState.LACKS),
    ],
)
def test_tox_says_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, state: CheckState
) -> None:
    tox = program(tmp_path, "tox", f"echo '{answer}'")
    monkeypatch.setattr(pythons, "tox_command", lambda: [str(tox)])
    assert pythons.tox_check(tmp_path).state is state
    (tmp_path / "tox.ini").write_text("[tox]\nrequires = tox>=5\n")
    assert pythons.tox_check(tmp_path).wanted == ">=5"


def test_without_tox_and_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> list[str]:
        raise RerunError("tox is not installed")

    monkeypatch.setattr(pythons, "tox_command", absent)
    check = pythons.tox_check(tmp_path)
    assert (check.state, check.remedy) == (CheckState.LACKS, Remedy.INSTALL_TOX)
    assert pythons.uv_check(None).state is CheckState.UNKNOWN
    uv = program(tmp_path, "uv", "echo uv 0.13.9")
    found = pythons.uv_check(str(uv))
    assert (found.state, found.found) == (CheckState.OK, "0.13.9")
    broken = program(tmp_path, "broken", "exit 1")
    assert pythons.uv_check(str(broken)).code is FoundCode.DOES_NOT_START


def test_disks_are_looked_at_and_no_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    free = {"mib": 5}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free["mib"] * 2**20))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    environ = {"TOX_WORK_DIR": str(tmp_path / "work" / "tox")}
    little = host.environment_disk_check(CELL, tmp_path, environ)
    assert (little.state, little.found) == (CheckState.LACKS, 5)
    assert little.wanted == 10 * 1024 and little.remedy is Remedy.MAKE_ROOM
    checks = by_need(list(host.folder_checks(tmp_path)))
    assert checks[Need.RECORDS_DISK].remedy is Remedy.MAKE_ROOM
    assert checks[Need.TEMPORARY_DISK].remedy is Remedy.SET_TMPDIR
    free["mib"] = 20_000
    assert host.environment_disk_check(CELL, tmp_path, environ).state is CheckState.OK
    assert list(tmp_path.iterdir()) == []


def test_an_environment_that_is_there_takes_no_room(tmp_path: Path) -> None:
    folder = tmp_path / CELL.name
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("")
    (folder / "lib" / "python3.12" / "site-packages" / "vllm-0.26.0.dist-info").mkdir(parents=True)
    check = host.environment_disk_check(CELL, tmp_path, {"TOX_WORK_DIR": str(tmp_path)})
    assert (check.state, check.code) == (CheckState.OK, FoundCode.THERE)


def test_a_temporary_folder_with_a_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    check = by_need(list(host.folder_checks(tmp_path)))[Need.TEMPORARY_PATH]
    assert (check.state, check.code) == (CheckState.LACKS, FoundCode.SPLITS)


def test_no_folder_takes_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    (tmp_path / "records").write_text("")  # a file; its folder counts
    checks = by_need(list(host.folder_checks(tmp_path)))
    assert checks[Need.TEMPORARY_DISK].code is FoundCode.NOT_WRITABLE
    assert Need.TEMPORARY_PATH not in checks


@pytest.mark.parametrize(
    ("available", "state"),
    [(None, CheckState.UNKNOWN), (4095, CheckState.LACKS), (4096, CheckState.OK)],
)
def test_memory_of_a_case(
    monkeypatch: pytest.MonkeyPatch, available: int | None, state: CheckState
) -> None:
    monkeypatch.setattr(host, "available_memory_mib", lambda _: available)
    assert host.memory_check().state is state


def test_a_low_limit_is_not_known_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = list(host.limit_checks(tmp_path))
    assert [check.state for check in found] == [CheckState.UNKNOWN] * 2
    assert [check.found for check in found] == [100, 100]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert [check.state for check in host.limit_checks(tmp_path)] == [CheckState.OK] * 2
    monkeypatch.setattr(host, "group_folders", lambda *_: ((tmp_path, 2), (tmp_path / "no", 2)))
    (tmp_path / "pids.max").write_text("64\n")
    threads = by_need(list(host.limit_checks(tmp_path)))[Need.THREADS]
    assert (threads.state, threads.found) == (CheckState.UNKNOWN, 64)


def test_shared_memory_of_two_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(total=64 * 2**20))
    check = host.shared_memory_check(tmp_path)
    assert (check.state, check.found) == (CheckState.LACKS, 64)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(total=2 * 2**30))
    assert host.shared_memory_check(tmp_path).state is CheckState.OK
    monkeypatch.undo()
    assert host.shared_memory_check(tmp_path / "none").code is FoundCode.NOT_WRITABLE


@pytest.mark.parametrize(
    ("machine", "libc", "state"),
    [
        ("x86_64", ("glibc", "2.36"), CheckState.OK),
        ("x86_64", ("glibc", "2.17"), CheckState.LACKS),
        ("aarch64", ("glibc", "2.36"), CheckState.OK),
        ("riscv64", ("glibc", "2.36"), CheckState.LACKS),
        ("x86_64", ("", ""), CheckState.UNKNOWN),
        ("x86_64", ("musl", "1.2"), CheckState.LACKS),
    ],
)
def test_wheels_are_for_a_machine(
    monkeypatch: pytest.MonkeyPatch, machine: str, libc: tuple[str, str], state: CheckState
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    tags: dict[str, tuple[str, ...]] = {
        "manylinux_2_28_x86_64": ("cp312",),
        "manylinux_2_34_x86_64": ("cp312",),
        "manylinux_2_28_aarch64": ("cp312",),
        "win_amd64": ("cp312",),
    }
    check = host.wheels_check(Torch(version="2.11.0", wheels=tags), "torch")
    assert check is not None and check.state is state
    assert host.wheels_check(Torch(version="2.11.0"), "torch") is None


@pytest.mark.parametrize(
    ("tag", "libc", "wanted", "state"),
    [
        ("manylinux1_x86_64", "2.17", "x86_64, glibc 2.5", CheckState.OK),
        ("manylinux2014_x86_64", "2.12", "x86_64, glibc 2.17", CheckState.LACKS),
        ("manylinux2014_aarch64", "2.36", "manylinux2014_aarch64", CheckState.LACKS),
        ("linux_x86_64", "2.17", "x86_64", CheckState.OK),
        ("any", "2.17", "x86_64", CheckState.OK),
    ],
)
def test_a_tag_of_any_age_says_its_glibc(
    monkeypatch: pytest.MonkeyPatch, tag: str, libc: str, wanted: str, state: CheckState
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", libc))
    check = host.wheels_check(Torch(version="2.8.0", wheels={tag: ("cp312",)}), "torch")
    assert check is not None and (check.state, check.wanted) == (state, wanted)


def test_the_wheels_of_every_pair_that_runs_fit_a_machine_of_today(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.39"))
    known = load_releases()
    releases: list[Torch | Vllm] = [*known.torch, *known.vllm]
    for release in releases:
        check = host.wheels_check(release, "release")
        assert check is None or check.state is CheckState.OK


def test_a_system_without_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.system_check().state is CheckState.OK
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert host.system_check().remedy is Remedy.USE_LINUX


@pytest.mark.parametrize(
    ("answer", "wheel", "driver", "remedy"),
    [
        (GOOD, "13.0", CheckState.OK, None),
        (GOOD, None, CheckState.UNKNOWN, None),
        (replace(GOOD, cuda=(12, 8)), "13.0", CheckState.LACKS, Remedy.UPDATE_DRIVER),
        (replace(GOOD, cuda=(13, 2)), "12.8", CheckState.OK, None),
        (DriverAnswer(missing="no libcuda.so.1"), "13.0", CheckState.LACKS, Remedy.INSTALL_DRIVER),
        (
            DriverAnswer(cuda=(13, 0), error="CUDA_ERROR_X"),
            "13.0",
            CheckState.LACKS,
            Remedy.SEE_GPU,
        ),
        (None, "13.0", CheckState.UNKNOWN, None),
    ],
)
def test_a_driver_serves_the_cuda_of_the_torch(
    answer: DriverAnswer | None, wheel: str | None, driver: CheckState, remedy: Remedy | None
) -> None:
    found = by_need(cuda.gpu_checks(cuda.FoundGpus(names=("GPU 0",), answer=answer), wheel))
    assert (found[Need.DRIVER].state, found[Need.DRIVER].remedy) == (driver, remedy)
    # What does not answer is never ok.
    assert (found[Need.GPU].state is CheckState.OK) == bool(answer and answer.gpus)


def test_a_full_gpu() -> None:
    answer = replace(GOOD, free_mib=2000)
    found = by_need(cuda.gpu_checks(cuda.FoundGpus(names=("GPU 0",), answer=answer), "13.0"))
    memory = found[Need.GPU_MEMORY]
    assert (memory.state, memory.remedy) == (CheckState.LACKS, Remedy.FREE_GPU)
    assert found[Need.DRIVER].state is CheckState.OK


@pytest.mark.parametrize(
    ("environ", "files", "on_bus", "code"),
    [
        ({}, (), (), FoundCode.ABSENT),
        ({}, (), ("0000:01:00.0",), FoundCode.NO_DRIVER),
        ({"CUDA_VISIBLE_DEVICES": ""}, ("nvidia0",), (), FoundCode.HIDDEN),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, (), (), FoundCode.ABSENT),
        ({"CUDA_VISIBLE_DEVICES": "7"}, ("nvidia0",), (), FoundCode.HIDDEN),
    ],
)
def test_no_gpu_is_seen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    files: tuple[str, ...],
    on_bus: tuple[str, ...],
    code: FoundCode,
) -> None:
    monkeypatch.setenv("PATH", "")
    for name in files:
        (tmp_path / name).write_text("")
    found = cuda.gpus_here(environ, devices=tmp_path, bus=lambda: on_bus)
    assert (found.names, found.code) == ((), code)
    checks = by_need(cuda.gpu_checks(found, "13.0"))
    assert checks[Need.GPU].state is CheckState.LACKS


def test_a_gpu_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / "nvidia0").write_text("")
    found = cuda.gpus_here({}, devices=tmp_path, driver=lambda: GOOD)
    assert (found.names, found.answer) == (("nvidia0",), GOOD)


@pytest.mark.parametrize(
    ("vllm", "capability", "expected"),
    [
        ("0.26.0", "9.0", True),
        ("0.26.0", None, True),
        ("0.26.0", "12.0", None),  # no GPU of that kind was seen
        ("0.19.1", "9.0", False),
        ("0.19.1", None, False),
        ("9.0.0", "9.0", None),  # newer than all that were seen
        ("main", None, None),
    ],
)
def test_which_releases_build_kernels(
    vllm: str, capability: str | None, expected: bool | None
) -> None:
    assert cuda.builds(load_jit_modules(), vllm, capability) is expected


@pytest.mark.parametrize(
    ("nvcc", "state", "code"),
    [
        ("13.2", CheckState.OK, None),
        ("12.8", CheckState.UNKNOWN, FoundCode.OTHER),
        ("silent", CheckState.LACKS, FoundCode.DOES_NOT_START),
        (None, CheckState.LACKS, FoundCode.ABSENT),
    ],
)
def test_nvcc_is_of_the_torchs_cuda(
    tmp_path: Path, nvcc: str | None, state: CheckState, code: FoundCode | None
) -> None:
    if nvcc is not None:
        program(tmp_path / "bin", "nvcc", "exit 1")
    found = Nvcc(home=tmp_path, release=nvcc if nvcc not in (None, "silent") else None)
    check = cuda.nvcc_check(CELL, "13.0", "9.0", nvcc=found)
    assert check is not None and (check.state, check.code) == (state, code)
    other = cuda.nvcc_check(CELL, "13.0", "12.0", nvcc=found)
    assert other is not None and other.state in {CheckState.OK, CheckState.UNKNOWN}
    assert cuda.nvcc_check(Cell("3.12", "2.10.0", "0.19.1"), "12.8", "9.0", nvcc=found) is None


def test_an_end_of_the_list_is_not_an_answer() -> None:
    (rule, *_) = load_jit_modules()
    few = (replace(rule, vllm=VersionRange(">=0.16,<0.17")),)
    assert [cuda.builds(few, vllm, "9.0") for vllm in ("0.15.1", "0.16.0", "0.17.0")] == [
        *(False, True, None)
    ]


NEEDS = st.builds(
    MachineCheck,
    need=st.sampled_from(Need),
    state=st.sampled_from(CheckState),
    found=st.sampled_from(["a", "b"]),
)


@given(st.lists(st.lists(NEEDS, max_size=6), min_size=1, max_size=5))
def test_joined_checks_lose_and_add_nothing(every: list[list[MachineCheck]]) -> None:
    names = [f"c{number}" for number in range(len(every))]
    found = joined(zip(names, every, strict=True))
    bare = [replace(check, cells=()) for check in found]
    assert len(set(bare)) == len(bare)
    for name, checks in zip(names, every, strict=True):
        of_cell = {
            plain
            for plain, check in zip(bare, found, strict=True)
            if name in (check.cells or names)
        }
        assert of_cell == set(checks)


@given(st.lists(NEEDS, max_size=8))
def test_only_a_lack_makes_the_exit_status_1(checks: list[MachineCheck]) -> None:
    found = Examination(platform=Platform.CPU, cells=(), system=HostSystem(), checks=tuple(checks))
    assert found.exit_status == any(check.state is CheckState.LACKS for check in checks)


def test_an_examination_has_what_each_platform_takes(tmp_path: Path) -> None:
    releases = load_releases()
    asked: dict[str, Any] = {"root": tmp_path, "environ": {"PATH": os.environ["PATH"]}}
    cpu = examine.examine((examine.default_cell(releases),), releases, Platform.CPU, **asked)
    needs = {check.need for check in cpu.checks}
    assert Need.OPENSSL in needs and not needs & {
        Need.C_COMPILER,
        Need.GPU,
        Need.DRIVER,
        Need.NVCC,
        Need.INDEX,
    }
    cells = (Cell(MINOR, "2.11.0", "0.26.0"), Cell(MINOR, "2.10.0", "0.19.1"))
    on_cuda = examine.examine(cells, releases, Platform.CUDA, **asked)
    needs = {check.need for check in on_cuda.checks}
    assert {Need.GPU, Need.DRIVER} & needs and Need.OPENSSL not in needs
    (nvcc,) = [check for check in on_cuda.checks if check.need is Need.NVCC]
    assert nvcc.cells == (cells[0].name,)
