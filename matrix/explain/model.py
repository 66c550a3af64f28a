"""Faults of an error's text, and the answer to each: facts and codes, no words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from matrix._util.enums import StrEnum

if TYPE_CHECKING:
    from matrix.attribution.model import Attribution
    from matrix.rules.notes import Note


class FaultKind(StrEnum):
    """The kind of a fault."""

    UNDEFINED_SYMBOL = "undefined_symbol"
    MISSING_LIBRARY = "missing_library"
    MISSING_MODULE = "missing_module"
    MISSING_EXTENSION = "missing_extension"
    OLD_LIBRARY = "old_library"
    OLD_DRIVER = "old_driver"
    NO_KERNEL = "no_kernel"
    CONFLICT = "conflict"
    TORCHVISION = "torchvision"
    FLASHINFER = "flashinfer"
    RECOMPILES = "recompiles"
    OTHER_PACKAGE = "other_package"
    UNKNOWN_MODEL = "unknown_model"
    DATA_TYPE = "data_type"
    GPU_STATE = "gpu_state"
    TOOL = "tool"
    MEMORY = "memory"
    NCCL = "nccl"
    REPORT = "report"
    WHEEL = "wheel"
    UNKNOWN = "unknown"


class Meaning(StrEnum):
    """Why the fault of a kind happens, as far as the data say it: the code of its meaning.

    Of a symbol: OTHER_TORCH, a torch exports it and another one is there. THIRD: no vLLM needs it,
    so another package does. OLD_STRING: it is written for the C++ string of before GCC 5. OWN:
    vLLM itself defines it. NOWHERE: no torch that was read exports it. The others name who it comes
    from: the driver, CUDA's libraries, ROCm, Python, the C++ runtime.
    """

    OTHER_TORCH = "other_torch"
    THIRD = "third"
    OLD_STRING = "old_string"
    OWN = "own"
    NOWHERE = "nowhere"
    DRIVER = "driver"
    CUDA = "cuda"
    ROCM = "rocm"
    PYTHON = "python"
    RUNTIME = "runtime"
    OTHER_CUDA = "other_cuda"
    NO_CUDA_TORCH = "no_cuda_torch"
    NOT_BROUGHT = "not_brought"
    NOT_BUILT = "not_built"
    NEEDED_EXTENSION = "needed_extension"
    NO_OPERATOR = "no_operator"
    OLD_SYSTEM = "old_system"
    OTHER_RUNTIME = "other_runtime"
    NEWER_CUDA = "newer_cuda"
    NEWER_PTX = "newer_ptx"
    TWO_DRIVERS = "two_drivers"
    NO_FORWARD = "no_forward"
    OTHER_MODULE = "other_module"
    ARCHITECTURE = "architecture"
    LATER_MINOR = "later_minor"
    UNNAMED_GPU = "unnamed_gpu"
    OLD_ASSEMBLER = "old_assembler"
    OLD_GPU = "old_gpu"
    PINS = "pins"
    NO_SUCH_VERSION = "no_such_version"
    OTHER_TAGS = "other_tags"
    OTHER_PYTHON = "other_python"
    OTHER_COMPANION = "other_companion"
    VERSIONS_DIFFER = "versions_differ"
    COMPILED_AGAIN = "compiled_again"
    LOADED_ALL = "loaded_all"
    NOT_LOADED = "not_loaded"
    NO_SUCH_NAME = "no_such_name"
    OTHER_NUMPY = "other_numpy"
    UNKNOWN_MODEL = "unknown_model"
    NO_BFLOAT16 = "no_bfloat16"
    NO_FP8 = "no_fp8"
    NOT_READY = "not_ready"
    NO_GPU = "no_gpu"
    FEWER_GPUS = "fewer_gpus"
    NO_PLATFORM = "no_platform"
    NOT_LOADED_DRIVER = "not_loaded_driver"
    BROKEN_GPU = "broken_gpu"
    BUSY_GPU = "busy_gpu"
    UNKNOWN_STATE = "unknown_state"
    FORKED = "forked"
    NO_COMPILER = "no_compiler"
    NO_CXX_COMPILER = "no_cxx_compiler"
    NO_C_HEADERS = "no_c_headers"
    NO_HEADERS = "no_headers"
    NO_DRIVER_LINK = "no_driver_link"
    NO_LDCONFIG = "no_ldconfig"
    NO_TOOLKIT = "no_toolkit"
    PART_OF_TOOLKIT = "part_of_toolkit"
    OTHER_TOOLKIT = "other_toolkit"
    NO_NINJA = "no_ninja"
    GPU_FULL = "gpu_full"
    HELD_GPU = "held_gpu"
    CHANGED_GPU = "changed_gpu"
    GRAPHS_FULL = "graphs_full"
    NO_CACHE = "no_cache"
    LONG_CONTEXT = "long_context"
    SHARED_MEMORY = "shared_memory"
    NO_SPACE = "no_space"
    WAITING = "waiting"
    NCCL_VERSIONS = "nccl_versions"
    NCCL_ONE_GPU = "nccl_one_gpu"
    NCCL_SYSTEM = "nccl_system"
    NCCL_PEER = "nccl_peer"
    NCCL_CALL = "nccl_call"
    REPORTS = "reports"
    RECORDED = "recorded"
    NOTED = "noted"
    LINKS_WITH = "links_with"
    UNKNOWN = "unknown"


class RemedyCode(StrEnum):
    """The code of a remedy."""

    INSTALL = "install"
    REMOVE = "remove"
    REBUILD = "rebuild"
    REQUIREMENT = "requirement"
    NEWER_DRIVER = "newer_driver"
    SOME_DRIVER = "some_driver"
    OWN_DRIVER = "own_driver"
    SAME_DRIVER = "same_driver"
    NEWER_SYSTEM = "newer_system"
    NEWER_RUNTIME = "newer_runtime"
    SYSTEM_RUNTIME = "system_runtime"
    NAME_GPU = "name_gpu"
    NAME_DRIVER = "name_driver"
    NAME_TAGS = "name_tags"
    NEWER_GPU = "newer_gpu"
    NAMED_IMPORT = "named_import"
    LOADED_FIRST = "loaded_first"
    OTHER_PTXAS = "other_ptxas"
    OUTSIDE_SOURCES = "outside_sources"
    UPGRADE = "upgrade"
    OTHER_RELEASE = "other_release"
    OLDER_NUMPY = "older_numpy"
    NEWER_MODULE = "newer_module"
    HALF = "half"
    WITHOUT_FP8 = "without_fp8"
    FABRIC_MANAGER = "fabric_manager"
    SEE_GPUS = "see_gpus"
    UNHIDE_GPUS = "unhide_gpus"
    FREE_GPU = "free_gpu"
    KERNEL_LOG = "kernel_log"
    MORE_LOG = "more_log"
    SPAWN = "spawn"
    COMPILER = "compiler"
    CXX_COMPILER = "cxx_compiler"
    HEADERS = "headers"
    DRIVER_LINK = "driver_link"
    DRIVER_FOLDER = "driver_folder"
    TOOLKIT = "toolkit"
    NINJA = "ninja"
    SMALLER_MODEL = "smaller_model"
    FEWER_GRAPHS = "fewer_graphs"
    MORE_SHARE = "more_share"
    LESS_SHARE = "less_share"
    SHORTER_CONTEXT = "shorter_context"
    SHARED_MEMORY = "shared_memory"
    FREE_SPACE = "free_space"
    WAIT = "wait"
    SAME_NCCL = "same_nccl"
    NCCL_LOG = "nccl_log"
    ABOVE = "above"
    SPLIT_EXTRAS = "split_extras"
    SPLIT_MEMBERS = "split_members"
    SOURCES = "sources"
    LINKAGE = "linkage"
    SHOW = "show"


@dataclass(frozen=True, kw_only=True)
class Demanded:
    """Who asks for which versions of a package; `who` is "" for the one who installs."""

    who: str
    name: str
    range: str


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault of a text: its kind, its signature, and its facts in the text.

    `subject` is what is missing or wrong: a symbol, a library, `GLIBC_2.32`, a package. `file` is
    the library that needs it, `package` the package of that library, or the one that asks for the
    name. `has` is what is there (the CUDA of a driver, the architecture of a GPU, a version, or the
    library that is loaded), `wants` what is needed: a version, or the package of which another
    version is. `demands` are
    those that exclude each other. `named`: the text only names `subject` or `has`, and says of no
    installation that anything is wrong.
    """

    kind: FaultKind
    signature: str
    subject: str | None = None
    file: str | None = None
    package: str | None = None
    has: str | None = None
    wants: str | None = None
    demands: tuple[Demanded, ...] = ()
    named: bool = False


@dataclass(frozen=True, kw_only=True)
class TextVersions:
    """The installed releases, NVIDIA driver and GPU that a text names.

    None for what it does not name, and for GPUs of different names.
    """

    torch: str | None = None
    vllm: str | None = None
    driver: str | None = None
    gpu: str | None = None


@dataclass(frozen=True, kw_only=True)
class TextFaults:
    """The faults of a text in its order, the versions that it names, how many faults more it has.

    `nearest` is the kind that a text without a known fault is nearest to. `binary`: it is not text.
    """

    faults: tuple[Fault, ...]
    versions: TextVersions
    more: int = 0
    nearest: FaultKind | None = None
    binary: bool = False

    @property
    def known(self) -> bool:
        """Tell whether one of the faults is of a known kind."""
        return any(fault.kind is not FaultKind.UNKNOWN for fault in self.faults)


@dataclass(frozen=True, kw_only=True)
class KnownReleases:
    """Those releases of a project that something holds for, and all that were asked about."""

    holds: tuple[str, ...]
    asked: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ProcessorCode:
    """The read wheels for a processor with code for a GPU, and the wheels that were not read.

    Of `unread_torch` and `unread_vllm` all known releases were asked about.
    """

    machine: str
    torch: KnownReleases
    vllm: KnownReleases
    unread_torch: KnownReleases
    unread_vllm: KnownReleases


@dataclass(frozen=True, kw_only=True)
class PinnedPair:
    """A vLLM and a torch, for which both halves of an answer hold: its pin, but for extensions."""

    vllm: str
    torch: str


@dataclass(frozen=True, kw_only=True)
class ShownBy:
    """A record that shows a fault: its place, cell, platform, cases, and its cause.

    The fault is that of `cases`, of the run as a whole where there are none. `issues` are the links
    that are known for it.
    """

    path: str
    cell: str
    platform: str
    cases: tuple[str, ...] = ()
    attribution: Attribution | None = None
    issues: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FaultRemedy:
    """One remedy for a fault.

    `requirements` are what to install, remove or rebuild; `what` is an operand. There are none to
    rebuild where the package of a file is not known. `environment` is the folder of a new
    environment for them, with this `python`; None where they go into the one that there is.
    """

    code: RemedyCode
    requirements: tuple[str, ...] = ()
    environment: str | None = None
    python: str | None = None
    what: str | None = None


@dataclass(frozen=True, kw_only=True)
class FaultAnswer:
    """The answer to a fault.

    `name` is a symbol as people write it. `torch` are the releases that export or bring it, or fit,
    `vllm` those that need it, or pin what fits; None if the question makes no sense. `files` are
    the files of those vLLMs that need it. `pairs` are those of which both halves hold; of an
    extension that did not load, those in which it links. `operands` are what `meaning`'s words
    take. `nearest` is the known name that is nearest to one that nothing knows. `code` is which
    wheels have code for a GPU, by processor. `records` is None if none were looked through, and
    `looked` counts them. `notes` are what people found out about one that nothing else explains.
    """

    fault: Fault
    meaning: Meaning
    name: str | None = None
    torch: KnownReleases | None = None
    vllm: KnownReleases | None = None
    files: tuple[str, ...] = ()
    pairs: tuple[PinnedPair, ...] = ()
    operands: Mapping[str, str] = field(default_factory=dict)
    records: tuple[ShownBy, ...] | None = None
    looked: int = 0
    links: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    remedies: tuple[FaultRemedy, ...] = ()
    code: tuple[ProcessorCode, ...] = ()
    nearest: str | None = None
    third: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Tell whether anything is known of the fault."""
        return self.meaning is not Meaning.UNKNOWN
