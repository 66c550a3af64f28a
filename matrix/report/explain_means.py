"""Sentences for the meanings of faults, by their codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from matrix._util.text import clip, listed, plural, spans
from matrix.explain.model import FaultAnswer, FaultKind, KnownReleases, Meaning
from matrix.report.explain_outside import MACHINE_MEANINGS, NAME_LIMIT, SENTENCES

_KINDS: Mapping[FaultKind, str] = {
    FaultKind.UNDEFINED_SYMBOL: "an undefined symbol",
    FaultKind.MISSING_LIBRARY: "a missing library",
    FaultKind.MISSING_MODULE: "a compiled module of vLLM that is missing",
    FaultKind.MISSING_EXTENSION: "an extension of vLLM that did not load",
    FaultKind.OLD_LIBRARY: "a glibc or libstdc++ that is too old",
    FaultKind.OLD_DRIVER: "a driver that is too old",
    FaultKind.NO_KERNEL: "no code for the GPU",
    FaultKind.CONFLICT: "requirements that exclude each other",
    FaultKind.TORCHVISION: "a torchvision of another torch",
    FaultKind.FLASHINFER: "packages of FlashInfer of different versions",
    FaultKind.RECOMPILES: "a warm start that compiles again",
    FaultKind.OTHER_PACKAGE: "a Python package of another version",
    FaultKind.UNKNOWN_MODEL: "a model that transformers does not know",
    FaultKind.DATA_TYPE: "a data type that the GPU does not have",
    FaultKind.GPU_STATE: "a GPU that CUDA cannot use",
    FaultKind.TOOL: "a tool, a header or a library that compiling needs",
    FaultKind.MEMORY: "memory that does not suffice",
    FaultKind.NCCL: "a failure of NCCL",
    FaultKind.REPORT: "a report of another error",
    FaultKind.WHEEL: "a wheel",
    FaultKind.UNKNOWN: "an unknown error",
}
_OWNERS: Mapping[Meaning, str] = {
    Meaning.ROCM: "ROCm's build of torch has {name}, and the torch that is installed is another"
    " build",
    Meaning.PYTHON: "{name} is Python's: {file} was built for another Python",
    Meaning.RUNTIME: "{name} is the C++ runtime's: {file} was built with a newer compiler than the"
    " libstdc++ that is loaded",
}


def means(answer: FaultAnswer) -> str:
    """Return what a fault means."""
    fault, operands = answer.fault, answer.operands
    # What the loader has is the mangled name; people read the other one.
    name = clip(answer.name or fault.subject or "", NAME_LIMIT)
    file = operands.get("file") or "some file"
    if fault.named and answer.meaning in _NAMED:
        return _NAMED[answer.meaning](answer, name)
    if answer.meaning in MACHINE_MEANINGS:
        return MACHINE_MEANINGS[answer.meaning]
    if answer.meaning in _OWNERS:
        return _OWNERS[answer.meaning].format(name=name, file=file)
    return _SENTENCES[answer.meaning](answer, name, file)


def _of_unknown(answer: FaultAnswer, name: str, _: str) -> str:
    near = ""
    if answer.nearest and answer.fault.kind is FaultKind.UNKNOWN:
        near = f"; the nearest kind that is: {_KINDS[FaultKind(answer.nearest)]}"
    elif answer.nearest:
        near = f"; the nearest name that is: {clip(answer.nearest, NAME_LIMIT)}"
    if answer.fault.kind is FaultKind.UNKNOWN:
        return f"not known here{near}"
    return f"nothing here knows {name}{near}"


def _of_driver(answer: FaultAnswer, _: str, __: str) -> str:
    has, cuda = answer.operands.get("has"), answer.operands.get("cuda")
    driver = answer.operands.get("driver")
    runs = f"the driver runs programs of CUDA up to {has}" if has else "the driver is too old"
    unseen = ""
    if there := answer.operands.get("there"):
        runs, unseen = f"the driver is {there}", "; or the container does not see it"
    minor = answer.operands.get("minor")
    if minor == "":
        return f"{runs}, and what is installed needs a newer CUDA, which is not known here{unseen}"
    if minor is not None:
        takes = f" ({_takes(answer.operands, driver)})" if driver else ""
        return (
            f"{runs}, and what is installed needs a newer minor release, as CUDA {minor}{takes}, or"
            f" a CUDA that is not known here{unseen}"
        )
    needs = (
        f"what is installed is of CUDA {cuda}" if cuda else "what is installed is of a newer CUDA"
    )
    least = f", which takes driver {driver} or newer" if driver else ""
    if other := answer.operands.get("or cuda"):
        least += f", or of CUDA {other}, which takes driver {answer.operands['or driver']} or newer"
    return f"{runs}, and {needs}{least}{unseen}"


def _takes(operands: Mapping[str, str], own: str) -> str:
    """Return which drivers run a minor release: the one of its major, and its own."""
    least = operands.get("least")
    itself = f"driver {own} is that of CUDA {operands['minor']} itself"
    if least in (None, own):
        return itself
    return f"{itself}, and driver {least} runs it by minor-version compatibility, without PTX"


def _of_ptx(answer: FaultAnswer, _: str, __: str) -> str:
    operands = answer.operands
    cuda, driver, there = (operands.get(key) for key in ("cuda", "driver", "there"))
    whose = f"the driver, {there}," if there else "the driver"
    text = f"the code for this GPU is PTX of a newer CUDA than {whose} compiles"
    takes = f", which takes driver {driver} or newer" if driver else ""
    return f"{text}: what is installed is of CUDA {cuda}{takes}" if cuda else text


def _of_kernel(answer: FaultAnswer, _: str, __: str) -> str:
    architecture, since = answer.operands["architecture"], answer.operands.get("since")
    if since is None:
        return f"what is installed has no code for {architecture}, and that GPU is unknown here"
    tool = "what is installed has no code for it"
    if answer.meaning is Meaning.OLD_ASSEMBLER:
        tool = "the ptxas that compiles for it does not know it"
    gpu = f"the GPU, {named}," if (named := answer.operands.get("gpu")) else "the GPU"
    return f"{gpu} is {architecture}, and {tool}: CUDA knows it {_known(answer.operands)}"


def _of_warning(answer: FaultAnswer, _: str, __: str) -> str:
    operands = answer.operands
    gpu = f"the GPU, {named}," if (named := operands.get("gpu")) else "the GPU"
    return (
        f"a warning alone: {gpu} is {operands['architecture']}, torch's list ends with"
        f" {operands['listed']}, and code for {operands['listed']} runs on it too"
    )


def _known(operands: Mapping[str, str]) -> str:
    """Return from which CUDA to which a GPU is known."""
    earlier = " or earlier" if "earlier" in operands else ""
    until = operands.get("until")
    last = f" and up to before {until}" if until else ""
    return f"since {operands['since']}{earlier}{last}"


def _of_pins(answer: FaultAnswer, _: str, __: str) -> str:
    fault = answer.fault
    wanted = [
        f"{demand.who or 'the request'} needs {demand.name}{demand.range}"
        for demand in fault.demands
    ]
    if fault.has:
        wanted.append(f"{fault.subject} {fault.has} is installed")
    if not wanted:
        return "the resolver found no set of packages that fulfils all requirements"
    return f"no version fulfils both: {listed(wanted)}"


def _of_no_version(answer: FaultAnswer, _: str, __: str) -> str:
    name, wanted = answer.operands["name"], answer.operands["range"]
    known = answer.torch if name == "torch" else answer.vllm if name == "vllm" else None
    if local := answer.operands.get("local"):
        plain = ", PyPI has the release without it" if known and known.holds else ""
        return (
            f"the index that was asked has no {name}{wanted}: builds with +{local} are on an index"
            f" of their own{plain}"
        )
    there = f"; it is published: {spanned(known)}" if known and known.holds else ""
    return f"the index that was asked has no {name}{wanted} for this Python and platform{there}"


def _of_python(answer: FaultAnswer, _: str, __: str) -> str:
    operands = answer.operands
    if not operands["range"]:
        wheel = f"wheel of {operands['who']} for Python {answer.fault.has}"
        return f"the index that was asked has no {wheel}"
    who = operands["who"].replace("vllm ", "vLLM ") or "a release that was ignored"
    python = answer.fault.has
    has = f"Python {python}" if python else "this Python"
    if python and not python[0].isdigit():
        has = f"the requested Python, {python},"
    order = operands.get("order")
    unfit = f"too {order}" if order else "too old or too new"
    return f"{has} is {unfit} for {who}, which needs Python{operands['range']}"


def _of_companion(answer: FaultAnswer, _: str, __: str) -> str:
    fault = answer.fault
    if fault.has and fault.wants:
        return f"torch is built for CUDA {fault.has}, and torchvision for CUDA {fault.wants}"
    what = fault.subject or "its operators"
    return f"torchvision is built for another torch than the one installed, so {what} is not there"


def _of_torch(answer: FaultAnswer, name: str, file: str) -> str:
    text = f"{file} was built for a torch that exports {name}, but the loaded torch does not"
    if answer.torch is not None and answer.torch.holds == answer.torch.asked:
        text += f": it is older than {answer.torch.asked[0]}, or of files of two releases"
    return text


def _of_nowhere(answer: FaultAnswer, name: str, file: str) -> str:
    return f"{file} needs {name}, which no torch that was read here exports{_nearest_name(answer)}"


def _nearest_name(answer: FaultAnswer) -> str:
    if not answer.nearest:
        return ""
    return f"; the nearest that is known: {clip(answer.nearest, NAME_LIMIT)}"


def _of_library(answer: FaultAnswer, name: str, _: str) -> str:
    cuda = answer.operands.get("cuda")
    builds = f" for CUDA {cuda.replace(', ', ' and ')}" if cuda else ""
    return (
        f"a file that is loaded needs {name}: builds of torch{builds} bring it, and the one that is"
        " installed does not"
    )


def _of_extension(answer: FaultAnswer, name: str, _: str) -> str:
    operands = answer.operands
    text = f"vLLM needs {name} here, and it did not load"
    if without := operands.get("without"):
        return f"{text}: vLLM {without} does not bring it"
    if torch := operands.get("torch"):
        return f"{text}: that of vLLM {operands['vllm']} does not link with torch {torch}"
    return text


def _of_operator(answer: FaultAnswer, name: str, _: str) -> str:
    text = (
        f"torch lacks an operator of {name}, a namespace of vLLM's compiled extensions: the one"
        " that registers it did not load"
    )
    if torch := answer.operands.get("torch"):
        return f"{text}: those of vLLM {answer.operands['vllm']} do not link with torch {torch}"
    return (
        f"{text}, since it is for another torch or vLLM's sources are imported instead of it, or"
        " this build of vLLM is without it, as one for another platform"
    )


def _of_tags(answer: FaultAnswer, *_: str) -> str:
    operands = answer.operands
    pip = f", or its pip is older than {least}" if (least := operands.get("pip")) else ""
    return (
        f"the wheel is for {operands['python']}, and for {operands['platform']}: the Python that"
        f" pip installs for is another, or runs on another platform{pip}"
    )


def _of_old_gpu(answer: FaultAnswer, *_: str) -> str:
    operands = answer.operands
    gpu = f"the GPU, {named}," if (named := operands.get("gpu")) else "the GPU"
    return (
        f"{gpu} is {operands['architecture']}, and Triton, to which torch.compile hands its"
        f" kernels, compiles for GPUs of compute capability {operands['least']} or newer"
    )


def _of_again(answer: FaultAnswer, _: str, __: str) -> str:
    count = answer.operands.get("count")
    many = f" ({plural(int(count), 'artifact')})" if count else ""
    return f"a warm start saved compiled code again{many}: it compiled what its caches should hold"


_Sentence = Callable[[FaultAnswer, str, str], str]
_SENTENCES: Mapping[Meaning, _Sentence] = {
    **SENTENCES,
    Meaning.OTHER_TORCH: _of_torch,
    Meaning.THIRD: _of_torch,
    Meaning.OLD_STRING: lambda _, name, file: (
        f"{file} was built for a torch with C++ strings of before GCC 5, as torch up to 2.6 had"
        f" them: {name}"
    ),
    Meaning.OWN: lambda _, name, file: (
        f"{name} is a function of the package's own extension: {file} was built without the sources"
        " that define it, for another GPU or platform"
    ),
    Meaning.NOWHERE: _of_nowhere,
    Meaning.DRIVER: lambda answer, name, _: (
        f"{name} is the NVIDIA driver's: it is not installed, or is not passed into the container"
        if answer.fault.kind is FaultKind.MISSING_LIBRARY
        else f"{name} is the NVIDIA driver's: it is not there, is too old, or is not in the"
        " container"
    ),
    Meaning.CUDA: lambda answer, name, file: (
        f"{file} needs {name} as torch brings it, and another one than torch brings is loaded first"
        if answer.fault.kind is FaultKind.OLD_LIBRARY
        else f"{name} is of {answer.operands.get('library', 'a library of CUDA')}, and another one"
        " than torch brings is loaded first, or none is"
    ),
    Meaning.OTHER_CUDA: _of_library,
    Meaning.NOT_BROUGHT: lambda _, name, __: (
        f"{name} comes with the packages that torch requires, and they are not installed, or are"
        " not found"
    ),
    Meaning.NOT_BUILT: lambda _, name, __: (
        f"{name} is a compiled module of vLLM's wheel: what is imported is vLLM's sources, which"
        " have no compiled modules, or a release without this one"
    ),
    Meaning.NEEDED_EXTENSION: _of_extension,
    Meaning.NO_OPERATOR: _of_operator,
    Meaning.NO_CUDA_TORCH: lambda _, name, __: (
        f"{name} is torch's own: the torch that is installed is built without CUDA, or none is"
    ),
    Meaning.OLD_SYSTEM: lambda answer, name, _: (
        f"the system has an older library than {name}, which"
        f" {answer.operands.get('file', 'the wheel')} was built against"
    ),
    Meaning.OTHER_RUNTIME: lambda answer, name, _: (
        "the libstdc++ that is loaded is not the system's, but that of an environment such as"
        f" conda's, and it is older than {name}, which"
        f" {answer.operands.get('file', 'the wheel')} was built against"
    ),
    Meaning.NEWER_CUDA: _of_driver,
    Meaning.NEWER_PTX: _of_ptx,
    Meaning.TWO_DRIVERS: lambda *_: (
        "the libcuda that is loaded is of another version than the driver that runs (CUDA's error"
        " 803): it is that of CUDA's compat package, or of a driver before an update"
    ),
    Meaning.NO_FORWARD: lambda *_: (
        "the libcuda of CUDA's compat package is loaded, for a newer CUDA than the driver's, and"
        " the GPU does not support such forward compatibility (CUDA's error 804)"
    ),
    Meaning.OTHER_MODULE: lambda *_: (
        "NVML, a library of the NVIDIA driver, is of another version than the driver's kernel"
        " module that runs: the driver was updated without a restart, or a container brings another"
        " NVML"
    ),
    Meaning.OLD_GPU: _of_old_gpu,
    Meaning.ARCHITECTURE: _of_kernel,
    Meaning.LATER_MINOR: _of_warning,
    Meaning.OLD_ASSEMBLER: _of_kernel,
    Meaning.UNNAMED_GPU: lambda *_: (
        "what is installed has no code for the GPU, which the text does not name"
    ),
    Meaning.PINS: _of_pins,
    Meaning.NO_SUCH_VERSION: _of_no_version,
    Meaning.OTHER_TAGS: _of_tags,
    Meaning.OTHER_PYTHON: _of_python,
    Meaning.OTHER_COMPANION: _of_companion,
    Meaning.VERSIONS_DIFFER: lambda answer, *_: (
        f"FlashInfer checks that its packages are of one version: {answer.operands['package']} is"
        f" {answer.operands['has']}, flashinfer-python {answer.operands['wants']}"
    ),
    Meaning.COMPILED_AGAIN: _of_again,
    Meaning.LOADED_ALL: lambda *_: (
        "a warm start saved nothing: it loaded all that the cold start left, as it should, and the"
        " test expected otherwise"
    ),
    Meaning.NOT_LOADED: lambda *_: (
        "a warm start could not load what a cold start had compiled, and compiled it again"
    ),
    Meaning.RECORDED: lambda *_: "records show it, and nothing more about it is known here",
    Meaning.NOTED: lambda answer, *_: (
        "one known cause: "
        + "; or ".join(" ".join(note.text.split()).rstrip(".") for note in answer.notes)
    ),
    Meaning.LINKS_WITH: lambda answer, *_: (
        f"its extensions need {plural(int(answer.operands['count']), 'symbol')} of torch"
    ),
    Meaning.UNKNOWN: _of_unknown,
}


def _of_named_gpu(answer: FaultAnswer, _: str) -> str:
    operands = answer.operands
    if "since" not in operands:
        return f"{operands['architecture']} is a GPU that is unknown here"
    gpu = f"{named} is {operands['architecture']}, " if (named := operands.get("gpu")) else ""
    name = gpu or f"{operands['architecture']} is "
    return f"{name}a GPU that CUDA knows {_known(operands)}"


def _of_named_library(answer: FaultAnswer, name: str) -> str:
    cuda = answer.operands.get("cuda")
    builds = f" for CUDA {cuda.replace(', ', ' and ')}" if cuda else ""
    return f"{name} is a library that builds of torch{builds} bring"


def _of_named_symbol(_: FaultAnswer, name: str) -> str:
    return f"{name} is a symbol that libraries of torch export"


# What a text names without an error: facts alone, since it describes no installation.
_NAMED: Mapping[Meaning, Callable[[FaultAnswer, str], str]] = {
    Meaning.OTHER_TORCH: _of_named_symbol,
    Meaning.THIRD: _of_named_symbol,
    Meaning.OLD_STRING: lambda _, name: (
        f"{name} has C++ strings of before GCC 5, as torch up to 2.6 had them"
    ),
    Meaning.OWN: lambda _, name: f"{name} is a function of a package's own extension",
    Meaning.NOWHERE: lambda answer, name: (
        f"{name} is a symbol that no torch that was read here exports" + _nearest_name(answer)
    ),
    Meaning.DRIVER: lambda _, name: f"{name} is the NVIDIA driver's",
    Meaning.CUDA: lambda answer, name: (
        f"{name} is of {answer.operands.get('library', 'a library of CUDA')}"
    ),
    Meaning.ROCM: lambda _, name: f"{name} is a symbol of ROCm's build of torch",
    Meaning.PYTHON: lambda _, name: f"{name} is Python's",
    Meaning.RUNTIME: lambda _, name: f"{name} is the C++ runtime's",
    Meaning.OTHER_CUDA: _of_named_library,
    Meaning.NOT_BROUGHT: lambda _, name: f"{name} is a library of the packages that torch requires",
    Meaning.NO_CUDA_TORCH: lambda _, name: f"{name} is a library of torch's own",
    Meaning.OLD_SYSTEM: lambda _, name: f"{name} is a version of a library of the system",
    Meaning.ARCHITECTURE: _of_named_gpu,
}


def spanned(known: KnownReleases) -> str:
    """Return the releases for which something holds, neighbours as a range."""
    places = [place for place, version in enumerate(known.asked) if version in set(known.holds)]
    return spans(known.asked, places)
