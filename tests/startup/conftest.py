"""Fixtures of the startup tests: a fresh cache, a runner that cleans up, two starts."""

import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from matrix._util.text import listed
from matrix.inside import cpp_compiler, inspections, starts, vllm_compat
from matrix.inside.isolation import run_forked
from matrix.inside.journal import JOURNAL_VARIABLE, Journal
from matrix.inside.laws import Law
from matrix.inside.models import MODELS
from matrix.inside.pytest_plugin import case_name
from matrix.record.model import Platform, StartKind
from matrix.record.startup_tests import STARTUP_TESTS_VERSION
from matrix.rules.expectations import Difference, Situation, compare_ranks
from matrix.rules.expectations_file import load_expectations
from matrix.rules.provisional import DiffersFrom, NearestRelease, SameAs, provisional_of

pytest_plugins = ["matrix.inside.pytest_plugin"]

_A_DAY = 86400.0
# What a warm-up measured of FlashInfer's kernels; without it, it lies among what the cases share.
_AUTOTUNED = "VLLM_FLASHINFER_AUTOTUNE_CACHE_DIR"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("matrix").addoption(
        "--trust-remote-code",
        action="store_true",
        help="with --model-source hub: let a model's repository run its own code",
    )


def pytest_configure(config: pytest.Config) -> None:
    starts.prepare_environment(config.getoption("--model-source"))


@pytest.fixture
def fresh_vllm_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Empty caches of vLLM, Inductor and Triton for this test alone, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="matrix-cache-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        monkeypatch.setenv("VLLM_CACHE_ROOT", str(folder / "vllm"))
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))
        monkeypatch.setenv("TRITON_CACHE_DIR", str(folder / "triton"))
        cpp_compiler.give_headers(folder)
        if vllm_compat.knows(_AUTOTUNED):
            monkeypatch.setenv(_AUTOTUNED, str(folder / "autotuned"))
        temporary = folder / "tmp"
        temporary.mkdir()
        monkeypatch.setenv("TMPDIR", str(temporary))
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield folder


@pytest.fixture
def vllm_runner() -> starts.Runner:
    """Return what starts vLLM, and frees the engine and its memory at its end."""
    return starts.engine


@pytest.fixture
def startup(
    request: pytest.FixtureRequest, fresh_vllm_cache: Path, vllm_runner: starts.Runner
) -> Callable[..., None]:
    """Start a model cold in a forked child, then warm here; fail where the counts differ.

    A case of the full suite may have a `law`, which holds without an expectation, and may count as
    another case does; the cold start runs in `cold_in`, and `between` changes the folder of the
    caches, or where they are, and may return why the case does not apply. No judge reads the counts
    of such a case, so it fails where they differ. A start that `inspects` its model does so itself;
    others begin with what the run asked (`matrix.inside.inspections`).
    """
    config = request.config
    platform = Platform(os.environ["MATRIX_PLATFORM"])
    journal = Journal(os.environ.get(JOURNAL_VARIABLE, fresh_vllm_cache / "journal"))

    def run(
        name: str,
        *,
        law: Law | None = None,
        counts_as: str | None = None,
        cold_in: Callable[[], AbstractContextManager[Any]] = nullcontext,
        between: Callable[[Path], str | None] = _nothing,
        inspects: bool = False,
        **options: Any,
    ) -> None:
        if not inspects:
            inspections.give(fresh_vllm_cache / "vllm")
        model = MODELS[name]
        flags = vllm_compat.effective_flags()
        journal.write("model", model=name)
        journal.write("flags", flags=flags)
        asked = starts.Startup(
            model=model,
            platform=platform,
            source=config.getoption("--model-source"),
            trust_remote_code=config.getoption("--trust-remote-code"),
            **options,
        )
        _skip(starts.cannot_start(asked), journal)
        observed = {StartKind.COLD: _cold(asked, vllm_runner, journal, cold_in)}
        _skip(between(fresh_vllm_cache), journal)
        observed[StartKind.WARM] = _warm(asked, vllm_runner, journal)
        if law is not None and _holds(law, observed):
            return
        torch, vllm = vllm_compat.versions()
        _judge(
            Situation(
                case=counts_as or case_name(request.node.name),
                platform=platform,
                torch=torch,
                vllm=vllm,
                flags=flags,
                tests=STARTUP_TESTS_VERSION,
            ),
            observed,
            journal,
            decides=counts_as is None,
        )

    return run


def _skip(reason: str | None, journal: Journal) -> None:
    """Skip the test where there is a reason why the case does not apply."""
    if reason is not None:
        journal.write("not_applicable", reason=reason)
        pytest.skip(reason)


def _nothing(_folder: Path) -> None:
    """Leave the caches as the cold start left them."""


_Counted = Mapping[int | None, Mapping[str, int]]
"""What each rank of a start counted, by its number; by None where the start is one process."""


def _cold(
    asked: starts.Startup,
    runner: starts.Runner,
    journal: Journal,
    cold_in: Callable[[], AbstractContextManager[Any]],
) -> _Counted:
    def start() -> dict[str, Any]:
        with cold_in():
            return starts.observe(asked, runner)

    journal.write("starting", start=StartKind.COLD)
    ended = run_forked(
        start,
        timeout=_A_DAY,
        output=journal.path.with_name("cold.log"),
    )
    print(ended.output)
    if ended.kind != "returned":
        journal.failed(StartKind.COLD, ended)
        pytest.fail(f"the cold start {ended.reason}\n{ended.error or ''}", pytrace=False)
    journal.write("started", start=StartKind.COLD, **ended.value)
    return _counted(ended.value)


def _warm(asked: starts.Startup, runner: starts.Runner, journal: Journal) -> _Counted:
    journal.write("starting", start=StartKind.WARM)
    try:
        value = starts.observe(asked, runner)
    except Exception:
        journal.write("failed", start=StartKind.WARM, failure=traceback.format_exc())
        raise
    journal.write("started", start=StartKind.WARM, **value)
    return _counted(value)


def _counted(value: Mapping[str, Any]) -> _Counted:
    if "ranks" not in value:
        return {None: value["counters"]}
    return {rank["rank"]: rank["counters"] for rank in value["ranks"]}


def _first(observed: Mapping[StartKind, _Counted]) -> dict[StartKind, Mapping[str, int]]:
    return {start: next(iter(counted.values())) for start, counted in observed.items()}


def _holds(law: Law, observed: Mapping[StartKind, _Counted]) -> bool:
    """Return whether the law holds, False where this release does not count what it speaks of."""
    first = _first(observed)
    broken = law(first[StartKind.COLD], first[StartKind.WARM])
    if broken:
        pytest.fail("; ".join(broken), pytrace=False)
    return broken is not None


def _judge(
    situation: Situation,
    observed: dict[StartKind, _Counted],
    journal: Journal,
    *,
    decides: bool = True,
) -> None:
    expectations = load_expectations()
    expected = {start: expectations.expect(situation, start) for start in observed}
    nearest = {start: expectations.nearest(situation, start) for start in observed}
    differences = [
        difference
        for start, counted in observed.items()
        for difference in compare_ranks(expected[start], counted, start)
    ]
    if differences:
        lines = [
            f"{difference.start} {difference.counter}{_of_rank(difference)}: expected"
            f" {difference.expected}, observed {difference.observed} (rule {difference.rule})"
            for difference in differences
        ]
        if not decides:
            pytest.fail(f"counts differ: {'; '.join(lines)}", pytrace=False)
        journal.write("differs", differences=lines)
        pytest.fail("counts differ\n" + "\n".join(lines), pytrace=False)
    reasons = []
    if provisional := provisional_of(nearest, _first(observed)):
        reasons.append(f"provisional: {_compared(provisional.comparison)}")
    missing = [start for start in observed if not expected[start] and not nearest[start]]
    if missing:
        reasons.append(f"no expectation for the {' and the '.join(missing)} start")
    if reasons:
        reason = "; ".join(reasons)
        journal.write("untested", reason=reason)
        pytest.skip(f"untested: {reason}")


def _of_rank(difference: Difference) -> str:
    return "" if difference.rank is None else f" of rank {difference.rank}"


def _compared(found: SameAs | DiffersFrom) -> str:
    """Return a comparison in words: nothing of `matrix.report` may be imported in a cell."""
    if isinstance(found, SameAs):
        return f"counts as {listed(list(map(_named, found.releases)))} did"
    first = found.difference
    counts = "not counted" if first.observed is None else str(first.observed)
    more = f", and {found.more} more" if found.more else ""
    return (
        f"differs from {_named(found.release)} in {first.start} {first.counter}: {counts},"
        f" was {first.expected}{more}"
    )


def _named(nearest: NearestRelease) -> str:
    known = (("vLLM", nearest.vllm), ("torch", nearest.torch))
    return " with ".join(f"{name} {version}" for name, version in known if version)
