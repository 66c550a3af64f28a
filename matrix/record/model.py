"""The record: what one run of a cell on a platform observed, and nothing of what it should have.

Pure, and importable inside a cell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from matrix._util.enums import StrEnum
from matrix.catalog.cells import PROJECTS, Build, CellError
from matrix.errors import MatrixError
from matrix.record.cpp_compiler import CppCompiler
from matrix.record.inspections import Inspections
from matrix.record.jit import Jit
from matrix.record.origin import Origin
from matrix.record.upstream import UpstreamSuite

SCHEMA = 3
"""The schema of the records that are written; older ones are read as they are."""
LEFT_OUT = frozenset(
    (
        *("cache_check", "caches", "defaults", "departures", "events", "extensions"),
        *("cpp_compiler", "full_suite", "inspections", "jit"),
        *("made", "metrics", "origins", "ranks", "selected", "upstream"),
    )
)
"""The keys that a record leaves out where it has nothing to say, as older records do."""
FAILURE_LIMIT = 16 * 1024
"""The most characters of a failure's tail that a record keeps."""
REASON_LIMIT = 2000
"""The most characters of a reason or a signature that are read: ten times what a run writes."""
EVENT_LIMIT = 400
"""The most characters of an event's text that a record keeps."""
EVENTS_LIMIT = 32
"""The most events that a record keeps of one start."""
METRICS_LIMIT = 64
"""The most numbers of Inductor's own that a record keeps of one start."""
RANKS_LIMIT = 64
"""The most ranks that a record keeps of one start."""
DEFAULTS_LIMIT = 4000
"""The most defaults of one config that a record keeps."""
DEFAULT_TEXT_LIMIT = 200
"""The most characters of the name of a default, and of a text that is its value."""
DEFAULT_ITEMS_LIMIT = 16
"""The most items of a default that is a list."""


class Platform(StrEnum):
    """The platform of a run; `cuda` is authoritative, `cpu` needs no GPU."""

    CUDA = "cuda"
    CPU = "cpu"


class StartKind(StrEnum):
    """How vLLM started: with empty compile caches, or with those that a cold start left."""

    COLD = "cold"
    WARM = "warm"


class Rung(StrEnum):
    """How far a cell can get, lowest first. `BUILDS` is for a vLLM that is built from its sources.

    Every other cell is without it, so `RUNGS` does not have it.
    """

    DECLARED = "declared"
    BUILDS = "builds"
    RESOLVES = "resolves"
    LINKS = "links"
    IMPORTS = "imports"
    STARTS_COLD = "starts cold"
    STARTS_WARM = "starts warm"
    AS_EXPECTED = "as expected"


class Outcome(StrEnum):
    """How a case ended, or that it has not ended yet (`running`)."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not_applicable"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    INTERRUPTED = "interrupted"
    RUNNING = "running"


class ErrorKind(StrEnum):
    """Why a run as a whole ended early.

    `BUILDS`: the sources of its vLLM do not build; `NOT_BUILT`: this machine could not build them.
    `UNUSABLE_TMPDIR`: torch's compiler command would split at a character of the temporary folder's
    path. Older records have `no_compiler` for it. `PORT_TAKEN`: another process listened on the
    port that a start had chosen.
    """

    NO_COMPILER = "no_compiler"
    NO_SPACE = "no_space"
    UNUSABLE_TMPDIR = "unusable_tmpdir"
    NO_FORK = "no_fork"
    NO_PYTHON = "no_python"
    NO_MEMORY = "no_memory"
    IMPORTS = "imports"
    COMPANION = "companion"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"
    BUILDS = "builds"
    NOT_BUILT = "not_built"
    RESOLVES = "resolves"
    NOT_PUBLISHED = "not_published"
    WRONG_CELL = "wrong_cell"
    WRONG_PACKAGES = "wrong_packages"
    BROKEN_INSTALL = "broken_install"
    NO_GPU = "no_gpu"
    NO_DRIVER = "no_driver"
    DRIVER_TOO_OLD = "driver_too_old"
    GPU_UNSUPPORTED = "gpu_unsupported"
    GPU_FULL = "gpu_full"
    GPU_FAULT = "gpu_fault"
    PORT_TAKEN = "port_taken"
    INTERNAL = "internal"


_MAY_COME_OF_A_FAULT = {
    ErrorKind.IMPORTS,
    ErrorKind.COMPANION,
    ErrorKind.CRASHED,
    ErrorKind.TIMED_OUT,
    ErrorKind.INTERRUPTED,
    ErrorKind.INTERNAL,
}


class Why(StrEnum):
    """How an installed package differs from what a requirement asks for.

    `OVERRIDDEN`: another version, and on purpose. `OTHER_TORCH`: a companion that was made for
    another torch than the one that is installed. `TWO_VERSIONS`: the same folder holds two.
    `UNREADABLE`: its metadata has a line that `packaging` rejects, so nobody knows.
    """

    MISSING = "missing"
    OTHER_VERSION = "other_version"
    OVERRIDDEN = "overridden"
    OTHER_TORCH = "other_torch"
    TWO_VERSIONS = "two_versions"
    UNREADABLE = "unreadable"


class By(StrEnum):
    """Who made it so: a bundle that leaves packages out, the overrides of an off-pin cell."""

    BUNDLE = "bundle"
    OVERRIDE = "override"
    UNKNOWN = "unknown"


class EventKind(StrEnum):
    """An event that torch or vLLM only logged during a start.

    `LOAD_FAILED`: a cached artifact could not be loaded, so it was compiled again. `SAVE_FAILED`:
    an artifact could not be written. `CACHE_BYPASSED`: a cache was not asked, and why.
    `CACHE_DISABLED`: a cache is off as a whole. `FELL_BACK`: another way was taken than the one
    asked for. `RECOMPILED`: Dynamo compiled a function more than once.
    """

    LOAD_FAILED = "load_failed"
    SAVE_FAILED = "save_failed"
    CACHE_BYPASSED = "cache_bypassed"
    CACHE_DISABLED = "cache_disabled"
    FELL_BACK = "fell_back"
    RECOMPILED = "recompiled"


class CacheKind(StrEnum):
    """The kind of a file in the compile caches of a start.

    `ARTIFACT` and `AOT`: what vLLM saves of a graph, and of a whole model. `FXGRAPH` and
    `AOTAUTOGRAD`: the entries of torch's two caches. `GENERATED`: code that Inductor wrote, in
    Python or C++. `COMPILED`: libraries and other code for a machine. `TRITON`: Triton's cache.
    """

    ARTIFACT = "artifact"
    AOT = "aot"
    FXGRAPH = "fxgraph"
    AOTAUTOGRAD = "aotautograd"
    GENERATED = "generated"
    COMPILED = "compiled"
    TRITON = "triton"
    OTHER = "other"


PLATFORMS = tuple(Platform)
STARTS = tuple(StartKind)
RUNGS = tuple(rung for rung in Rung if rung is not Rung.BUILDS)
"""The rungs of every cell."""
OUTCOMES = tuple(Outcome)
WHOLE_RUN = ""
"""Stands for the name of a case where the run as a whole is meant."""


class RecordError(MatrixError):
    """A record that cannot be read, written or believed: names the file and the key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that torch or vLLM logged of one kind, in the words of its first time."""

    kind: EventKind
    text: str
    count: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheFiles:
    """The files of one kind in the compile caches after a start.

    New are those that were not there before the start, or had another size.
    """

    files: int
    bytes: int
    new_files: int
    new_bytes: int


DefaultScalar = bool | int | float | str | None
DefaultValue = DefaultScalar | list[DefaultScalar]
Defaults = Mapping[str, Mapping[str, DefaultValue]]
"""The defaults of torch's configs: module, such as `torch._inductor.config`, to name to value."""


class CheckedCompile(StrEnum):
    """One of the three times that the cache check compiles its function, by torch alone.

    Cold: with empty caches. Warm: in another process, with the caches that the cold one left.
    Graphs: there too, without AOTAutograd's cache, so that Inductor's own cache of graphs is asked.
    """

    COLD = "cold"
    WARM = "warm"
    GRAPHS = "graphs"


CacheCheck = Mapping[CheckedCompile, Mapping[str, int]]
"""What each compilation of the cache check counted, by torch's counters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rank:
    """One rank of a start, a process with one GPU: its counts, events and seconds.

    `seconds` are by part, as those of a start, without its total. What vLLM logs of its first rank
    alone, such as the seconds of Dynamo and Inductor, lies in `profile` on the others. The rest is
    as in `Start`.
    """

    rank: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    events: tuple[Event, ...] | None = None
    metrics: Mapping[str, int] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """One start: its counts, and its seconds by part (`total` and others).

    `events` is what torch and vLLM only logged of it; None if nobody listened (records from
    before the key), and empty if nothing of these kinds was logged. `metrics` are Inductor's own
    numbers, such as `generated_kernel_count`, and `caches` is what the compile caches hold after
    the start, by kind; each is None if it is not known.
    `ranks` are the ranks of a start on several GPUs, the first one first; None if the start is
    one process. `counters`, `metrics` and `events` of such a start are those of its first rank, and
    `caches` holds the files of all.
    """

    start: StartKind
    seconds: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    events: tuple[Event, ...] | None = None
    metrics: Mapping[str, int] | None = None
    caches: Mapping[CacheKind, CacheFiles] | None = None
    ranks: tuple[Rank, ...] | None = None

    @property
    def counted(self) -> Mapping[int | None, Mapping[str, int]]:
        """The counts of each rank, by its number; by None if the start is one process."""
        if self.ranks is None:
            return {None: self.counters}
        return {rank.rank: rank.counters for rank in self.ranks}

    @property
    def agreed(self) -> Mapping[str, int]:
        """The counts that are equal on all ranks: all counts if the start is one process."""
        if self.ranks is None:
            return self.counters
        return {
            counter: value
            for counter, value in self.counters.items()
            if all(rank.counters.get(counter) == value for rank in self.ranks)
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One startup test.

    The outcome `passed` means that both starts ran to their end, whatever they counted. With a
    reason, which only cases of the full suite have then, nothing says what they should count.
    """

    case: str
    outcome: Outcome
    reason: str | None = None
    signature: str | None = None
    seconds: float = 0.0
    model: str | None = None
    flags: Mapping[str, object] = field(default_factory=dict)
    failure: str | None = None
    starts: tuple[Start, ...] = ()

    def started(self, start: StartKind) -> Start | None:
        """Return what that start observed, or None if it never ran to its end."""
        for seen in self.starts:
            if seen.start == start:
                return seen
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class RungResult:
    """The result of the run on one rung of the ladder, and its seconds."""

    rung: Rung
    ok: bool
    seconds: float = 0.0
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunError:
    """Why the run as a whole ended early."""

    kind: ErrorKind
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Departure:
    """One package of an environment that differs from the requirements of vLLM's metadata.

    `required` is the requirement (`flashinfer-python==0.6.14`), `installed` the version that is
    there (None: none), `imports` the names by which Python imports it, where they are known.
    """

    name: str
    required: str
    installed: str | None
    why: Why
    by: By = By.UNKNOWN
    imports: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run of a cell on a platform. `finished` is false while the run continues, or if it died.

    `selected` counts the cases of the startup tests that this run was asked for, whether they ran
    or not (None: the run ended before it knew, or the record is older than the number), and
    `deselected` the others.
    `full_suite` has the cases that the full suite adds, which count nowhere else; None without it.
    `departures` is how the packages differ from what vLLM requires: None if the run did not
    look (records from before the key), and empty if all are as required.
    `jit` is None if nothing is built just in time (the CPU platform) or nobody looked.
    `cpp_compiler` is None if the run had no such step (on a GPU) or is older than the key.
    `inspections` is None if the run ended before that step, or is older than the key.
    `defaults` are those of torch's configs that are plain data, by module and name; None: unknown.
    `cache_check` is what the cache check counted; None if it did not come to its end.
    `origins` is where its torch and its vLLM are from; None if nobody looked.
    `upstream` is what upstream's own tests did; None if the run was asked for none.
    """

    cell: str
    platform: Platform
    finished: bool
    provenance: Mapping[str, object]
    error: RunError | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    departures: tuple[Departure, ...] | None = None
    origins: tuple[Origin, ...] | None = None
    flags: Mapping[str, object] = field(default_factory=dict)
    rungs: tuple[RungResult, ...] = ()
    cases: tuple[Case, ...] = ()
    selected: int | None = None
    deselected: int = 0
    full_suite: tuple[Case, ...] | None = None
    jit: Jit | None = None
    cpp_compiler: CppCompiler | None = None
    inspections: Inspections | None = None
    defaults: Defaults | None = None
    cache_check: CacheCheck | None = None
    upstream: UpstreamSuite | None = None
    schema: int = SCHEMA

    @property
    def started(self) -> str:
        """Return when the run started: UTC, as `2026-11-22T18:00:00Z`, which sorts as time does."""
        return str(self.provenance["started"])

    def origin(self, project: str) -> Origin | None:
        """Return where its torch or its vLLM is from; None if nobody looked."""
        return next((origin for origin in self.origins or () if origin.project == project), None)

    def build(self, project: str) -> Build | None:
        """Return the build of its torch or its vLLM, if that is a candidate."""
        origin = self.origin(project)
        return None if origin is None else origin.candidate

    @property
    def builds(self) -> str:
        """Return what distinguishes its candidates from others of their names; "" without any."""
        every = (self.build(project) for project in PROJECTS)
        return " ".join(f"{build.name}.{build.identity}" for build in every if build)

    def version(self, project: str) -> str | None:
        """Return the version of its torch or its vLLM, of a candidate the release key.

        None if the record does not know it.
        """
        found = self.provenance.get(project)
        text = found if isinstance(found, str) else None
        origin = self.origin(project)
        if origin is None or origin.candidate is None or (text or origin.version) is None:
            return text
        try:
            return origin.candidate.key(text or origin.version or "")
        except CellError:
            return text

    @property
    def jobs(self) -> int:
        """Return how many cases ran side by side; in records without the number it was one."""
        jobs = self.provenance.get("jobs")
        return jobs if type(jobs) is int else 1

    @property
    def total_cases(self) -> int:
        """Return how many cases the startup tests have, as far as the record knows.

        An older record counts none that was selected and had not begun when the run ended.
        """
        return max(self.selected or 0, len(self.cases)) + self.deselected

    @property
    def is_complete(self) -> bool:
        """Return whether the run came to its end with every case of the startup tests."""
        ended = self.finished and self.error is None
        return ended and bool(self.cases) and not self.deselected


def with_fault(record: Record, fault: RunError) -> Record:
    """Return the record of a run in which the machine or the environment had this fault.

    A failure that the fault may have caused gives way to it, so that nobody blames the pair; it
    stays in the reason. An error that shows nothing about the pair is not changed.
    """
    error = record.error
    if error is not None and error.kind not in _MAY_COME_OF_A_FAULT:
        return record
    ended = "" if error is None else f"; the run ended so: {error.reason}"
    return replace(
        record,
        error=replace(fault, reason=fault.reason + ended),
        rungs=tuple(rung for rung in record.rungs if rung.ok),
    )


@dataclass(frozen=True, kw_only=True)
class CellRef:
    """A cell with its exact releases, on a platform."""

    cell: str
    platform: Platform
    torch: str
    vllm: str


def clip_failure(text: str) -> str:
    """Return the tail of a failure that fits into a record.

    >>> len(clip_failure("x" * 100_000)) == FAILURE_LIMIT
    True
    """
    return text if len(text) <= FAILURE_LIMIT else "…" + text[-(FAILURE_LIMIT - 1) :]
