"""What `matrix doctor` prints, and its words for all that a machine can lack."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command import matrix
from matrix._util.console import Terminal
from matrix.record.model import Platform
from matrix.report.doctor import content, lines
from matrix.report.doctor_fixes import fix
from matrix.run.doctor.model import (
    CheckState,
    Examination,
    FoundCode,
    HostSystem,
    MachineCheck,
    Need,
    Remedy,
)
from matrix.run.doctor.pythons import tox_check

CELL = "py311-torch211-vllm026"
DEBIAN = HostSystem(kinds=("debian",), uv="uv")


def examined(*checks: MachineCheck, system: HostSystem = DEBIAN) -> Examination:
    return Examination(platform=Platform.CUDA, cells=(CELL,), system=system, checks=checks)


def test_it_says_what_is_lacking_first_with_the_command_that_helps() -> None:
    text = lines(
        examined(
            MachineCheck(need=Need.SYSTEM, state=CheckState.OK, found="Linux", wanted="Linux"),
            MachineCheck(
                need=Need.OPEN_FILES,
                state=CheckState.UNKNOWN,
                found=256,
                wanted=1024,
                remedy=Remedy.RAISE_FILES,
            ),
            MachineCheck(
                need=Need.PYTHON,
                state=CheckState.LACKS,
                subject="3.12",
                wanted="3.12",
                code=FoundCode.ABSENT,
                remedy=Remedy.INSTALL_PYTHON,
            ),
        )
    )
    assert text.splitlines() == [
        f"{CELL} on cuda: 1 lacking, 1 unknown, 1 ok",
        "         what                 found  wanted",
        "lacks    Python 3.12          none   3.12",
        "           $ uv python install 3.12",
        "unknown  limit of open files  256    1024 or more",
        "           $ ulimit -n 65536",
        "ok       system               Linux  Linux",
        "not asked: whether the index answers and has the releases (--network)",
    ]


@pytest.mark.parametrize(
    ("kinds", "is_root", "command"),
    [
        (("debian",), True, "apt-get install -y g++"),
        (("linuxmint", "ubuntu", "debian"), False, "sudo apt-get install -y g++"),
        (("rocky", "rhel", "centos", "fedora"), False, "sudo dnf install -y gcc-c++"),
        (("opensuse-leap", "suse"), False, "sudo zypper install -y gcc-c++"),
        (("arch",), True, "pacman -S --noconfirm gcc"),
        (("nixos",), False, ""),
        ((), False, ""),
    ],
)
def test_the_command_is_that_of_the_system(
    kinds: tuple[str, ...], is_root: bool, command: str
) -> None:
    check = MachineCheck(
        need=Need.COMPILER, state=CheckState.LACKS, remedy=Remedy.INSTALL_COMPILER, found="g++"
    )
    helps = fix(check, HostSystem(kinds=kinds, is_root=is_root))
    assert helps.command == command
    assert bool(helps.note) == (not command)  # it names the package then


@pytest.mark.parametrize(
    ("need", "remedy", "expected"),
    [
        (Need.HEADERS, Remedy.INSTALL_HEADERS, "sudo dnf install -y python3.12-devel"),
        (Need.NVCC, Remedy.INSTALL_NVCC, "sudo dnf install -y cuda-toolkit-13-0"),
        (Need.NVCC, Remedy.SET_CUDA_HOME, "export CUDA_HOME=/usr/local/cuda-13.0"),
        (Need.PYTHON, Remedy.INSTALL_PYTHON, "python3 -m pip install uv && uv python install 13.0"),
        (Need.RECORDS_DISK, Remedy.MAKE_ROOM, "matrix run CELL --records /a/larger/disk"),
        (Need.ENVIRONMENTS_DISK, Remedy.MAKE_ROOM, "export TOX_WORK_DIR=/a/larger/disk"),
    ],
)
def test_a_command_has_the_release_that_is_wanted(
    need: Need, remedy: Remedy, expected: str
) -> None:
    check = MachineCheck(
        need=need, state=CheckState.LACKS, remedy=remedy, subject="3.12", wanted="13.0"
    )
    assert fix(check, HostSystem(kinds=("fedora",))).command == expected


def test_a_tox_is_installed_as_tox_ini_requires_it(tmp_path: Path) -> None:
    for line, wanted in (("requires =", ">=4.40"), ("requires = tox>=5", ">=5")):
        (tmp_path / "tox.ini").write_text(f"[tox]\n{line}\n")
        check = replace(tox_check(tmp_path), remedy=Remedy.INSTALL_TOX)
        assert fix(check, DEBIAN).command == f"python3 -m pip install 'tox{wanted}'"


@pytest.mark.parametrize("remedy", list(Remedy))
@pytest.mark.parametrize("kinds", [("debian",), ("fedora",), ("arch",), ()])
def test_every_remedy_has_a_command_or_a_sentence(remedy: Remedy, kinds: tuple[str, ...]) -> None:
    check = MachineCheck(need=Need.RECORDS_DISK, state=CheckState.LACKS, remedy=remedy, wanted=5)
    helps = fix(check, HostSystem(kinds=kinds))
    assert helps.command or helps.note
    assert not re.search(r"[{}]|None", f"{helps.command} {helps.note}")


CHECKS = st.builds(
    MachineCheck,
    need=st.sampled_from(Need),
    state=st.sampled_from(CheckState),
    subject=st.sampled_from(["", "3.12", "/a/folder"]),
    found=st.none() | st.integers(0, 10**6),
    code=st.none() | st.sampled_from(FoundCode),
    detail=st.text(max_size=20),
    wanted=st.none() | st.integers(1, 10**6),
    cells=st.sampled_from([(), (CELL,)]),
)


@given(st.lists(CHECKS, max_size=8))
def test_whatever_is_found_has_words_and_is_counted_once(checks: list[MachineCheck]) -> None:
    found = examined(*checks)
    rows = [
        line
        for line in lines(found).splitlines()[2:]
        if line.startswith(("ok", "lacks", "unknown"))
    ]
    assert len(rows) == len(checks)
    data = json.loads(content(found))
    assert [row["need"] for row in data["checks"]] == [check.need for check in checks]
    assert sum(data["counts"].values()) == len(checks)


def test_a_shim_of_pyenv_may_have_another_python() -> None:
    check = MachineCheck(
        need=Need.PYTHON,
        state=CheckState.LACKS,
        subject="3.12",
        wanted="3.12",
        found="~/.pyenv/shims/python3.12",
        code=FoundCode.DOES_NOT_START,
        detail="pyenv: python3.12: command not found",
        remedy=Remedy.INSTALL_PYTHON,
    )
    text = lines(examined(check))
    assert "~/.pyenv/shims/python3.12 does not start: pyenv: python3.12: command" in text
    assert "  $ uv python install 3.12\n" in text and "pyenv global" in text


def test_colour_is_for_a_terminal() -> None:
    found = examined(MachineCheck(need=Need.GPU, state=CheckState.LACKS, remedy=Remedy.USE_GPU))
    assert "\x1b" not in lines(found)
    assert "\x1b[31mlacks\x1b[0m  GPU" in lines(found, Terminal(colour=True))


def test_through_the_front_door(tmp_path: Path) -> None:
    good = matrix(tmp_path, "doctor", CELL, "--platform", "cpu", "--json")
    assert good.stderr == ""
    data = json.loads(good.stdout)
    assert (data["schema"], data["platform"], data["cells"]) == (1, "cpu", [CELL])
    assert good.returncode == int(data["counts"]["lacks"] > 0)
    assert data["asked_index"] is False
    assert list(tmp_path.iterdir()) == []
    bare = matrix(tmp_path, "doctor", CELL, "--platform", "cpu", CXX="nowhere-g++")
    assert bare.returncode == 1
    assert "nowhere-g++ does not start" in bare.stdout and "$ export CXX=g++" in bare.stdout


def test_a_folder_in_which_matrix_run_refuses_lacks_the_checkout(tmp_path: Path) -> None:
    asked = (CELL, "--platform", "cpu")
    assert "no tox.ini there" in matrix(tmp_path, "run", *asked).stderr
    without = matrix(tmp_path, "doctor", *asked)
    assert without.returncode == 1
    assert re.search(r"\nlacks +checkout of the matrix +none +tox.ini\n", without.stdout)
    assert "--here" in without.stdout
    (tmp_path / "tox.ini").touch()
    found = matrix(tmp_path, "doctor", *asked).stdout
    assert re.search(r"\nok +checkout of the matrix +tox.ini", found)


def test_a_machine_without_a_gpu_lacks_it(tmp_path: Path) -> None:
    ended = matrix(tmp_path, "doctor", CELL, "--platform", "cuda", CUDA_VISIBLE_DEVICES="-1")
    assert ended.returncode == 1
    (gpu,) = [line for line in ended.stdout.splitlines() if line.split()[1:2] == ["GPU"]]
    assert gpu.startswith("lacks")
    (driver,) = [line for line in ended.stdout.splitlines() if "NVIDIA driver" in line]
    assert driver.startswith("unknown") and driver.endswith("CUDA 13.0 (driver 580.65.06 or later)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "cell 'nowhere': "),
        (["py39-torch211-vllm026"], "cell 'py39-torch211-vllm026': "),
        (["--platform", "rocm"], "rocm"),
    ],
)
def test_bad_input_is_exit_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    ended = matrix(tmp_path, "doctor", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr


def test_the_index_is_asked_where_the_user_asks(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9/simple/"
    asked = ("doctor", CELL, "--platform", "cpu", "--network", "--json")
    ended = matrix(tmp_path, *asked, UV_DEFAULT_INDEX=nowhere)
    rows = [row for row in json.loads(ended.stdout)["checks"] if row["need"] == "index"]
    assert {row["state"] for row in rows} == {"lacks"} and ended.returncode == 1
    assert [row["subject"] for row in rows] == ["torch", "vllm"]
