"""What the metadata of one release of torch, vLLM or a companion says: pins, CUDA, Pythons.

Pure, and for Linux on x86_64. What it reads is untrusted: `packaging` parses it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from packaging.metadata import Metadata
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from matrix._util.versions import specifier_text
from matrix.errors import MatrixError

__all__ = [
    "COMPANIONS",
    "MetadataFault",
    "Read",
    "main_cuda",
    "read_companion",
    "read_torch",
    "read_vllm",
    "wanted_member",
]

COMPANIONS = ("torchvision", "torchaudio")
# Where an environment is Linux on x86_64, and no extra is asked for.
_HERE = {
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "sys_platform": "linux",
    "extra": "",
}
_CUDA_RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu\d+)?|cuda-toolkit")
# `"VLLM_MAIN_CUDA_VERSION": lambda: os.getenv(..., "").lower() or "13.0"`, in one line or more.
_MAIN_CUDA = re.compile(r'"VLLM_MAIN_CUDA_VERSION":\s*lambda:.{0,200}?"(\d+\.\d+)"', re.DOTALL)
# Until 0.10.2 it stood in setup.py.
_SETUP_CUDA = re.compile(r'^MAIN_CUDA_VERSION = "(\d+\.\d+)"', re.MULTILINE)
_MEMBER = re.compile(
    r"[^/]+\.dist-info/METADATA|[^/]+/(PKG-INFO|setup\.py|requirements/cuda\.txt)|"
    r"([^/]+/)?vllm/envs\.py"
)


class MetadataFault(MatrixError):
    """The metadata of a release, or what an index says of one, that cannot be understood."""


@dataclass(frozen=True)
class Read:
    """What a release's own metadata says, by the keys that its row has for it."""

    facts: Mapping[str, str]


def wanted_member(name: str) -> bool:
    """Whether a member of a wheel or source distribution, by its name, is read here."""
    return _MEMBER.fullmatch(name) is not None


def read_torch(version: str, metadata: str, source: str) -> Read:
    """What a torch's metadata says; `source`: where it was read.

    Raises MetadataFault for metadata that `packaging` refuses, or of another release.
    """
    parsed = _metadata("torch", version, metadata)
    cuda = None
    for requirement in _required(parsed):
        if _CUDA_RUNTIME.fullmatch(requirement.name) and (pin := _pin(requirement)):
            cuda = ".".join(pin.split(".")[:2])
    return _read(source, parsed, cuda=cuda)


def read_companion(project: str, version: str, metadata: str, source: str) -> Read:
    """What a companion's metadata says: the torch that it requires. Raises as `read_torch`."""
    parsed = _metadata(project, version, metadata)
    specifiers = [str(each.specifier) for each in _required(parsed) if each.name == "torch"]
    return _read(source, parsed, requires=",".join(filter(None, specifiers)) or None)


def main_cuda(members: Mapping[str, str]) -> str | None:
    """The CUDA that the wheels of a vLLM release are built with, by its sources; None: not there.

    A wheel built with another one has it in its version (`+cu126`). It need not be the CUDA of the
    torch that is pinned: the wheels of 0.9 are built with 12.8, and those of torch 2.7 with 12.6.
    """
    for name, content in sorted(members.items()):
        pattern = {"envs.py": _MAIN_CUDA, "setup.py": _SETUP_CUDA}.get(name.rpartition("/")[2])
        if pattern and (found := pattern.search(content)):
            return found.group(1)
    return None


def read_vllm(version: str, members: Mapping[str, str], source: str) -> Read:
    """What a vLLM release says, by its members that are wanted (a METADATA alone will do).

    The pins of a source distribution are those of requirements/cuda.txt, where it has one: its
    PKG-INFO may speak of the machine that built it. CUDA is what `main_cuda` finds. Raises as
    `read_torch`, and where there is no metadata.
    """
    named = {name.rpartition("/")[2]: content for name, content in sorted(members.items())}
    metadata = named.get("METADATA") or named.get("PKG-INFO")
    if metadata is None:
        raise MetadataFault(f"vllm {version}: its {source} holds no metadata; report it upstream")
    parsed = _metadata("vllm", version, metadata)
    required = _required(parsed)
    if source == "sdist" and "cuda.txt" in named:
        required = _lines(named["cuda.txt"], f"vllm {version}: requirements/cuda.txt")
    pins: dict[str, str | None] = {}
    asked = None
    for requirement in required:
        if requirement.name in ("torch", *COMPANIONS):
            pin = _pin(requirement)
            if pin is not None and pins.setdefault(requirement.name, pin) != pin:
                raise MetadataFault(
                    f"vllm {version}: its {source} pins {requirement.name} twice,"
                    f" {pins[requirement.name]} and {pin}; report it upstream"
                )
            if requirement.name == "torch":
                asked = str(requirement)
    note = None
    if "torch" not in pins:
        note = f"its {source} asks for {asked or 'no torch'}, which is no pin"
        pins = {}
    return _read(source, parsed, **pins, cuda=main_cuda(members), note=note)


def _metadata(project: str, version: str, content: str) -> Metadata:
    where = f"{project} {version}"
    try:
        # Not validated as a whole: a licence that is no SPDX expression is of no concern here.
        parsed = Metadata.from_email(content, validate=False)
        name, said = parsed.name, parsed.version
        _ = parsed.requires_dist, parsed.requires_python
    except ValueError as error:
        said_why = str(error).partition("\n")[0]
        raise MetadataFault(f"{where}: its metadata is refused ({said_why})") from None
    if name.lower() != project or said != Version(version):
        raise MetadataFault(f"{where}: its metadata is that of {name} {said}; not taken")
    return parsed


def _required(metadata: Metadata) -> list[Requirement]:
    """What is required on Linux on x86_64, without an extra."""
    return [each for each in metadata.requires_dist or () if _applies(each)]


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(_HERE)


def _lines(content: str, where: str) -> list[Requirement]:
    """The requirements on torch and its companions in a file of requirements."""
    found = []
    for line in content.splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if re.match(r"torch(vision|audio)?(?![\w.-])", line):
            try:
                found.append(Requirement(line))
            except InvalidRequirement:
                raise MetadataFault(f"{where}: {line!r} is no requirement") from None
    return [each for each in found if _applies(each)]


def _pin(requirement: Requirement) -> str | None:
    """The one release that is accepted, without its local part; None where it is a range."""
    every = list(requirement.specifier)
    if len(every) != 1 or every[0].operator not in ("==", "===") or every[0].version.endswith("*"):
        return None
    try:
        return Version(every[0].version).public
    except InvalidVersion:
        return None


def _read(source: str, metadata: Metadata, **facts: str | None) -> Read:
    python = metadata.requires_python
    every = {**facts, "source": source, "python": specifier_text(python) if python else None}
    return Read({key: value for key, value in every.items() if value})
