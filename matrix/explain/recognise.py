"""The kind of the fault in a line of an error's text, and its facts.

Pure. `MARKS` are the bytes that a line must have for each, so that a stream is searched for them
alone; `of_line` reads a line, or a signature, whatever it has. The text is untrusted: each pattern
has a limit, and what it captures is checked by its form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from matrix.catalog.hardware import Capability, plain_name
from matrix.explain.conflicts import (
    of_ignored,
    of_installed,
    of_platform,
    of_sentence,
    of_tags,
    of_unsolved,
    of_wheel,
)
from matrix.explain.imports import IMPORT_MARKS, of_import
from matrix.explain.model import Fault, FaultKind, TextVersions
from matrix.explain.outside import OUTSIDE_MARKS, of_outside

_SYMBOL = r"(?P<symbol>[A-Za-z_$][\w$.@]{0,2000})"
_FILE = r"(?P<file>[\w.+@=-]{1,200}\.(?:so|dylib)[\w.]{0,60})"
_UNDEFINED = re.compile(rf"undefined symbol: {_SYMBOL}")
_WHERE = re.compile(rf"{_FILE}['\"]?: $")
_LONGEST_FILE = 280
# ldd -r writes the file behind it.
_BEHIND = re.compile(r"\s+\((?:[^()\s]*/)?(?P<file>[\w.+@=-]{1,200}\.so[\w.]{0,60})\)")
_OF_MAC = re.compile(
    r"(?:Symbol|symbol) not found(?: in flat namespace)?:? ?\(?['\"]?"
    r"_(?P<symbol>[A-Za-z_$][\w$.]{0,2000})"
)
_REFERENCED = re.compile(r"Referenced from: (?:<[^>]{1,60}> )?(?:\S*/)?" + _FILE)
_LIBRARY = r"(?P<library>lib[\w+-]{1,80}(?:\.(?:[0-9a-f]{8}|<id>))?\.so(?:\.\d+){0,4})"
_MISSING = (
    re.compile(rf"{_LIBRARY}(?: \(deleted\))?: cannot open shared object"),
    re.compile(rf"{_LIBRARY} => not found"),
)
_NO_NVML = re.compile(r"NVML Shared Library Not Found")
_NO_DRIVER = re.compile(r"Found no NVIDIA driver on your system")
# A torch that is built for the CPU has none of CUDA's functions in its module `torch._C`.
_CPU_TORCH = re.compile(
    r"Torch not compiled with CUDA enabled|module 'torch\._C' has no attribute '_cuda_"
)
_NO_NCCL = re.compile(
    r"Failed to load NCCL library from (?:\S{1,300}/)?(?P<library>libnccl\.so\.2)"
)
_CUDNN = re.compile(
    r"cuDNN version incompatibility: PyTorch was compiled {1,4}against \((?P<major>\d{1,2}),"
)
# A compiled module has a name with an underscore, and so have some of Python, as `vllm._version`:
# whether a wheel has it is for `matrix.explain.modules` to say.
_MODULE = re.compile(
    r"No module named ['\"](?P<module>vllm\.(?:\w{1,60}\.){0,4}_(?!version\b)\w{1,60})['\"]"
)
# auditwheel puts a hash into the name of a library that it copies; a signature has <id> for it.
_HASHED = re.compile(r"[.-](?:[0-9a-f]{8}|<id>)(?=\.so)")
_VERSION_OF = re.compile(
    r"version [`'\u2018]?(?P<version>(?:GLIBC|GLIBCXX|CXXABI)_[\d.]{1,20}\d|lib\w{1,40}\.so\.\d+)"
    r"['\u2019]? not found"  # a shell takes a backquote away
)
# Of the loaded libstdc++, where it is not one of the system's folders: conda brings its own.
_RUNTIME = re.compile(r"(?P<folder>/[^\s:'\"]{0,300}/)libstdc\+\+\.so\.6: version")
_SYSTEM = re.compile(r"/(?:usr/)?(?:local/)?lib(?:32|64)?/(?:[\w-]{1,30}/)?")
# Some break the line before it.
_REQUIRED_BY = re.compile(r"\s{0,80}\(required by (?:[^()\s]*/)?(?P<file>[\w.+@=-]{1,200})\)")
_FOUND_DRIVER = re.compile(
    r"driver on your system is too old(?: \(found version (?P<has>\d{4,6}))?"
)
_DRIVER = re.compile(r"driver version is insufficient|\bcudaErrorInsufficientDriver\b")
_TWO_DRIVERS = re.compile(r"system has unsupported display driver / cuda driver combination")
_TWO_NVMLS = re.compile(r"[Dd]river/library version mismatch|an NVML/RM version mismatch")
_FORWARD = re.compile(r"forward compatibility was attempted on non supported HW")
_OTHER_DRIVERS = (("two drivers", _TWO_DRIVERS), ("forward", _FORWARD), ("NVML", _TWO_NVMLS))
_PTX = re.compile(r"provided PTX was compiled with an unsupported toolchain")
_NO_KERNEL = re.compile(r"no kernel image is available for execution")
_CAPABILITY = re.compile(
    r"(?:with CUDA capability (?P<has>sm_\d{2,3}[af]?)|(?P<gpu>with CUDA capability \S+))"
    r" is not compatible with the current PyTorch"
)
# torch's own check, also of a torch whose code runs there: its list has no minor after its last.
_FOUND_GPU = re.compile(
    r"Found GPU\d{1,2} (?P<name>[A-Za-z][^\n]{1,60}?) which is of"
    r" (?:cuda capability|compute capability \(CC\)) (?P<major>[1-9]\d?)\.(?P<minor>\d)"
)
_LISTED = re.compile(
    r"Minimum and Maximum cuda capability supported by this version of PyTorch is[^()]{0,120}"
    r"\([\d.]{3,4}\) - \((?P<major>[1-9]\d?)\.(?P<minor>\d)\)"
)
_TRITON = re.compile(
    r"which is too old to be supported by the triton GPU compiler.{0,80}"
    r" Triton only supports devices of CUDA Capability >= (?P<wants>[1-9]\d?\.\d)"
    r"\b.{0,60} CUDA capability (?P<major>[1-9]\d?)\.(?P<minor>\d)"
)
_ASSEMBLER = re.compile(r"Value '(?P<has>sm_\d{2,3}[af]?)' is not defined for option 'gpu-name'")
_OPERATOR = re.compile(r"operator (?P<operator>torchvision::\w{1,60}) does not exist")
_OF_VISION = re.compile(r"module 'torchvision' has no attribute 'extension'")
_CUDAS = re.compile(
    r"PyTorch and torchvision were compiled with different CUDA (?:major )?versions\.?"
    r"(?: PyTorch has CUDA Version=(?P<has>[\d.]{1,10}\d) and torchvision has"
    r" CUDA Version=(?P<wants>[\d.]{1,10}\d))?"
)
_VERSION = r"[\w.+!-]{1,60}"
_DEEP_GEMM = re.compile(
    r"requires DeepGEMM (?:support\b|to be installed)|DeepGEMM backend is not available"
    r"|No module named ['\"](?:vllm\.third_party\.)?deep_gemm['\"]"
    r"|Module (?:vllm\.third_party\.)?deep_gemm was found but failed to import"
)
# The namespaces in which vLLM's compiled extensions register operators.
_NO_OPERATOR = re.compile(
    r"'_OpNamespace' '(?P<namespace>_C(?:_(?:cache_ops|custom_ar|cuda_utils|utils))?|_moe_C|_rocm_C"
    r"|_vllm_fa[23]_C|_flashmla_(?:extension_)?C|_qutlass_C)' object has no attribute '"
    r"|\btorch\.ops\.(?P<short>_C|_moe_C)'? has no attribute\b"
)
_FLASHINFER = re.compile(
    rf"(?P<package>flashinfer[_-][\w-]{{2,30}}?)(?: version)? \((?P<has>{_VERSION})\)"
    r" (?:does not match|!=)"
    rf" flashinfer(?:-python)?(?: version)? \((?P<wants>{_VERSION})\)"
)
RUNTIME = "libstdc++.so.6"
"""`Fault.has` where the libstdc++ without the version is not the system's."""
_AGAIN = re.compile(
    r"(?i)compiling model again due to a load failure(?: from \S{1,300})?"
    r"(?:,? reason: (?P<why>.{1,200}))?"
)
LOAD_FAILURE = "load failure"
"""The subject of a warm start that could not load what was compiled."""
_COUNTED = re.compile(
    r"(?:num_compiled_artifacts_saved|warm_artifacts_saved)\b(?: not as expected, before it is"
    r" (?P<before>\d{1,6}), after it is (?P<after>\d{1,6})|\W{1,4}(?:got )?(?P<count>\d{1,6}))"
)
_START = re.compile(r"(?i)(?<![a-z])(?:cold|warm)(?=start|[^a-z]|$)")
_PACKAGE = re.compile(r"(?:site|dist)-packages/(?P<package>[A-Za-z0-9_]{1,80})/")
_ROW = r"(?m:^(?:[\w.-]{{1,60}} {{1,60}}\| )?{} {{2,}})"
"""A row of `pip list`, also as Docker Compose prints it, behind the name of a service."""
_NAMED_TORCH = re.compile(
    rf"(?:PyTorch version *: *|\btorch==|{_ROW.format('torch')}"
    r"|\btorch (?=[\d.]{5,12}\+))(?P<version>\d+\.\d+\.\d+)"
)
_NAMED_VLLM = re.compile(
    r"(?:vLLM Version *: *|LLM engine \(v|vLLM API server version |\bvllm=="
    rf"|{_ROW.format('vllm')}"
    r"|▀ {2}version )(?P<version>\d+\.\d+\.\d+)"
)
# As collect_env and nvidia-smi print them.
_NAMED_DRIVER = re.compile(
    r"(?i)driver version *: *(?P<version>[1-9]\d{2}\.\d{1,4}(?:\.\d{1,4})?)(?![\w.])"
)
_NAMED_GPU = re.compile(
    r"(?m)^(?: {0,8}|GPU models and configuration {0,8}: {0,8})GPU \d{1,2}:"
    r" (?P<name>[A-Za-z][^\n(]{1,60})"
)
# In the words of a person. The table of GPUs says which of these is one.
_OTHER_GPU = re.compile(
    r"(?<![\w./+-])(?P<name>(?:(?i:NVIDIA|GeForce|Tesla|Quadro) ){0,2}"
    r"(?:(?i:RTX (?:PRO )?A?\d{4}(?: Ti)?(?: Ada| Blackwell)?)|(?:GB|GH|DGX |[ABHLVT])\d{2,3}[GS]?)"
    r"|(?i:NVIDIA|Tesla) [LTA]\d)(?:-(?:SXM|PCI[Ee]|NVL)\d?)?(?:-\d{1,3}GB)?(?![\w.+-])"
)


def of_line(line: str, after: str = "") -> Fault | None:
    """Return what a line shows, without its signature; None if it shows no known fault."""
    return next((fault for reader in _READERS if (fault := reader(line, after))), None)


def versions_in(texts: Iterable[str]) -> TextVersions:
    """Return what texts name as installed: the first of each; a GPU where all are of one name."""
    every = list(texts)

    def first(pattern: re.Pattern[str]) -> str | None:
        found = next(filter(None, map(pattern.search, every)), None)
        return None if found is None else found["version"]

    def gpus_of(pattern: re.Pattern[str]) -> dict[str, str]:
        names = [found["name"].strip() for text in every for found in pattern.finditer(text)]
        return {plain_name(name): name for name in reversed(names)}

    gpus = gpus_of(_NAMED_GPU) or gpus_of(_FOUND_GPU) or gpus_of(_OTHER_GPU)
    return TextVersions(
        torch=first(_NAMED_TORCH),
        vllm=first(_NAMED_VLLM),
        driver=first(_NAMED_DRIVER),
        gpu=next(iter(gpus.values())) if len(gpus) == 1 else None,
    )


def _symbol(line: str, after: str) -> Fault | None:
    if found := _UNDEFINED.search(line):
        before = line[max(0, found.start() - _LONGEST_FILE) : found.start()]
        named = _WHERE.search(before) or _BEHIND.match(line, found.end())
        file = named["file"] if named else None
        symbol = found["symbol"].rstrip(".")
        return _undefined(symbol, file, line)
    if found := _OF_MAC.search(line):
        named = _REFERENCED.search(line) or _REFERENCED.search(after[:2000])
        return _undefined(found["symbol"], named["file"] if named else None, line)
    return None


def _undefined(symbol: str, file: str | None, line: str) -> Fault:
    package = _PACKAGE.search(line)
    return Fault(
        kind=FaultKind.UNDEFINED_SYMBOL,
        signature="",
        subject=symbol.partition("@")[0],
        file=file,
        package=package["package"] if package else None,
    )


def _library(line: str, _: str) -> Fault | None:
    for pattern in _MISSING:
        if found := pattern.search(line):
            name = _HASHED.sub("", found["library"])
            return Fault(kind=FaultKind.MISSING_LIBRARY, signature="", subject=name)
    if _NO_NVML.search(line):
        return Fault(kind=FaultKind.MISSING_LIBRARY, signature="", subject="libnvidia-ml.so.1")
    if _NO_DRIVER.search(line):
        return Fault(kind=FaultKind.MISSING_LIBRARY, signature="", subject="libcuda.so.1")
    if _CPU_TORCH.search(line):
        return Fault(kind=FaultKind.MISSING_LIBRARY, signature="", subject="libtorch_cuda.so")
    if found := _NO_NCCL.search(line):
        return Fault(kind=FaultKind.MISSING_LIBRARY, signature="", subject=found["library"])
    return None


def _module(line: str, _: str) -> Fault | None:
    found = _MODULE.search(line)
    if found is None:
        return None
    return Fault(kind=FaultKind.MISSING_MODULE, signature="", subject=found["module"])


def _extension(line: str, _: str) -> Fault | None:
    """Read that vLLM lacks its DeepGEMM, or any operator of an extension.

    Without other extensions vLLM works, or fails on a symbol or a library.
    """
    if found := _NO_OPERATOR.search(line):
        namespace = found["namespace"] or found["short"]
        return Fault(kind=FaultKind.MISSING_EXTENSION, signature="", subject=namespace)
    if _DEEP_GEMM.search(line) is None:
        return None
    return Fault(kind=FaultKind.MISSING_EXTENSION, signature="", subject="DeepGEMM")


def _old_library(line: str, after: str) -> Fault | None:
    if found := _CUDNN.search(line):
        name = f"libcudnn.so.{found['major']}"
        return Fault(kind=FaultKind.OLD_LIBRARY, signature="", subject=name, file="torch")
    found = _VERSION_OF.search(line)
    if found is None:
        return None
    named = _REQUIRED_BY.match(line[found.end() :] + after[:300])
    file = named["file"] if named else None
    loaded = _RUNTIME.search(line)
    is_other = loaded is not None and _SYSTEM.fullmatch(loaded["folder"]) is None
    return Fault(
        kind=FaultKind.OLD_LIBRARY,
        signature="",
        subject=found["version"],
        file=file,
        has=RUNTIME if is_other else None,
    )


def _driver(line: str, _: str) -> Fault | None:
    if found := _FOUND_DRIVER.search(line):
        has = found["has"]
        # 12080 is CUDA 12.8: thousands, and tens.
        cuda = f"{int(has) // 1000}.{int(has) % 1000 // 10}" if has else None
        return Fault(kind=FaultKind.OLD_DRIVER, signature="", has=cuda)
    for subject, pattern in _OTHER_DRIVERS:
        if pattern.search(line):
            return Fault(kind=FaultKind.OLD_DRIVER, signature="", subject=subject)
    if _PTX.search(line):
        return Fault(kind=FaultKind.OLD_DRIVER, signature="", subject="PTX")
    return Fault(kind=FaultKind.OLD_DRIVER, signature="") if _DRIVER.search(line) else None


def _kernel(line: str, after: str) -> Fault | None:
    if found := _FOUND_GPU.search(line):
        return _checked(found, line + after)
    if found := _CAPABILITY.search(line):
        return Fault(kind=FaultKind.NO_KERNEL, signature="", has=found["has"])
    if found := _TRITON.search(line):
        has = f"sm_{found['major']}{found['minor']}"
        return Fault(
            kind=FaultKind.NO_KERNEL, signature="", subject="triton", has=has, wants=found["wants"]
        )
    if found := _ASSEMBLER.search(line):
        return Fault(kind=FaultKind.NO_KERNEL, signature="", has=found["has"], subject="ptxas")
    return Fault(kind=FaultKind.NO_KERNEL, signature="") if _NO_KERNEL.search(line) else None


def _checked(found: re.Match[str], text: str) -> Fault:
    """Read torch's check of a GPU; `wants` is the last GPU of its list where its code runs too."""
    # It reads tables of symbols, which no other text needs here.
    from matrix.checks.gpu_code.fits import CodeFit, fit_of

    has = f"sm_{found['major']}{found['minor']}"
    last = _LISTED.search(text[:2000])
    wants = f"sm_{last['major']}{last['minor']}" if last else ""
    if fit_of([wants], Capability(int(found["major"]), int(found["minor"]))) is CodeFit.NEAR:
        return Fault(
            kind=FaultKind.NO_KERNEL, signature="", subject="warning", has=has, wants=wants
        )
    return Fault(kind=FaultKind.NO_KERNEL, signature="", has=has)


def _vision(line: str, _: str) -> Fault | None:
    if found := _CUDAS.search(line):
        return Fault(
            kind=FaultKind.TORCHVISION, signature="", has=found["has"], wants=found["wants"]
        )
    if found := _OPERATOR.search(line):
        return Fault(kind=FaultKind.TORCHVISION, signature="", subject=found["operator"])
    if _OF_VISION.search(line):
        return Fault(kind=FaultKind.TORCHVISION, signature="", subject="torchvision.extension")
    return None


def _flashinfer(line: str, _: str) -> Fault | None:
    found = _FLASHINFER.search(line)
    if found is None:
        return None
    return Fault(
        kind=FaultKind.FLASHINFER,
        signature="",
        subject=found["package"].replace("_", "-"),
        has=found["has"],
        wants=found["wants"],
    )


def _recompiles(line: str, _: str) -> Fault | None:
    if _AGAIN.search(line):
        return Fault(kind=FaultKind.RECOMPILES, signature="", subject=LOAD_FAILURE)
    counts = [count for found in _COUNTED.finditer(line) for count in _of_warm_start(line, found)]
    if not counts:
        return None
    most = max(counts, key=weight_of_count)
    name = "num_compiled_artifacts_saved"
    return Fault(kind=FaultKind.RECOMPILES, signature="", subject=name, has=most)


def _of_warm_start(line: str, found: re.Match[str]) -> Iterator[str | None]:
    """Yield what a counter says of a warm start: None for one that went down.

    A cold start saves all that it compiles, so a counter alone is of any start: the start must be
    named before it. A test of vLLM's fails on what it expects of a warm one.
    """
    starts = [named[0].lower() for named in _START.finditer(line, 0, found.end())]
    if found["count"]:
        if starts and starts[-1] == "warm":
            yield str(int(found["count"]))
    elif not starts or starts[-1] == "warm":
        count = int(found["after"]) - int(found["before"])
        yield str(count) if count >= 0 else None


def weight_of_count(count: str | None) -> int:
    """Return how much a counter of a warm start says: a higher one more, an unknown one little.

    >>> sorted(["0", None, "7"], key=weight_of_count)
    ['0', None, '7']
    """
    return 1 if count is None else 2 * int(count)


_Reader = Callable[[str, str], Fault | None]
_READERS: tuple[_Reader, ...] = (
    _symbol,
    _library,
    _module,
    _extension,
    _old_library,
    _driver,
    _kernel,
    _vision,
    _flashinfer,
    _recompiles,
    of_import,
    of_outside,
    of_installed,
    of_ignored,
    of_platform,
    of_tags,
    of_wheel,
    of_sentence,
)
MARKS: tuple[tuple[bytes, _Reader], ...] = (
    (b"undefined symbol: ", _symbol),
    (b"Symbol not found", _symbol),
    (b"symbol not found", _symbol),
    (b"cannot open shared object", _library),
    (b" => not found", _library),
    (b"NVML Shared Library Not Found", _library),
    (b"Found no NVIDIA driver", _library),
    (b"Torch not compiled with CUDA", _library),
    (b"module 'torch._C' has no attribute '_cuda_", _library),
    (b"Failed to load NCCL library", _library),
    (b"No module named 'vllm.", _module),
    (b'No module named "vllm.', _module),
    (b"requires DeepGEMM ", _extension),
    (b"DeepGEMM backend is not available", _extension),
    (b"No module named 'deep_gemm", _extension),
    (b"No module named 'vllm.third_party.deep_gemm'", _extension),
    (b"deep_gemm was found but failed", _extension),
    (b"'_OpNamespace' '_", _extension),
    (b"torch.ops._", _extension),
    (b"cuDNN version incompatibility", _old_library),
    (b"version `", _old_library),
    (b"version '", _old_library),
    (b"version GLIBC", _old_library),
    (b"version CXXABI_", _old_library),
    (b"version lib", _old_library),
    (b"version \xe2\x80\x98", _old_library),
    (b"driver on your system is too old", _driver),
    (b"driver version is insufficient", _driver),
    (b"cudaErrorInsufficientDriver", _driver),
    (b"provided PTX was compiled", _driver),
    (b"system has unsupported display driver", _driver),
    (b"forward compatibility was attempted", _driver),
    (b"river/library version mismatch", _driver),
    (b"an NVML/RM version mismatch", _driver),
    (b"no kernel image is available", _kernel),
    (b" which is of c", _kernel),
    (b"is not compatible with the current PyTorch", _kernel),
    (b"for option 'gpu-name'", _kernel),
    (b"supported by the triton GPU compiler", _kernel),
    (b"operator torchvision::", _vision),
    (b"'torchvision' has no attribute", _vision),
    (b"PyTorch and torchvision were compiled", _vision),
    (b") does not match flashinfer", _flashinfer),
    (b") != flashinfer", _flashinfer),
    (b"ompiling model again", _recompiles),
    (b"artifacts_saved", _recompiles),
    *((mark, of_import) for mark in IMPORT_MARKS),
    *((mark, of_outside) for mark in OUTSIDE_MARKS),
    (b", but you", of_installed),
    (b" different python version: ", of_ignored),
    (b" has no wheels with ", of_platform),
    (b"You're on ", of_platform),
    (b" no wheels with a matching Python ", of_tags),
    (b"we only found wheels for `", of_tags),
    (b".whl is not a supported wheel on this platform", of_wheel),
    (b"No solution found", of_unsolved),
    (b"The conflict is caused by:", of_unsolved),
    (b"\xe2\x95\xb0\xe2\x94\x80\xe2\x96\xb6 Because ", of_unsolved),
    (b"o matching distribution found", of_sentence),
)
"""What a line of a stream must have, and who reads it then."""
