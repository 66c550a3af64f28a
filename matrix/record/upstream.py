"""The results of upstream's tests, vLLM's own, in a run. Pure.

They stand apart from the startup tests: no verdict, no count of cases and no comparison reads them.
Importable inside a cell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from matrix._util.enums import StrEnum

NOT_ENDED = "did not run to its end"
"""Why a test is untested while the run continues, or where the run was killed."""

INTERRUPTED = "interrupted by"
"""How the reason of a test begins that a signal to the run ended; the signal's name follows."""


class UpstreamOutcome(StrEnum):
    """How a test of upstream's ended.

    `UNTESTED`: it shows nothing of the pair, for a module, a file of the hub or a GPU is missing,
    or it did not run to its end.
    """

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNTESTED = "untested"


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteCase:
    """One test of upstream's, by its name in pytest: `tests/compile/test_a.py::test_b[1]`.

    Where nothing of a file could be collected, the file has a case of its own name. `reason` is
    upstream's own of a test that is skipped.
    """

    case: str
    outcome: UpstreamOutcome
    reason: str | None = None
    signature: str | None = None
    seconds: float = 0.0
    failure: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UpstreamSuite:
    """The tests of upstream's that a run was asked for, and where they are from.

    `sdist` is the file name of the source distribution and `sha256` its hash; both are None if
    no test ran, or where the files of the folder are not those that were unpacked from one that the
    index has: a person named a folder, or changed a file. `files` has the SHA-256 of each file that
    was asked for, and of those found in a folder that was; what they import has none. `stand_ins`
    say for what something of this project stood in: a module that upstream's tests import and the
    environment lacks, a model's tokenizer, a class that a model's repository brings as code.
    """

    sdist: str | None = None
    sha256: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    stand_ins: tuple[str, ...] = ()
    cases: tuple[SuiteCase, ...] = ()

    @property
    def at_work(self) -> str | None:
        """Return the first test that has not ended; None if all have."""
        return next((case.case for case in self.cases if case.reason == NOT_ENDED), None)

    @property
    def has_ended(self) -> bool:
        """Return whether the run came to the end of all tests; False if it was interrupted."""
        return not any(
            case.reason == NOT_ENDED or (case.reason or "").startswith(INTERRUPTED)
            for case in self.of(UpstreamOutcome.UNTESTED)
        )

    def stopped(self, reason: str) -> "UpstreamSuite":
        """Return it with why the run stopped before the tests that have not ended."""
        return replace(
            self,
            cases=tuple(
                replace(case, reason=reason) if case.reason == NOT_ENDED else case
                for case in self.cases
            ),
        )

    def has(self, asked: str) -> bool:
        """Return whether there is a case of a path, maybe with a test, that a run was asked for.

        >>> case = SuiteCase(case="tests/a/test_b.py::test_c[1]", outcome=UpstreamOutcome.PASSED)
        >>> suite = UpstreamSuite(cases=(case,))
        >>> suite.has("tests/a"), suite.has("tests/a/test_b.py::test_c"), suite.has("tests/a/test")
        (True, True, False)
        """
        path, colons, test = asked.partition("::")
        wanted = f"{PurePosixPath(path)}{colons}{test}"
        names = {case.case.removesuffix("/__init__.py") for case in self.cases}
        # Where a file or a folder cannot be collected, its case stands for all below it.
        return any(_is_within(name, wanted) or _is_within(wanted, name) for name in names)

    def of(self, outcome: UpstreamOutcome) -> tuple[SuiteCase, ...]:
        """Return the cases that ended so."""
        return tuple(case for case in self.cases if case.outcome is outcome)


def _is_within(name: str, whole: str) -> bool:
    return name == whole or name.startswith((f"{whole}/", f"{whole}::", f"{whole}["))
