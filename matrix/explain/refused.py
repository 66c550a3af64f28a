"""The answer to a wheel that pip refuses: what its tags ask for, and which wheels there are.

The tags: https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from packaging.utils import parse_wheel_filename

from matrix.catalog.platform_tags import machine_of, wheel_glibc
from matrix.catalog.release import Torch, Vllm
from matrix.explain.choice import InstallChoice
from matrix.explain.model import Fault, FaultAnswer, FaultRemedy, Meaning, RemedyCode

_CPYTHON = re.compile(r"cp(?P<major>\d)(?P<minor>\d{1,2})")
_MAC = re.compile(r"macosx_(?P<version>\d{1,2}_\d{1,2})_(?P<machine>\w+)")
_PROJECTS = {"torch": "torch", "vllm": "vLLM"}


def refused_answer(fault: Fault, choice: InstallChoice) -> FaultAnswer:
    """Return which Python and platform a wheel is for, and the release to install instead."""
    file, name = fault.file or "", fault.subject or ""
    version = parse_wheel_filename(file)[1].public
    python, abi, platform = file.removesuffix(".whl").split("-")[-3:]
    operands = {"python": _python(python, abi), "platform": _platform(platform.split("."))}
    if "manylinux_" in platform:
        operands["pip"] = "20.3"  # it knows such tags, https://peps.python.org/pep-0600/
    release = choice.row(version) if name == "vllm" else None
    known: Vllm | Torch | None = choice.torches.get(version) if name == "torch" else release
    if known is not None:
        operands |= {"release": f"{_PROJECTS[name]} {version}", "wheels": _wheels(known.wheels)}
    if name == "vllm" and all(machine_of(tag) for row in choice.vllms for tag in row.wheels):
        operands["only"] = "Linux"
    remedies: tuple[FaultRemedy, ...] = (FaultRemedy(code=RemedyCode.NAME_TAGS),)
    if name in _PROJECTS:
        own = choice.newest(lambda row: version == (row.version if release else row.torch))
        remedies = (*remedies, *choice.install(own or choice.newest()))
    return FaultAnswer(
        fault=fault, meaning=Meaning.OTHER_TAGS, operands=operands, remedies=remedies
    )


def _python(python: str, abi: str) -> str:
    """Return the Python of two tags in words.

    >>> _python("cp312", "cp312"), _python("cp38", "abi3"), _python("py3", "none")
    ('CPython 3.12', 'CPython 3.8 or newer', 'any Python 3')
    """
    if python == "py3":
        return "any Python 3"
    found = _CPYTHON.fullmatch(python)
    if found is None:
        return f"the Python {python}"
    name = f"CPython {found['major']}.{found['minor']}"
    if abi == "abi3":
        return f"{name} or newer"
    return f"free-threaded {name}" if abi == f"{python}t" else name


def _platform(tags: Sequence[str]) -> str:
    """Return the platform of a wheel's tags in words.

    >>> _platform(["manylinux_2_28_x86_64"]), _platform(["macosx_14_0_arm64"])
    ('Linux on x86_64 with glibc 2.28 or newer', 'macOS 14.0 or newer on arm64')
    """
    first = tags[0]
    if machine := machine_of(first):
        glibc = wheel_glibc(tags, machine)
        return f"Linux on {machine}" + (f" with glibc {glibc} or newer" if glibc else "")
    if mac := _MAC.fullmatch(first):
        return f"macOS {mac['version'].replace('_', '.')} or newer on {mac['machine']}"
    if first.startswith("win"):
        return f"Windows ({first})"
    return "any platform" if first == "any" else f"the platform {first}"


def _wheels(wheels: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{platform} ({', '.join(tags)})" for platform, tags in wheels.items())
