"""Remedies for what this machine lacks: a command of its own system, and a note."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from matrix._util.text import pip_install
from matrix.run.doctor.model import HostSystem, MachineCheck, Need, Remedy
from matrix.run.rerun import WORK_DIR

_MANAGERS: Mapping[str, tuple[str, ...]] = {
    "apt-get install -y": ("debian", "ubuntu"),
    "dnf install -y": ("fedora", "rhel", "centos", "rocky", "almalinux", "amzn", "ol"),
    "zypper install -y": ("suse", "opensuse", "opensuse-leap", "opensuse-tumbleweed", "sles"),
    "pacman -S --noconfirm": ("arch", "manjaro"),
}
_TOOLKIT, _DRIVERS = "cuda-toolkit-{dashed}", "cuda-drivers"
_PACKAGES: Mapping[Remedy, tuple[str, str, str, str]] = {
    Remedy.INSTALL_COMPILER: ("g++", "gcc-c++", "gcc-c++", "gcc"),
    Remedy.INSTALL_C_COMPILER: ("gcc", "gcc", "gcc", "gcc"),
    Remedy.INSTALL_OPENSSL: ("openssl", "openssl", "openssl", "openssl"),
    Remedy.INSTALL_HEADERS: ("python{}-dev", "python{}-devel", "python{short}-devel", "python"),
    Remedy.INSTALL_NVCC: (_TOOLKIT, _TOOLKIT, _TOOLKIT, "cuda"),
    Remedy.INSTALL_DRIVER: (_DRIVERS, _DRIVERS, _DRIVERS, "nvidia"),
    Remedy.UPDATE_DRIVER: (_DRIVERS, _DRIVERS, _DRIVERS, "nvidia"),
}
"""The packages of a remedy, by package manager in the order of `_MANAGERS`."""
_COMMANDS: Mapping[Remedy, str] = {
    Remedy.INSTALL_PYTHON: "{uv} python install {wanted}",
    Remedy.SET_CXX: "export CXX=g++",
    Remedy.SET_CC: "export CC=gcc",
    Remedy.INSTALL_TOX: "python3 -m pip install 'tox{wanted}'",
    Remedy.INSTALL_UV: "python3 -m pip install uv",
    Remedy.SET_TMPDIR: "export TMPDIR=/var/tmp",
    Remedy.RAISE_FILES: "ulimit -n 65536",
    Remedy.RAISE_THREADS: "ulimit -u 4096",
    Remedy.UNHIDE_GPU: "unset CUDA_VISIBLE_DEVICES",
    Remedy.SEE_GPU: "nvidia-smi -L",
    Remedy.FREE_GPU: "nvidia-smi",
    Remedy.SET_CUDA_HOME: "export CUDA_HOME=/usr/local/cuda-{wanted}",
    Remedy.ENLARGE_SHARED_MEMORY: "{sudo}mount -o remount,size=1g {subject}",
    Remedy.SET_INDEX: "export UV_DEFAULT_INDEX=https://INDEX/simple",
    Remedy.INSTALL_CLIENT: f"python3 -m {pip_install('index')}",
}
_ROOM: Mapping[Need, str] = {
    Need.ENVIRONMENTS_DISK: f"export {WORK_DIR}=/a/larger/disk",
    Need.RECORDS_DISK: "matrix run CELL --records /a/larger/disk",
}
_NVIDIA = "from NVIDIA's repository of packages"
_NOTES: Mapping[Remedy, str] = {
    Remedy.USE_LINUX: "run the matrix on Linux (on Windows, under WSL)",
    Remedy.USE_OTHER_MACHINE: "these wheels are not for this machine: use another one",
    Remedy.USE_CHECKOUT: "run the matrix in a checkout of it (`matrix run --here` needs none)",
    Remedy.FREE_MEMORY: "end other programs, or raise the limit: ulimit -v, the container's memory",
    Remedy.RAISE_THREADS: "in a container: docker run --pids-limit -1",
    Remedy.USE_GPU: "use a machine with an NVIDIA GPU, or --platform cpu",
    Remedy.INSTALL_DRIVER: f"{_NVIDIA}; in a container: docker run --gpus all",
    Remedy.UPDATE_DRIVER: f"{_NVIDIA}; on the host of a container",
    Remedy.SEE_GPU: "see what the driver lists, and the kernel's log for Xid; reset the GPU or"
    " reboot",
    Remedy.FREE_GPU: "lists the programs that hold its memory: end them, or choose another GPU by"
    " CUDA_VISIBLE_DEVICES",
    Remedy.INSTALL_NVCC: f"{_NVIDIA}; or set CUDA_HOME to a toolkit that is there",
    Remedy.SET_CUDA_HOME: "a toolkit of the torch's CUDA",
    Remedy.ENLARGE_SHARED_MEMORY: "in a container: docker run --shm-size=1g",
    Remedy.SET_INDEX: "the index that has it",
}


@dataclass(frozen=True, kw_only=True)
class Fix:
    """A remedy: a command, if one exists, and a note about it."""

    command: str = ""
    note: str = ""


def fix(check: MachineCheck, system: HostSystem) -> Fix:
    """Return what gives this machine what a check found lacking."""
    remedy = check.remedy
    if remedy is None:
        return Fix()
    template = _ROOM[check.need] if remedy is Remedy.MAKE_ROOM else _COMMANDS.get(remedy, "")
    command = template.format(
        uv=system.uv or "python3 -m pip install uv && uv",
        sudo=_sudo(system),
        wanted=check.wanted,
        subject=check.subject,
    )
    if remedy in _PACKAGES:
        command = _install(remedy, check, system)
    note = _NOTES.get(remedy, "")
    if remedy is Remedy.INSTALL_PYTHON and "pyenv" in check.detail:
        note = "or let pyenv take one that it has: pyenv versions, pyenv global"
    if remedy in _PACKAGES and not command:
        name = _PACKAGES[remedy][0].format(check.subject, **_names(check))
        note = f"install what other systems call {name}{f'; {note}' if note else ''}"
    return Fix(command=command, note=note)


def _manager(system: HostSystem) -> int | None:
    """Return the place of the system's package manager among `_MANAGERS`."""
    for kind in system.kinds:
        for place, kinds in enumerate(_MANAGERS.values()):
            if kind in kinds:
                return place
    return None


def _install(remedy: Remedy, check: MachineCheck, system: HostSystem) -> str:
    place = _manager(system)
    if place is None:
        return ""
    package = _PACKAGES[remedy][place].format(check.subject, **_names(check))
    return f"{_sudo(system)}{list(_MANAGERS)[place]} {package}"


def _sudo(system: HostSystem) -> str:
    return "" if system.is_root else "sudo "


def _names(check: MachineCheck) -> dict[str, str]:
    """Return what the names of packages are made of: `313`, `13-0`."""
    wanted = str(check.wanted or "")
    return {"short": check.subject.replace(".", ""), "dashed": wanted.replace(".", "-") or "13-0"}
