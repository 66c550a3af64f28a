"""The departures of an environment from the requirements of vLLM's metadata.

Pure, and importable inside a cell. An environment is **stock** where no package departs from the
requirements. The torch that an off-pin cell puts in place of the pin, with its companions, is the
purpose of that cell and shown by its name, so it does not count (`not_stock`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from matrix._util.versions import parse_version
from matrix.record.model import By, Departure, Why

TORCH_FAMILY = ("torch", "torchvision", "torchaudio")
"""torch and its companions: what an off-pin cell overrides."""

_COMPANIONS = TORCH_FAMILY[1:]
_SHOWN = 200  # characters of a requirement that a record keeps
# What a distribution is imported as, where its name does not tell: of those that vLLM requires.
_IMPORTED_AS: Mapping[str, tuple[str, ...]] = {
    "apache-tvm-ffi": ("tvm_ffi",),
    "flashinfer-python": ("flashinfer",),
    "grpcio": ("grpc",),
    "humming-kernels": ("humming",),
    "lm-format-enforcer": ("lmformatenforcer",),
    "nvidia-cudnn-frontend": ("cudnn",),
    "nvidia-cutlass-dsl": ("cutlass", "nvidia_cutlass_dsl"),
    "opencv-python-headless": ("cv2",),
    "opentelemetry-api": ("opentelemetry",),
    "pillow": ("PIL",),
    "protobuf": ("google.protobuf",),
    "py-cpuinfo": ("cpuinfo",),
    "pynvvideocodec": ("PyNvVideoCodec",),
    "python-json-logger": ("pythonjsonlogger",),
    "pyyaml": ("yaml",),
    "pyzmq": ("zmq",),
    "quack-kernels": ("quack",),
    "setuptools": ("setuptools", "pkg_resources"),
}
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
_IMPORT_FAILS = re.compile(
    r"ImportError|undefined symbol|cannot open shared object|PackageNotFoundError"
)
# How other errors say that a package is not there.
_IS_LACKING = re.compile(
    r"(?:is|was|are|could) not (?:be )?(?:installed|available|found|imported)"
    r"|n't (?:installed|available)"
    r"|\b(?:pip|please) install\b|\brequires?\b|\bis required\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class InstalledPackages:
    """The packages of an environment.

    `versions` and `twice` are by normalized name; `twice` has each version of a package that lies
    in one folder more than once. `requires` returns the lines of `Requires-Dist` of an installed
    package; `markers` are the values of this environment's markers, None for those of this Python.
    """

    versions: Mapping[str, str]
    requires: Callable[[str], Sequence[str]]
    twice: Mapping[str, tuple[str, ...]]
    markers: Mapping[str, str] | None = None


def departures(environment: InstalledPackages, root: str = "vllm") -> tuple[Departure, ...]:
    """Return what is not as `root`, and all that it brings, require; by name.

    What a missing package would require is not asked for.
    """
    found: dict[tuple[str, bool], Departure] = {}
    pending: list[tuple[str, str]] = [(root, "")]
    seen = set(pending)
    while pending:
        name, extra = pending.pop(0)
        for requirement in _requirements(environment, name, extra, found):
            wanted = canonicalize_name(requirement.name)
            departure = _departure(environment, name, wanted, requirement)
            if departure is not None:
                made_for = departure.why is Why.OTHER_TORCH
                found.setdefault((departure.name, made_for), departure)
            if wanted in environment.versions:
                ways = [(wanted, ""), *((wanted, more) for more in sorted(requirement.extras))]
                pending += [way for way in ways if way not in seen]
                seen.update(ways)
    return tuple(found[key] for key in sorted(found))


def _requirements(
    environment: InstalledPackages, name: str, extra: str, found: dict[tuple[str, bool], Departure]
) -> Iterator[Requirement]:
    """Yield what a package requires here; note a line of its metadata that nobody can read."""
    for line in environment.requires(name):
        try:
            requirement = Requirement(line)
            applies = requirement.marker is None or _holds(
                requirement.marker, environment.markers, extra
            )
        except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName, InvalidVersion):
            departure = Departure(
                name=name,
                required=_clipped(line),
                installed=environment.versions.get(name),
                why=Why.UNREADABLE,
            )
            found.setdefault((name, False), departure)
            continue
        if applies:
            yield requirement


def _holds(marker: Marker, markers: Mapping[str, str] | None, extra: str) -> bool:
    return marker.evaluate({**(markers or {}), "extra": extra})


def _departure(
    environment: InstalledPackages, by: str, wanted: str, requirement: Requirement
) -> Departure | None:
    """Return how what is installed differs from one requirement of the package `by`, or None."""
    there = environment.versions.get(wanted)
    why = _why(environment, wanted, requirement)
    if why is None:
        return None
    required = _clipped(f"{requirement.name}{requirement.specifier}")
    made = Departure(name=wanted, required=required, installed=there, why=why)
    if why is Why.TWO_VERSIONS:
        return replace(made, installed=" and ".join(environment.twice[wanted]))
    if why is Why.OTHER_VERSION and wanted == "torch" and by in _COMPANIONS:
        return replace(made, name=by, installed=environment.versions[by], why=Why.OTHER_TORCH)
    return made


def _why(environment: InstalledPackages, wanted: str, requirement: Requirement) -> Why | None:
    """Return why a package is not as required, or None."""
    there = environment.versions.get(wanted)
    if wanted in environment.twice:
        return Why.TWO_VERSIONS
    if there is None:
        return Why.MISSING
    if requirement.url or not requirement.specifier:
        return None
    try:
        parse_version(there)
    except InvalidVersion:
        return Why.UNREADABLE
    return None if requirement.specifier.contains(there, prereleases=True) else Why.OTHER_VERSION


def _clipped(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def attributed(
    found: Iterable[Departure], *, left_out: Collection[str], overridden: Collection[str]
) -> tuple[Departure, ...]:
    """Return the departures with who made them so, where that is known.

    `left_out` are the packages that a bundle leaves out on purpose, or takes from its target;
    `overridden` those of torch and its companions that an off-pin cell overrides.
    """
    return tuple(_attributed(departure, left_out, overridden) for departure in found)


def _attributed(
    departure: Departure, left_out: Collection[str], overridden: Collection[str]
) -> Departure:
    if departure.name in overridden:
        other = departure.why is Why.OTHER_VERSION
        why = Why.OVERRIDDEN if other else departure.why
        return replace(departure, why=why, by=By.OVERRIDE)
    if departure.name in left_out:
        return replace(departure, by=By.BUNDLE)
    return departure


def prevents(departure: Departure, torch: str) -> bool:
    """Return whether nothing can be learned of the pair in such an environment, so none is run.

    What is missing prevents a run unless somebody left it out knowingly; so does a torchvision that
    was made for another minor release of torch than `torch`, for its operators are bound to one.
    """
    if departure.why is Why.OTHER_TORCH:
        return departure.name == "torchvision" and not _near(departure.required, torch)
    return departure.why is Why.MISSING and departure.by is By.UNKNOWN


def _near(required: str, torch: str) -> bool:
    """Return whether a requirement is of one release of torch, of the same minor release."""
    try:
        here = parse_version(torch).release[:2]
        wanted = [
            parse_version(clause.version).release[:2] for clause in Requirement(required).specifier
        ]
    except (InvalidRequirement, InvalidVersion):
        return False
    return bool(wanted) and all(version == here for version in wanted)


def not_stock(found: Iterable[Departure] | None) -> tuple[Departure, ...]:
    """Return the departures that make an environment not stock: all but an off-pin cell's own."""
    return tuple(departure for departure in found or () if not _is_off_pin(departure))


def _is_off_pin(departure: Departure) -> bool:
    return departure.name in TORCH_FAMILY and departure.by is By.OVERRIDE


def _imports_of(departure: Departure) -> tuple[str, ...]:
    """Return the names by which Python imports the package, as far as anybody knows.

    >>> made = Departure(name="flashinfer-python", required="", installed=None, why=Why.MISSING)
    >>> _imports_of(made)
    ('flashinfer',)
    """
    plain = departure.name.replace("-", "_")
    return departure.imports or _IMPORTED_AS.get(departure.name, (plain,))


def named_by(found: Iterable[Departure] | None, failure: str) -> Departure | None:
    """Return the package that departs and that a failure names as its cause, or None.

    `failure` is one error, such as a case's reason: one of an import, or one that says that a
    package, which is missing, is not there. torch itself is the pair, and never counts.
    """
    module = _NO_MODULE.search(failure)
    for departure in found or ():
        if departure.name == "torch":
            continue
        names = _imports_of(departure)
        if module is not None:
            is_named = any(module[1] == name or module[1].startswith(f"{name}.") for name in names)
        elif _IMPORT_FAILS.search(failure):
            is_named = any(_stands_in(name, failure) for name in names)
        else:
            lacking = departure.why is Why.MISSING and _IS_LACKING.search(failure) is not None
            is_named = lacking and any(
                _stands_in(name, failure, re.IGNORECASE) for name in (departure.name, *names)
            )
        if is_named:
            return departure
    return None


def _stands_in(name: str, failure: str, flags: int = 0) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", failure, flags) is not None
