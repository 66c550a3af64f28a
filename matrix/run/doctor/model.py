"""The result of an examination of this machine: facts and codes for `report.doctor`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from matrix._util.enums import StrEnum
from matrix.record.model import Platform


class Need(StrEnum):
    """A need of a cell."""

    SYSTEM = "system"
    WHEELS = "wheels"
    PYTHON = "python"
    HEADERS = "headers"
    COMPILER = "compiler"
    C_COMPILER = "c_compiler"
    OPENSSL = "openssl"
    CHECKOUT = "checkout"
    TOX = "tox"
    UV = "uv"
    ENVIRONMENTS_DISK = "environments_disk"
    TEMPORARY_DISK = "temporary_disk"
    TEMPORARY_PATH = "temporary_path"
    RECORDS_DISK = "records_disk"
    MEMORY = "memory"
    OPEN_FILES = "open_files"
    THREADS = "threads"
    GPU = "gpu"
    DRIVER = "driver"
    GPU_MEMORY = "gpu_memory"
    NVCC = "nvcc"
    SHARED_MEMORY = "shared_memory"
    INDEX = "index"


class CheckState(StrEnum):
    """Whether a machine has a need. An unknown fact is unknown, and never OK."""

    OK = "ok"
    LACKS = "lacks"
    UNKNOWN = "unknown"


class FoundCode(StrEnum):
    """A note about the finding, in addition to its value."""

    ABSENT = "absent"
    DOES_NOT_START = "does_not_start"
    FAILS = "fails"
    NOT_WRITABLE = "not_writable"
    SPLITS = "splits"
    FETCHED = "fetched"
    """It is not there, and the program that needs it fetches it from the network."""
    THERE = "there"
    """What would take room is there already."""
    HIDDEN = "hidden"
    NO_DRIVER = "no_driver"
    SILENT = "silent"
    NOT_KNOWN = "not_known"
    OTHER = "other"
    NO_CLIENT = "no_client"


class Remedy(StrEnum):
    """A remedy for a lack of the machine; a command if one exists."""

    USE_LINUX = "use_linux"
    USE_OTHER_MACHINE = "use_other_machine"
    INSTALL_PYTHON = "install_python"
    INSTALL_HEADERS = "install_headers"
    INSTALL_COMPILER = "install_compiler"
    SET_CXX = "set_cxx"
    INSTALL_C_COMPILER = "install_c_compiler"
    SET_CC = "set_cc"
    INSTALL_OPENSSL = "install_openssl"
    USE_CHECKOUT = "use_checkout"
    INSTALL_TOX = "install_tox"
    INSTALL_UV = "install_uv"
    MAKE_ROOM = "make_room"
    SET_TMPDIR = "set_tmpdir"
    FREE_MEMORY = "free_memory"
    RAISE_FILES = "raise_files"
    RAISE_THREADS = "raise_threads"
    UNHIDE_GPU = "unhide_gpu"
    USE_GPU = "use_gpu"
    INSTALL_DRIVER = "install_driver"
    UPDATE_DRIVER = "update_driver"
    SEE_GPU = "see_gpu"
    FREE_GPU = "free_gpu"
    INSTALL_NVCC = "install_nvcc"
    SET_CUDA_HOME = "set_cuda_home"
    ENLARGE_SHARED_MEMORY = "enlarge_shared_memory"
    SET_INDEX = "set_index"
    INSTALL_CLIENT = "install_client"


@dataclass(frozen=True, kw_only=True)
class MachineCheck:
    """One need of cells: what was found, what is wanted, and the remedy.

    `subject` is what it is asked of: a release of Python, a folder. `found` and `wanted` are a
    version, a name, or a number (of MiB, but for limits); `detail` is a program's own line. `cells`
    are the names of those that need it; none where every one does.
    """

    need: Need
    state: CheckState
    subject: str = ""
    found: str | int | None = None
    code: FoundCode | None = None
    detail: str = ""
    wanted: str | int | None = None
    remedy: Remedy | None = None
    cells: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HostSystem:
    """The system, as /etc/os-release names it, and whether this user may install on it.

    `kinds` are its name and those of the systems that it is like: `("ubuntu", "debian")`. `uv` is
    how to call uv, if there is one.
    """

    kinds: tuple[str, ...] = ()
    is_root: bool = False
    uv: str | None = None


@dataclass(frozen=True, kw_only=True)
class Examination:
    """The examination of this machine for cells on a platform."""

    platform: Platform
    cells: tuple[str, ...]
    system: HostSystem
    checks: tuple[MachineCheck, ...]
    asked_index: bool = False

    def count(self, state: CheckState) -> int:
        """Return how many checks came out so."""
        return sum(check.state is state for check in self.checks)

    @property
    def exit_status(self) -> int:
        """1 where something lacks, else 0."""
        return int(self.count(CheckState.LACKS) > 0)


def joined(of_cells: Iterable[tuple[str, Iterable[MachineCheck]]]) -> tuple[MachineCheck, ...]:
    """Return the checks of several cells, alike ones once, with the cells that need them.

    >>> check = MachineCheck(need=Need.NVCC, state=CheckState.OK)
    >>> [found.cells for found in joined([("a", [check]), ("b", [check]), ("c", [])])]
    [('a', 'b')]
    """
    names: dict[MachineCheck, list[str]] = {}
    count = 0
    for cell, checks in of_cells:
        count += 1
        for check in dict.fromkeys(checks):
            names.setdefault(check, []).append(cell)
    return tuple(
        replace(check, cells=() if len(cells) == count else tuple(cells))
        for check, cells in names.items()
    )
