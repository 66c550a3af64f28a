"""Upstream's own numbers, as `matrix/data/upstream.json` has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from packaging.version import Version

from matrix._util.versions import parse_version
from matrix.errors import MatrixError
from matrix.record.model import StartKind

SOURCE = "https://github.com/vllm-project/vllm/blob"
STARTUP_TESTS = ("test_startup.py", "test_cold_start.py")
"""The names of the files that hold upstream's startup tests, over the releases."""

FLAG = "VLLM_USE_MEGA_AOT_ARTIFACT"
"""The flag that decides what these tests count, and that most of them leave at its default."""

NEVER = "<0"
"""The range of no torch release: upstream's test is skipped."""


class UpstreamError(MatrixError):
    """The data file of upstream's numbers cannot be read, or a row in it is invalid."""


def within(torch: str, versions: str) -> bool:
    """Tell whether a torch release is in a range, `>=2.10.0,<2.12.0`; "" is every torch.

    Versions are compared as upstream compares them: a pre-release of 2.12.0 is older than 2.12.0,
    while a SpecifierSet has it neither in `<2.12.0` nor in `>=2.12.0`.
    """
    found = parse_version(torch)
    return all(
        found >= bound if operator == ">=" else found < bound
        for operator, bound in bounds_of(versions)
    )


def bounds_of(versions: str) -> list[tuple[str, Version]]:
    """Return the bounds of a range. Raises ValueError for any other text."""
    found = []
    for text in versions.split(",") if versions else ():
        operator = ">=" if text.startswith(">=") else text[:1]
        if operator not in (">=", "<"):
            raise ValueError(f"{text!r} is neither >=VERSION nor <VERSION")
        found.append((operator, parse_version(text.removeprefix(operator))))
    return found


@dataclass(frozen=True, kw_only=True)
class ByTorch:
    """A value that may depend on torch: ranges of torch releases, and the value in each.

    The ranges are as `within` reads them. None: upstream's test has no number there.
    """

    values: Mapping[str, int | None]

    def at(self, torch: str) -> int | None:
        """Return the value under a torch release."""
        for versions, value in self.values.items():
            if within(torch, versions):
                return value
        return None


@dataclass(frozen=True, kw_only=True)
class UpstreamStart:
    """One start of a case: the numbers that upstream asserts, by counter.

    ``environment`` has the variables that this start sets besides those of the case; a value that
    the test makes as it runs is None.
    """

    start: StartKind
    numbers: Mapping[str, ByTorch]
    environment: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class UpstreamCase:
    """One case of an upstream test, such as `test_model_startup[kimi_k2.5]`.

    ``torch`` is the range of torch releases on which it is not skipped (NEVER: it always is).
    ``environment`` has the variables that it sets, ``fixtures`` what else it asks pytest for,
    ``engine`` the options that it gives to vLLM; what the test makes as it runs is None.
    """

    case: str
    starts: tuple[UpstreamStart, ...]
    parameters: Mapping[str, object] = field(default_factory=dict)
    torch: str = ""
    environment: Mapping[str, str | None] = field(default_factory=dict)
    fixtures: tuple[str, ...] = ()
    engine: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class UpstreamFile:
    """The content of one file of tests; the same file in several releases is read once."""

    sha256: str
    cases: tuple[UpstreamCase, ...]
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UpstreamRelease:
    """One release of vLLM: its source distribution, and the tests that it has, by path.

    ``sha256`` is that of the source distribution; None: the index had none. ``flags`` has the
    defaults of the flags that decide what these tests count. ``faults`` says what was not read.
    """

    version: str
    sha256: str | None
    files: Mapping[str, UpstreamFile] = field(default_factory=dict)
    flags: Mapping[str, ByTorch] = field(default_factory=dict)
    faults: tuple[str, ...] = ()

    def link(self, path: str) -> str:
        """Return the address of a file of this release at its tag."""
        return f"{SOURCE}/v{self.version}/{path}"

    def startup_cases(self) -> Iterator[tuple[str, UpstreamCase]]:
        """Yield the cases of its startup tests, each with the path of its file."""
        for path, file in self.files.items():
            if path.rpartition("/")[2] in STARTUP_TESTS:
                for case in file.cases:
                    yield path, case

    def every_fault(self) -> tuple[str, ...]:
        """Return what could not be read of this release, one line each."""
        of_files = (f"{path}:{fault}" for path, file in self.files.items() for fault in file.faults)
        return (*self.faults, *of_files)


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """The releases that were read, oldest first."""

    releases: tuple[UpstreamRelease, ...] = ()

    def release(self, version: str) -> UpstreamRelease | None:
        """Return a release, None if it was not read."""
        return next((release for release in self.releases if release.version == version), None)
