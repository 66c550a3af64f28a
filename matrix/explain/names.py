"""Names of symbols: as people write them, and whose they are by their form. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from matrix.explain.model import Meaning

_STRING = "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char>>"
_LENGTH = re.compile(r"\d+")
_WHOSE: tuple[tuple[re.Pattern[str], Meaning], ...] = (
    (
        re.compile(r"_Z.*(?:3c103hip|2at3hip|hipStream|[0-9]hip[A-Z])|hip[A-Z]|roc[a-z]+_"),
        Meaning.ROCM,
    ),
    (re.compile(r"cu[A-Z]\w*"), Meaning.DRIVER),
    (
        re.compile(
            r"(?:__)?(?:cuda[A-Z]|cublas|cudnn|cufft|curand|cusolver|cusparse|cupti|nccl|nvrtc"
            r"|nvshmem|nvtx|nvJitLink|nvml)\w*"
        ),
        Meaning.CUDA,
    ),
    (re.compile(r"_?Py[A-Z_]\w*"), Meaning.PYTHON),
    (
        re.compile(r"_ZN?K?St(?!\d+\w*(?:2at|3c10|5torch))\w*|__cxa_\w+|__gxx_\w+|_Unwind_\w+"),
        Meaning.RUNTIME,
    ),
)
_TORCHS = re.compile(
    r"_Z(?:T[ISV]|N[KVrRO]*)?(?:2at|3c10|5torch|6caffe2)|(?:aoti|torch|c10|at|caffe2)_"
)
# A plain function of some extension, on torch's tensors.
_OF_EXTENSION = re.compile(r"_Z\d+[a-z]\w*2at6Tensor")
# The library of CUDA's that has a symbol, by its beginning.
_LIBRARIES = (
    ("nccl", "libnccl.so.2"),
    ("__nvJitLink", "libnvJitLink.so.12"),
    ("nvJitLink", "libnvJitLink.so.12"),
    ("cublas", "libcublas"),
    ("cudnn", "libcudnn"),
    ("cusparse", "libcusparse"),
    ("cusolver", "libcusolver"),
    ("cufft", "libcufft"),
    ("curand", "libcurand"),
    ("cupti", "libcupti"),
    ("nvrtc", "libnvrtc"),
    ("nvshmem", "libnvshmem_host.so.3"),
    ("cuda", "libcudart"),
    ("__cuda", "libcudart"),
)


def whose(symbol: str) -> Meaning | None:
    """Return whose symbol it is by its form; None for torch's, for vLLM's and for any other.

    >>> whose("cuTensorMapEncodeTiled"), whose("_ZN3c104cuda9SetDeviceEa")
    (<Meaning.DRIVER: 'driver'>, None)
    """
    return next((meaning for form, meaning in _WHOSE if form.match(symbol)), None)


def is_torchs(symbol: str) -> bool:
    """Tell whether a symbol has the form of torch's."""
    return bool(_TORCHS.match(symbol))


def is_of_extension(symbol: str) -> bool:
    """Tell whether a symbol has the form of an extension's own functions."""
    return bool(_OF_EXTENSION.match(symbol))


def library_of(symbol: str) -> str | None:
    """Return the library of CUDA's that has a symbol, by its beginning; None if unknown."""
    return next((name for begin, name in _LIBRARIES if symbol.startswith(begin)), None)


def has_old_string(symbol: str) -> bool:
    """Tell whether a mangled name has the C++ string of before GCC 5, `std::string` as `Ss`.

    >>> has_old_string("_ZN5torch3jit17parseSchemaOrNameERKSsb")
    True
    >>> has_old_string("_ZN3c105ErrorC2ENS_14SourceLocationEb")
    False
    """
    if not symbol.startswith("_Z"):
        return False
    place = 2
    while place < len(symbol):
        # The letters of an identifier follow its length.
        if found := _LENGTH.match(symbol, place):
            length = int(found[0][:4])
            place = found.end() + length
        elif symbol.startswith("Ss", place):
            return True
        else:
            place += 2 if symbol[place] == "S" else 1
    return False


def readable(symbol: str, known: str | None = None) -> str | None:
    """Return a C++ name as people write it; None if nothing here can read it.

    `known` is how a table has it. Any other takes the extra `linkage`.
    """
    if known is not None or not symbol.startswith("_Z"):
        return known
    try:
        import cxxfilt
    except ImportError:
        return None
    try:
        text = str(cxxfilt.demangle(symbol))
    except (cxxfilt.InvalidName, cxxfilt.LibraryNotFound):
        return None
    while "> >" in text:
        text = text.replace("> >", ">>")
    return text.replace(_STRING, "std::string")


def nearest_name(symbol: str, names: Iterable[str]) -> str | None:
    """Return the name with the longest begin in common, where that says more than a namespace."""
    ordered: Sequence[str] = sorted(names)
    place = bisect_left(ordered, symbol)
    best, most = None, max(8, len(symbol) // 3)
    for name in ordered[max(0, place - 1) : place + 1]:
        common = next(
            (
                at
                for at, marks in enumerate(zip(name, symbol, strict=False))
                if marks[0] != marks[1]
            ),
            min(len(name), len(symbol)),
        )
        if common >= most:
            best, most = name, common + 1
    return best
