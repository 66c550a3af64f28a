"""The rung *links*: does a torch export each symbol that vLLM's extensions import from it?

Nothing is run. This is what the dynamic loader does as Python imports an extension, with its own
rules: a strong symbol must be found in a library that the extension reaches through the libraries
that it names as needed; a weak one need not; a library that nobody brings ends the import.

**Checked**: symbols without a version that are neither Python's, nor CUDA's, nor of the C++
runtime, against the libraries of torch's wheel and of vLLM's own; and that each needed library
is one of those, one that torch itself needs (such as `libcudart.so.13`), or of the system.

A library that is missing from this may be on a machine that has another CUDA installed, where the
loader finds it: `Linked.libraries` are apart from `Linked.symbols`, which no machine can add.

**Not checked**: symbols with a version (glibc's, libstdc++'s, libgcc's, `libcudart`'s), Python's C
API, CUDA's libraries and the driver by their names, the C++ standard library by its namespace. They
do not come from torch. Nor is checked what a function does: a symbol that is there can still
mean something else.

torch's table is of its wheel for one Python (see `matrix.checks.linkage.fill`): only
`libtorch_python` differs with Python at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from packaging.version import Version

from matrix._util import paths
from matrix.checks.linkage.tables import (
    Extension,
    Library,
    SymbolsError,
    TorchSymbols,
    VllmSymbols,
    file_name,
    load,
)

__all__ = ["DATA", "Abi", "Linkage", "Linked", "Tables", "feature_of", "link", "load_tables"]

Abi = Literal["stable", "c++", "none"]

DATA = paths.DATA / "symbols"

_CORE = re.compile(r"_(moe_)?C(_stable_libtorch)?|_vllm_fa\d+_C")
# By the part of the path that tells; what is not here is a feature by the name of its file.
_FEATURES = (
    (re.compile(r"(^|/)deep_gemm/"), "DeepGEMM"),
    (re.compile(r"(^|/)_flashmla_"), "FlashMLA"),
    (re.compile(r"(^|/)_flashkda_"), "FlashKDA"),
    (re.compile(r"(^|/)_qutlass_"), "QuTLASS"),
    (re.compile(r"(^|/)_deepselect_"), "DeepSelect"),
)
_PYTHONS = re.compile(r"_?Py[A-Z_]")
_CUDA = re.compile(
    r"(__)?cuda[A-Z]|cu[A-Z]|(cublas|cudnn|cufft|curand|cusolver|cusparse|cupti|nccl|nvrtc"
    r"|nvshmem|nvtx|nvml|nvJitLink)"
)
# std:: (with its vtables, type information and guards), the C++ ABI's own, new and delete.
_RUNTIME = re.compile(
    r"_Z(T[ISVT]|GV|GR)?(N[KVrRO]*)?S[tabsiod]|_Z(T[ISV])?(N[KVrRO]*)?10__cxxabiv1|__cxa_|__gxx_"
    r"|_Unwind_|_Zn[wa]m|_Zd[la]Pv|_ZT[IS][PK]*[a-z](?![a-z0-9])"
)
_TORCHS = re.compile(r"2at|3c10|5torch|6caffe2")  # a std:: template of torch's own types
# Of plain C names these are torch's; a C library's, such as dlopen, may be without a version too.
_SHIMS = re.compile(r"(aoti|torch|c10|at|caffe2)_|TH[A-Z]")
_SYSTEM = re.compile(
    r"(lib(c|m|dl|rt|pthread|util|gcc_s|stdc\+\+)|ld-linux-[\w-]+)\.so\.\d+|libcuda\.so\.1"
)
_SONAME = re.compile(r"(?P<stem>.+?\.so)\.(?P<major>\d+)")

# Extensions, and releases of vLLM, mostly need the same of the same library: by its name, which
# symbols it was asked for, and which of them it has.
_Tried = dict[str, tuple[set[str], set[str]]]
_Asked = tuple[tuple[str, ...], ...]  # what each extension needs of torch


@dataclass(frozen=True)
class Linked:
    """Whether one extension links.

    `feature` is what it serves, None for vLLM's core. `abi`: `stable` calls torch only through its
    C shims, which stay; `c++` through names that change with a release; `none` not at all.
    `symbols` are the missing ones as the loader knows them, `names` as a person reads them;
    `libraries` those that nothing brings; `fault` what else keeps it from loading.
    """

    path: str
    feature: str | None
    abi: Abi
    symbols: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    fault: str | None = None
    needs: str = ""

    @property
    def name(self) -> str:
        """Its file name."""
        return self.path.rpartition("/")[2]

    @property
    def ok(self) -> bool:
        """Whether it loads."""
        return not (self.symbols or self.libraries or self.fault)

    @property
    def reason(self) -> str | None:
        """Why it does not load, in one line; None where it does."""
        if self.fault is not None:
            return f"`{self.name}` {self.fault}"
        return f"`{self.name}` needs {self.needs}" if not self.ok else None


@dataclass(frozen=True)
class Linkage:
    """Whether a vLLM links with a torch on a Python, by extension; the core ones come first."""

    vllm: str
    torch: str
    python: str
    extensions: tuple[Linked, ...]

    @property
    def ok(self) -> bool:
        """Whether the core links."""
        return all(each.ok for each in self.extensions if each.feature is None)

    @cached_property
    def without(self) -> tuple[str, ...]:
        """The features of which an extension does not link, in order."""
        found = {each.feature for each in self.extensions if each.feature and not each.ok}
        return tuple(sorted(found, key=str.casefold))

    @property
    def verdict(self) -> str:
        """`links`, `links, without X` or `does not link`."""
        if not self.ok:
            return "does not link"
        return f"links, without {', '.join(self.without)}" if self.without else "links"

    @property
    def reason(self) -> str | None:
        """The first line of why something does not link; None where everything does."""
        return next((each.reason for each in self.extensions if not each.ok), None)


def link(vllm: VllmSymbols, torch: TorchSymbols, python: str) -> Linkage:
    """Whether this vLLM links with this torch on this Python (`3.12`), and what is missing.

    Only files for that Python count. A feature whose files are all for other Pythons is missing.
    """
    return _for_python(vllm, torch, python, _link_all(vllm, torch, _asked(vllm), {}))


@dataclass
class Tables:
    """The symbol tables of a folder, by version; each is read when it is first asked for."""

    folder: Path
    vllm_versions: tuple[str, ...] = ()
    torch_versions: tuple[str, ...] = ()
    _read: dict[str, TorchSymbols | VllmSymbols] = field(default_factory=dict)
    _linked: dict[tuple[str, str], tuple[Linked, ...]] = field(default_factory=dict)
    _asked: dict[str, _Asked] = field(default_factory=dict)
    _tried: dict[str, _Tried] = field(default_factory=dict)

    def vllm(self, version: str) -> VllmSymbols:
        """The table of that vLLM; raises SymbolsError where there is none or it is damaged."""
        found = self._table("vllm", version, self.vllm_versions)
        assert isinstance(found, VllmSymbols)
        return found

    def torch(self, version: str) -> TorchSymbols:
        """The table of that torch; raises SymbolsError where there is none or it is damaged."""
        found = self._table("torch", version, self.torch_versions)
        assert isinstance(found, TorchSymbols)
        return found

    def link(self, vllm: str, torch: str, python: str) -> Linkage:
        """As `link`, by versions; what does not depend on the Python is worked out once."""
        importing, exporting = self.vllm(vllm), self.torch(torch)
        if (vllm, torch) not in self._linked:
            if vllm not in self._asked:
                self._asked[vllm] = _asked(importing)
            asked, tried = self._asked[vllm], self._tried.setdefault(torch, {})
            self._linked[vllm, torch] = _link_all(importing, exporting, asked, tried)
        return _for_python(importing, exporting, python, self._linked[vllm, torch])

    def _table(
        self, project: str, version: str, known: tuple[str, ...]
    ) -> TorchSymbols | VllmSymbols:
        name = file_name(project, version)
        if name not in self._read:
            if version not in known:
                there = ", ".join(known) or "none"
                raise SymbolsError(
                    f"{project} {version}: no symbol table ({there} have one);"
                    " matrix linkage --fill reads what the index has"
                )
            try:
                content = (self.folder / name).read_bytes()
            except OSError as error:
                raise SymbolsError(f"{name}: cannot be read: {error.strerror or error}") from None
            table = load(content, name)
            if (table.wheel.project, table.wheel.version) != (project, version):
                raise SymbolsError(
                    f"{name}: holds {table.wheel.project} {table.wheel.version}; give it the name"
                    f" {file_name(table.wheel.project, table.wheel.version)}"
                )
            self._read[name] = table
        return self._read[name]


def load_tables(folder: Path = DATA) -> Tables:
    """The tables of a folder (default: the package's own); a folder that is not there has none."""
    found: dict[str, list[str]] = {"vllm": [], "torch": []}
    for path in folder.glob("*.table"):
        project, _, version = path.stem.partition("-")
        if project in found and _VERSION.fullmatch(version):
            found[project].append(version)
    vllm, torch = (tuple(sorted(found[each], key=Version)) for each in ("vllm", "torch"))
    return Tables(folder, vllm, torch)


_VERSION = re.compile(r"\d+(\.\d+)+((a|b|rc|\.post|\.dev)\d+)*")


def feature_of(path: str) -> str | None:
    """What the extension in this file serves; None for the core, without which nothing runs.

    >>> feature_of("vllm/_C.abi3.so"), feature_of("vllm/third_party/deep_gemm/_C.abi3.so")
    (None, 'DeepGEMM')
    >>> feature_of("vllm/spinloop.abi3.so")
    'spinloop'
    """
    for pattern, feature in _FEATURES:
        if pattern.search(path):
            return feature
    stem = path.rpartition("/")[2].partition(".")[0]
    return None if _CORE.fullmatch(stem) else stem


def _asked(vllm: VllmSymbols) -> _Asked:
    return tuple(
        tuple(name for name in each.imports if not _is_apart(name)) for each in vllm.extensions
    )


def _link_all(
    vllm: VllmSymbols, torch: TorchSymbols, asked: _Asked, tried: _Tried
) -> tuple[Linked, ...]:
    """Each extension of each Python, in the order of the table."""
    siblings = {each.name: each for each in vllm.extensions}
    libraries = {each.name: each for each in torch.libraries}
    brought = {*siblings, *_brought(torch)}
    every = set().union(*asked)
    fresh: set[str] = set()
    linked = []
    for extension, wanted in zip(vllm.extensions, asked, strict=True):
        feature = feature_of(extension.path)
        if extension.fault is not None:
            linked.append(Linked(extension.path, feature, "none", fault=extension.fault))
            continue
        there: set[str] = set()
        for name in _reach(extension.needed, siblings, libraries):
            if name in siblings:
                own = siblings[name].exports
                wanted = tuple(each for each in wanted if each not in own)
                continue
            names_tried, names_there = tried.setdefault(name, (set(), set()))
            if name not in fresh:
                fresh.add(name)
                exports = libraries[name].exports
                names_there.update(each for each in every - names_tried if each in exports)
                names_tried |= every
            there |= names_there
        missing = tuple(each for each in wanted if each not in there)
        # Folders of its own to look in may hold anything; none of vLLM's has had any so far.
        lacking = [] if extension.rpath else _unmet(extension.needed, brought)
        names = tuple(vllm.demangled.get(each, each) for each in missing)
        linked.append(
            Linked(
                extension.path,
                feature,
                _abi(wanted),
                symbols=missing,
                names=names,
                libraries=tuple(lacking),
                needs=_needs(names, lacking, torch),
            )
        )
    return tuple(linked)


def _for_python(
    vllm: VllmSymbols, torch: TorchSymbols, python: str, linked: Iterable[Linked]
) -> Linkage:
    tag = f"cp{python.replace('.', '')}"
    here: list[Linked] = []
    elsewhere: dict[str, list[str]] = {}
    paths: dict[str, Linked] = {}
    for extension, each in zip(vllm.extensions, linked, strict=True):
        if extension.python in (None, tag):
            here.append(each)
        else:
            assert extension.python is not None
            unit = each.feature or each.name
            elsewhere.setdefault(unit, []).append(extension.python)
            paths[unit] = each
    served = {each.feature or each.name for each in here}
    for unit, tags in elsewhere.items():
        if unit not in served:
            pythons = ", ".join(sorted((f"3.{each[3:]}" for each in tags), key=Version))
            other = paths[unit]
            fault = f"is built for Python {pythons}, not {python}"
            here.append(Linked(other.path, other.feature, other.abi, fault=fault))
    here.sort(key=lambda each: (each.feature is not None, each.path))
    return Linkage(vllm.wheel.version, torch.wheel.version, python, tuple(here))


def _is_apart(name: str) -> bool:
    """Whether a symbol without a version comes from elsewhere than torch, by its name."""
    if name.startswith("_Z"):
        return bool(_RUNTIME.match(name) and not _TORCHS.search(name))
    return not _SHIMS.match(name)


def _abi(names: tuple[str, ...]) -> Abi:
    if not names:
        return "none"
    return "c++" if any(name.startswith("_Z") for name in names) else "stable"


def _reach(
    needed: Iterable[str], siblings: Mapping[str, Extension], libraries: Mapping[str, Library]
) -> list[str]:
    """The libraries that a file reaches, nearest first; others than of the two wheels left out."""
    found: dict[str, None] = {}
    queue = list(needed)
    for name in queue:
        if name in found:
            continue
        known = siblings.get(name) or libraries.get(name)
        if known is not None:
            found[name] = None
            queue.extend(known.needed)
    return list(found)


def _unmet(needed: Iterable[str], brought: set[str]) -> list[str]:
    """The needed libraries that neither the wheels, nor what torch needs, nor the system brings."""
    return [each for each in needed if each not in brought and not _SYSTEM.fullmatch(each)]


def _brought(torch: TorchSymbols) -> set[str]:
    return {name for each in torch.libraries for name in (each.name, *each.needed)}


def _needs(names: tuple[str, ...], libraries: list[str], torch: TorchSymbols) -> str:
    """What is missing: the library that ends the import first, then symbols."""
    version = torch.wheel.version
    if libraries:
        first = libraries[0]
        stem = found["stem"] if (found := _SONAME.fullmatch(first)) else first
        instead = sorted(
            each for each in _brought(torch) if each.startswith(stem) and each != first
        )
        has = f"torch {version} brings {instead[0]}" if instead else f"torch {version} brings none"
        more = f", and {_symbols(names)}" if names else ""
        return f"{first} ({has}){more}"
    return _symbols(names)


def _symbols(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
