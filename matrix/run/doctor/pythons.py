"""The Python of a cell, and its headers, as tox would find and start it. Starts programs."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from matrix._util.addresses import without_logins
from matrix._util.nvidia import capture
from matrix._util.scratch import Scratch
from matrix._util.text import clean, clip
from matrix.run.doctor.model import CheckState, FoundCode, MachineCheck, Need, Remedy
from matrix.run.environments import tox_folder
from matrix.run.own_tox import required_packages
from matrix.run.rerun import RerunError, tox_command
from matrix.run.toolchain import (
    CompileCode,
    CompileFault,
    c_compiler_name,
    c_fault,
    compile_fault,
    compiler_name,
    first_line,
)

_SECONDS = 30.0
_FETCH_SECONDS = 300.0  # of a Python, 30 MB
_LEAST_TOX = SpecifierSet(">=4.40")
_ERROR = re.compile(r"^error: ", re.MULTILINE)
_ASK = (
    "import json, platform, sysconfig; print(json.dumps([platform.python_version(),"
    " sysconfig.get_path('include')]))"
)


@dataclass(frozen=True, kw_only=True)
class FoundPython:
    """A Python of a minor release: its path and, where it starts, its version and headers."""

    path: str
    version: str | None = None
    include: str | None = None
    fault: str = ""


def find_uv(root: Path, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the uv that tox would call, or the first one that is found; None without one.

    A tox that tox installed for itself has a uv in the same folder.
    """
    places = (
        sysconfig.get_path("scripts"),
        environ.get("PATH", os.defpath),
        str(tox_folder(root, environ) / ".tox" / "bin"),
    )
    return shutil.which("uv", path=os.pathsep.join(places))


def find_python(
    minor: str, uv: str | None, environ: Mapping[str, str] = os.environ
) -> FoundPython | None:
    """Return the Python of a minor release that tox takes, as uv finds it; None without one.

    Where uv takes none, it may be that one is there and does not start, as a shim of pyenv whose
    release is not set: that one is returned.
    """
    by_uv = _by_uv(minor, uv)
    by_name = shutil.which(f"python{minor}", path=environ.get("PATH"))
    own = sys.executable if minor == "{}.{}".format(*sys.version_info) else None
    broken: FoundPython | None = None
    for path in dict.fromkeys(filter(None, (by_uv, by_name, own))):
        found = _started(path)
        if found.version is not None and found.version.startswith(f"{minor}."):
            return found
        broken = broken or found
    return broken


def lacks_python(minor: str, root: Path, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return why tox cannot find or install a Python of a minor release; None where it can.

    Also None where nobody knows. Where none is here, uv makes an environment as tox would have it
    make one: it may fetch the Python. The reason is uv's error, without the logins of addresses.
    """
    uv = find_uv(root, environ)
    found = find_python(minor, uv, environ)
    if uv is None or (found is not None and found.version is not None):
        return None
    preference = environ.get("UV_PYTHON_PREFERENCE", "system")
    with Scratch("python") as folder:
        made = [uv, "venv", "-p", minor, "--python-preference", preference, str(folder / "made")]
        answer = capture(made, _FETCH_SECONDS)
    if answer is None or answer[0] == 0:
        return None
    error = _ERROR.split(answer[1])[-1]  # warnings may stand before it
    return clip(clean(without_logins(" ".join(error.split()))), 160)


def python_checks(
    minor: str, found: FoundPython | None, uv: str | None, environ: Mapping[str, str] = os.environ
) -> list[MachineCheck]:
    """Return what is to say of the Python of a cell, and of its headers."""
    if found is None:
        fetches = uv is not None and environ.get("UV_PYTHON_DOWNLOADS") not in ("never", "manual")
        return [
            MachineCheck(
                need=Need.PYTHON,
                subject=minor,
                wanted=minor,
                state=CheckState.UNKNOWN if fetches else CheckState.LACKS,
                code=FoundCode.FETCHED if fetches else FoundCode.ABSENT,
                remedy=Remedy.INSTALL_PYTHON,
            )
        ]
    if found.version is None:
        return [
            MachineCheck(
                need=Need.PYTHON,
                subject=minor,
                wanted=minor,
                state=CheckState.LACKS,
                found=found.path,
                code=FoundCode.DOES_NOT_START,
                detail=found.fault,
                remedy=Remedy.INSTALL_PYTHON,
            )
        ]
    return [
        MachineCheck(
            need=Need.PYTHON,
            subject=minor,
            wanted=minor,
            state=CheckState.OK,
            found=f"{found.version} ({found.path})",
        ),
        _headers(minor, found),
    ]


def compiler_check(environ: Mapping[str, str]) -> MachineCheck:
    """Return whether the C++ compiler that inductor runs compiles a small program."""
    remedy = Remedy.SET_CXX if "CXX" in environ else Remedy.INSTALL_COMPILER
    return _compiles(Need.COMPILER, compiler_name(environ), compile_fault(environ, None), remedy)


def c_compiler_check(environ: Mapping[str, str]) -> MachineCheck:
    """Return whether the C compiler that Triton runs on cuda compiles a small program."""
    remedy = Remedy.SET_CC if "CC" in environ else Remedy.INSTALL_C_COMPILER
    return _compiles(Need.C_COMPILER, c_compiler_name(environ), c_fault(environ), remedy)


def _compiles(
    need: Need, compiler: str, fault: CompileFault | None, remedy: Remedy
) -> MachineCheck:
    if fault is None:
        return MachineCheck(need=need, state=CheckState.OK, found=compiler)
    runs = fault.code is not CompileCode.DOES_NOT_RUN
    return MachineCheck(
        need=need,
        state=CheckState.LACKS,
        found=compiler,
        code=FoundCode.FAILS if runs else FoundCode.DOES_NOT_START,
        detail=fault.detail,
        remedy=remedy,
    )


def _headers(minor: str, found: FoundPython) -> MachineCheck:
    """Return whether the headers of a Python are there, which inductor compiles against."""
    folder = Path(found.include or "")
    there = found.include is not None and (folder / "Python.h").is_file()
    return MachineCheck(
        need=Need.HEADERS,
        subject=minor,
        wanted="Python.h",
        state=CheckState.OK if there else CheckState.LACKS,
        found=str(folder),
        code=None if there else FoundCode.ABSENT,
        remedy=None if there else Remedy.INSTALL_HEADERS,
    )


def tox_check(root: Path) -> MachineCheck:
    """Return whether there is a tox. It installs one for itself where tox.ini requires a newer."""
    required = required_packages(root / "tox.ini") or []
    wanted = next((item.specifier for item in required if item.name == "tox"), _LEAST_TOX)
    try:
        command = tox_command()
    except RerunError:
        return MachineCheck(
            need=Need.TOX,
            state=CheckState.LACKS,
            code=FoundCode.ABSENT,
            wanted=str(wanted),
            remedy=Remedy.INSTALL_TOX,
        )
    version = _tox_version(command)
    if version is None:
        return MachineCheck(
            need=Need.TOX,
            state=CheckState.LACKS,
            found=command[0],
            code=FoundCode.DOES_NOT_START,
            wanted=str(wanted),
            remedy=Remedy.INSTALL_TOX,
        )
    is_met = wanted.contains(version, prereleases=True)
    return MachineCheck(
        need=Need.TOX,
        state=CheckState.OK if is_met else CheckState.UNKNOWN,
        found=version,
        code=None if is_met else FoundCode.FETCHED,
        wanted=str(wanted),
        remedy=None if is_met else Remedy.INSTALL_TOX,
    )


def uv_check(uv: str | None) -> MachineCheck:
    """Return whether there is a uv: tox installs one for itself, from the index."""
    answer = None if uv is None else capture([uv, "--version"], _SECONDS)
    if answer is not None and answer[0] == 0:
        return MachineCheck(need=Need.UV, state=CheckState.OK, found=_second(answer[1]))
    return MachineCheck(
        need=Need.UV,
        state=CheckState.UNKNOWN,
        found=uv,
        code=FoundCode.FETCHED if uv is None else FoundCode.DOES_NOT_START,
        remedy=Remedy.INSTALL_UV,
    )


def _by_uv(minor: str, uv: str | None) -> str | None:
    if uv is None:
        return None
    # An environment that is active here is not one that tox takes.
    answer = capture([uv, "python", "find", "--no-project", "--system", minor], _SECONDS)
    if answer is None or answer[0]:
        return None
    lines = answer[1].split("\n")
    return next((line.strip() for line in lines if line.startswith("/")), None)


def _started(path: str) -> FoundPython:
    answer = capture([path, "-I", "-c", _ASK], _SECONDS)
    if answer is None:
        return FoundPython(path=path, fault="it does not run or end")
    try:
        version, include = json.loads(answer[1].strip().rpartition("\n")[2])
    except (ValueError, TypeError):
        return FoundPython(path=path, fault=clip(clean(first_line(answer[1])), 100))
    return FoundPython(path=path, version=version, include=include)


def _tox_version(command: Sequence[str]) -> str | None:
    """Return the version of tox, by its metadata where it is installed here."""
    if len(command) > 1:
        try:
            return metadata.version("tox")
        except metadata.PackageNotFoundError:
            return None
    answer = capture([*command, "--version"], _SECONDS)
    word = answer[1].partition(" ")[0] if answer is not None and answer[0] == 0 else ""
    try:
        return str(Version(word))
    except InvalidVersion:
        return None


def _second(text: str) -> str:
    words = text.split()
    return words[1] if len(words) > 1 else ""
