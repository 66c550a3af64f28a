"""Read the metadata of a release of torch, vLLM or a companion: pins, CUDA, Pythons.

Pure, and for Linux on x86_64. The input is untrusted: `packaging` parses it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from packaging.markers import UndefinedEnvironmentName
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from matrix._util.text import clean, clip
from matrix._util.versions import parse_version, specifier_set, specifier_text
from matrix.catalog.release import COMPANIONS
from matrix.errors import MatrixError

# The markers of an environment on Linux on x86_64, without extras.
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
# `__version__ = '2.11.0+cu130'` in a companion's version.py; its wheel's name has no local part.
_BUILT_FOR = re.compile(
    r"""^__version__(?:\s*:\s*str)?\s*=\s*["'][^"'+\s]+\+cu(\d+)(\d)["']""", re.MULTILINE
)
_MEMBER = re.compile(
    r"[^/]+\.dist-info/METADATA|[^/]+/(PKG-INFO|setup\.py|requirements/cuda\.txt)|"
    r"([^/]+/)?vllm/envs\.py|(?:torchvision|torchaudio)/version\.py"
)


class MetadataError(MatrixError):
    """The metadata of a release, or what an index says of one, cannot be parsed."""


@dataclass(frozen=True, kw_only=True)
class ReleaseMetadata:
    """The facts of a release's own metadata, by the keys of its row.

    `requirements` are the lines of a vLLM's `Requires-Dist` that need no extra, as they stand in
    its wheel; None for other projects and where no wheel was read.
    """

    facts: Mapping[str, str]
    requirements: tuple[str, ...] | None = None


def wanted_member(name: str) -> bool:
    """Tell whether a member of a wheel or source distribution, by its name, is read here."""
    return _MEMBER.fullmatch(name) is not None


def read_torch(version: str, metadata: str, source: str) -> ReleaseMetadata:
    """Return what a torch's metadata says; `source` is where it was read.

    Raises MetadataError for metadata that `packaging` refuses, or of another release.
    """
    parsed = _metadata("torch", version, metadata)
    cuda = None
    for requirement in _required(parsed):
        if _CUDA_RUNTIME.fullmatch(requirement.name) and (pin := _pin(requirement)):
            cuda = ".".join(pin.split(".")[:2])
    return _facts(source, parsed, cuda=cuda)


def read_companion(
    project: str, version: str, members: Mapping[str, str], source: str
) -> ReleaseMetadata:
    """Return what a companion says: its required torch, and the CUDA that it is built for.

    The members are its metadata and ``version.py``, whose version has the CUDA as its local part;
    without that the CUDA is not known. torchaudio compares it with torch's when it is imported, so
    that two builds for other releases of CUDA do not go together. Raises as `read_torch`.
    """
    parsed = _metadata(project, version, metadata_of(members))
    specifiers = [str(row.specifier) for row in _required(parsed) if row.name == "torch"]
    built = _BUILT_FOR.search(members.get(f"{project}/version.py", ""))
    return _facts(
        source,
        parsed,
        requires=",".join(filter(None, specifiers)) or None,
        cuda=f"{built[1]}.{built[2]}" if built else None,
    )


def requirements_of(project: str, version: str, metadata: str) -> list[Requirement]:
    """Return what a release requires on Linux on x86_64, without an extra.

    Raises MetadataError as `read_torch`.
    """
    return _required(_metadata(project, version, metadata))


def metadata_of(members: Mapping[str, str]) -> str:
    """Return the metadata among the members of a wheel or source distribution; "" without."""
    names = sorted(name for name in members if name.endswith(("METADATA", "PKG-INFO")))
    return members[names[0]] if names else ""


def main_cuda(members: Mapping[str, str]) -> str | None:
    """Return the CUDA that a vLLM release's wheels are built with, by its sources, else None.

    A wheel built with another one has it in its version (`+cu126`). It need not be the CUDA of the
    torch that is pinned: the wheels of 0.9 are built with 12.8, and those of torch 2.7 with 12.6.
    """
    for name, content in sorted(members.items()):
        pattern = {"envs.py": _MAIN_CUDA, "setup.py": _SETUP_CUDA}.get(name.rpartition("/")[2])
        if pattern and (found := pattern.search(content)):
            return found.group(1)
    return None


def read_vllm(version: str, members: Mapping[str, str], source: str) -> ReleaseMetadata:
    """Return what a vLLM release says, by its members that are wanted (METADATA is enough).

    The pins of a source distribution are those of requirements/cuda.txt, where it has one: its
    PKG-INFO may be of the machine that built it. CUDA is what `main_cuda` finds. Raises as
    `read_torch`, and where there is no metadata.
    """
    named = {name.rpartition("/")[2]: content for name, content in sorted(members.items())}
    metadata = named.get("METADATA") or named.get("PKG-INFO")
    if metadata is None:
        raise MetadataError(
            f"vllm {version}: its {source} contains no metadata; report it upstream"
        )
    parsed = _metadata("vllm", version, metadata)
    required = _required(parsed)
    if source == "sdist" and "cuda.txt" in named:
        required = _lines(named["cuda.txt"], f"vllm {version}: requirements/cuda.txt")
    pins: dict[str, str | None] = {}
    required_torch = None
    for requirement in required:
        if requirement.name in ("torch", *COMPANIONS):
            pin = _pin(requirement)
            if pin is not None and pins.setdefault(requirement.name, pin) != pin:
                raise MetadataError(
                    f"vllm {version}: its {source} pins {requirement.name} twice,"
                    f" {pins[requirement.name]} and {pin}; report it upstream"
                )
            if requirement.name == "torch":
                required_torch = str(requirement)
    note = None
    if "torch" not in pins:
        note = f"its {source} asks for {required_torch or 'no torch'}, which is not a pin"
        pins = {}
    read = _facts(source, parsed, **pins, cuda=main_cuda(members), note=note)
    if source == "sdist":
        return read
    lines = (str(row) for row in parsed.requires_dist or () if not _needs_extra(row))
    return replace(read, requirements=tuple(lines))


def _metadata(project: str, version: str, content: str) -> Metadata:
    where = f"{project} {version}"
    try:
        # Not validated as a whole: an invalid licence expression does not matter here.
        parsed = Metadata.from_email(content, validate=False)
        name, of_version = parsed.name, parsed.version
        specifier_set(str(parsed.requires_python or ""))
        for row in parsed.requires_dist or ():
            specifier_set(str(row.specifier))
            _applies(row)
    except ValueError as error:  # also for a marker that cannot be asked
        reason = str(error).partition("\n")[0]
        raise MetadataError(f"{where}: its metadata is refused ({reason})") from None
    if name.lower() != project or of_version != parse_version(version):
        raise MetadataError(f"{where}: its metadata is that of {name} {of_version}; not taken")
    return parsed


def _required(metadata: Metadata) -> list[Requirement]:
    """Return what is required on Linux on x86_64, without an extra."""
    return [row for row in metadata.requires_dist or () if _applies(row)]


def _applies(requirement: Requirement) -> bool:
    """Tell whether a requirement is one here. Raises ValueError for a marker that has no answer."""
    try:
        return requirement.marker is None or requirement.marker.evaluate(_HERE)
    except UndefinedEnvironmentName as error:
        raise ValueError(f"{clip(clean(str(requirement)), 100)}: {error} is not known") from None


def _needs_extra(requirement: Requirement) -> bool:
    return (
        requirement.marker is not None
        and re.search(r"\bextra\b", str(requirement.marker)) is not None
    )


def _lines(content: str, where: str) -> list[Requirement]:
    """Return the requirements on torch and its companions in a file of requirements, for here."""
    found = []
    for raw in content.splitlines():
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        if re.match(r"torch(vision|audio)?(?![\w.-])", line):
            try:
                requirement = Requirement(line)
                specifier_set(str(requirement.specifier))
                applies = _applies(requirement)
            except ValueError:  # also for a marker that cannot be asked
                shown = clip(clean(line), 100)
                raise MetadataError(f"{where}: {shown!r} is not a requirement") from None
            found += [requirement] if applies else []
    return found


def _pin(requirement: Requirement) -> str | None:
    """Return the one release that is accepted, without its local part; None for a range."""
    bounds = list(requirement.specifier)
    if len(bounds) != 1 or bounds[0].operator not in ("==", "===") or "*" in bounds[0].version:
        return None
    try:
        return Version(bounds[0].version).public
    except InvalidVersion:
        return None


def _facts(source: str, metadata: Metadata, **facts: str | None) -> ReleaseMetadata:
    python = metadata.requires_python
    row = {**facts, "source": source, "python": specifier_text(python) if python else None}
    return ReleaseMetadata(facts={key: value for key, value in row.items() if value})
