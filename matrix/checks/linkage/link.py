"""The rung *links*: whether a torch exports each symbol that vLLM's extensions import from it.

This runs nothing. It does what the dynamic loader does as Python imports an extension, by the same
rules: a strong symbol must be in a library that the extension reaches through the libraries that it
names as needed; a weak one need not; a library that nobody brings ends the import.

**Checked**: symbols without a version that are neither Python's, nor CUDA's, nor of the C++
runtime, against the libraries of torch's wheel and of vLLM's own; and that each needed library
is one of those, one that torch itself needs (such as `libcudart.so.13`), or of the system.

A library that these lack may be on a machine that has another CUDA installed, where the loader
finds it: `Linked.libraries` are separate from `Linked.symbols`, which no machine can add.

**Not checked**: symbols with a version (glibc's, libstdc++'s, libgcc's, `libcudart`'s), Python's C
API, CUDA's libraries and the driver by their names, the C++ standard library by its namespace. They
do not come from torch. Nor what a function does: a symbol of the same name can still mean something
else.

torch's table is of its wheel for one Python (see `matrix.checks.linkage.fill`): only
`libtorch_python` differs with Python at all.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from matrix._util import paths
from matrix._util.enums import StrEnum
from matrix._util.files import read_bytes
from matrix._util.versions import parse_version
from matrix.catalog.projects import Project
from matrix.checks.linkage.build import WheelBuild, build_of
from matrix.checks.linkage.tables import (
    Extension,
    Library,
    SymbolsError,
    TorchSymbols,
    VllmSymbols,
    file_name,
    is_in_any,
    load,
)


class Abi(StrEnum):
    """How an extension calls torch.

    STABLE: only through torch's C shims, which stay. CXX: through names that change with a release.
    NONE: not at all.
    """

    STABLE = "stable"
    CXX = "c++"
    NONE = "none"


SYMBOL_TABLES = paths.DATA / "symbols"

_CORE = re.compile(r"_(moe_)?C(_stable_libtorch)?|_vllm_fa\d+_C")
# By a part of the path; any other file is a feature of its own, with the name of the file.
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


class Linked(NamedTuple):
    """Whether one extension links.

    `feature` is what it serves, None for vLLM's core. `symbols` are the missing ones as the loader
    knows them, `names` the same as people read them; `libraries` those that nothing brings, and
    `instead` the other version of the first one that torch brings. `pythons` are those that it is
    built for, where the Python in question is another; `fault` says why it could not be read.
    """

    path: str
    feature: str | None
    abi: Abi
    symbols: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    instead: str | None = None
    pythons: tuple[str, ...] = ()
    fault: str | None = None

    @property
    def name(self) -> str:
        """Return its file name."""
        return self.path.rpartition("/")[2]

    @property
    def ok(self) -> bool:
        """Tell whether it loads."""
        return not (self.symbols or self.libraries or self.pythons or self.fault)

    @property
    def is_complete(self) -> bool:
        """Tell whether its file is for the Python in question and could be read."""
        return self.fault is None and not self.pythons


class Linkage(NamedTuple):
    """Whether a vLLM links with a torch on a Python, by extension; the core ones come first.

    `builds` are the builds of vLLM and of torch that this answers for.
    """

    vllm: str
    torch: str
    python: str
    extensions: tuple[Linked, ...]
    builds: tuple[WheelBuild, WheelBuild]

    @property
    def ok(self) -> bool:
        """Tell whether the core links."""
        return all(linked.ok for linked in self.extensions if linked.feature is None)

    @property
    def without(self) -> tuple[str, ...]:
        """Return the features of which an extension does not link, in order."""
        return tuple(name for name, links in self.features.items() if not links)

    @property
    def features(self) -> Mapping[str, bool]:
        """Return what its extensions but the core ones serve, in order, and whether they link."""
        found = {linked.feature for linked in self.extensions if linked.feature}
        broken = {linked.feature for linked in self.extensions if not linked.ok}
        return {name: name not in broken for name in sorted(found, key=str.casefold)}


def link(vllm: VllmSymbols, torch: TorchSymbols, python: str) -> Linkage:
    """Return whether this vLLM links with this torch on this Python (`3.12`), and what is missing.

    Only files for that Python count. A feature whose files are all for other Pythons is missing.
    """
    importing, exporting = _Importing(vllm, {}), _Exporting(torch)
    return importing.on_python(python, exporting, importing.link(exporting))


@dataclass(kw_only=True)
class Tables:
    """The symbol tables of a folder, by version; the first question about a table reads it.

    `candidates` are the files of the tables of candidates, by release key: they lie elsewhere.

    What does not depend on both releases is computed once for each of them, and what does not
    depend on the Python once for each pair: without that `matrix grid` takes up to four times as
    long (benchmarks/caches.py).
    """

    folder: Path
    vllm_versions: tuple[str, ...] = ()
    torch_versions: tuple[str, ...] = ()
    candidates: Mapping[str, Path] = field(default_factory=dict)
    _read: dict[str, TorchSymbols | VllmSymbols] = field(default_factory=dict)
    _wants: _Wants = field(default_factory=dict)
    _importing: dict[str, _Importing] = field(default_factory=dict)
    _exporting: dict[str, _Exporting] = field(default_factory=dict)
    _linked: dict[tuple[str, str], tuple[Linked, ...]] = field(default_factory=dict)

    def vllm(self, version: str) -> VllmSymbols:
        """Return the table of that vLLM; raises SymbolsError if it is missing or damaged."""
        found = self._table(Project.VLLM, version, self.vllm_versions)
        assert isinstance(found, VllmSymbols)
        return found

    def torch(self, version: str) -> TorchSymbols:
        """Return the table of that torch; raises SymbolsError if it is missing or damaged."""
        found = self._table(Project.TORCH, version, self.torch_versions)
        assert isinstance(found, TorchSymbols)
        return found

    def link(self, vllm: str, torch: str, python: str) -> Linkage:
        """Return what `link` does, by versions; computes what all Pythons share once."""
        importing = self._importing_of(vllm)
        if torch not in self._exporting:
            self._exporting[torch] = _Exporting(self.torch(torch))
        exporting = self._exporting[torch]
        if (vllm, torch) not in self._linked:
            self._linked[vllm, torch] = importing.link(exporting)
        return importing.on_python(python, exporting, self._linked[vllm, torch])

    def _importing_of(self, vllm: str) -> _Importing:
        if vllm not in self._importing:
            self._importing[vllm] = _Importing(self.vllm(vllm), self._wants)
        return self._importing[vllm]

    def _table(
        self, project: Project, version: str, known: tuple[str, ...]
    ) -> TorchSymbols | VllmSymbols:
        name = file_name(project, version)
        if name not in self._read:
            if version not in known and version not in self.candidates:
                there = ", ".join(known) or "none"
                # An index has builds without a local part; the others are files that a person has.
                release, local, _ = version.partition("+")
                way = (
                    "--read WHEEL reads that build" if local else "--fill reads what the index has"
                )
                if local and release in known:
                    way += f", and --{project} {release} asks of the release"
                raise SymbolsError(
                    f"{project} {version}: no symbol table ({there} have one); matrix linkage {way}"
                )
            path = self.candidates.get(version, self.folder / name)
            try:
                content = read_bytes(path)
            except OSError as error:
                raise SymbolsError(f"{name}: cannot be read: {error.strerror or error}") from None
            table = load(content, name)
            if (table.wheel.project, table.wheel.version) != (project, version):
                raise SymbolsError(
                    f"{name}: contains {table.wheel.project} {table.wheel.version}; give it the"
                    f" name {file_name(table.wheel.project, table.wheel.version)}"
                )
            self._read[name] = table
        return self._read[name]


def load_tables(
    folder: Path = SYMBOL_TABLES, candidates: Mapping[str, Path] | None = None
) -> Tables:
    """Return the tables of a folder (default: the package's own); a missing folder has none.

    `candidates` are the files of those of candidates, by release key.
    """
    found: dict[str, list[str]] = {"vllm": [], "torch": []}
    for path in folder.glob("*.table"):
        project, _, version = path.stem.partition("-")
        if project in found and _VERSION.fullmatch(version):
            found[project].append(version)
    vllm, torch = (
        tuple(sorted(found[project], key=parse_version)) for project in ("vllm", "torch")
    )
    return Tables(
        folder=folder, vllm_versions=vllm, torch_versions=torch, candidates=candidates or {}
    )


_VERSION = re.compile(r"\d+(\.\d+)+((a|b|rc|\.post|\.dev)\d+)*(\+[a-z0-9]+(\.[a-z0-9]+)*)?")


def feature_of(path: str) -> str | None:
    """Return what the extension in this file serves; None for the core, which everything needs.

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


class _Exporting:
    """A torch's libraries: which of them a file reaches, and which export a symbol."""

    def __init__(self, torch: TorchSymbols) -> None:
        self.version, self.build = torch.wheel.version, build_of(torch)
        self.brought = frozenset(
            name for library in torch.libraries for name in (library.name, *library.needed)
        )
        self._libraries = {library.name: library for library in torch.libraries}
        # The largest first: there most of what anyone needs is found at once.
        largest = sorted(self._libraries.values(), key=lambda library: -library.exports.size)
        self._places = {library.name: place for place, library in enumerate(largest)}
        self._exports = [library.exports for library in largest]
        self._missing: dict[_Want, _Missing] = {}
        # All that was tried of the same libraries: extensions mostly want the same few symbols.
        self._tried: dict[tuple[int, ...], tuple[set[str], set[str]]] = {}

    def _instead(self, library: str) -> str | None:
        """Return another version of a library that nothing brings, where this torch brings one."""
        stem = found["stem"] if (found := _SONAME.fullmatch(library)) else library
        like = (name for name in self.brought if name.startswith(stem) and name != library)
        return min(like, default=None)

    def missing(self, want: _Want) -> _Missing:
        """Return what of this is neither exported by what is reached, nor brought."""
        if want not in self._missing:
            found = _closure(want.needed, self._libraries)
            reached = tuple(sorted(self._places[name] for name in found))
            tried, absent = self._tried.setdefault(reached, (set(), set()))
            new = want.symbols - tried
            tried |= new
            exports = [self._exports[place] for place in reached]
            absent.update(name for name in new if not is_in_any(name, exports))
            libraries = tuple(name for name in want.outside if name not in self.brought)
            self._missing[want] = _Missing(
                symbols=tuple(sorted(want.symbols & absent)),
                libraries=libraries,
                instead=self._instead(libraries[0]) if libraries else None,
            )
        return self._missing[want]


class _Want(NamedTuple):
    """The needs of an extension. Equal needs are one object, which saves four of five.

    `needed` are the libraries that it reaches but for vLLM's own; `symbols` those that it imports
    and that none of vLLM's own has which it reaches; `outside` the libraries that it names as
    needed and that neither vLLM nor the system brings.
    """

    needed: frozenset[str]
    symbols: frozenset[str]
    outside: tuple[str, ...]


class _Missing(NamedTuple):
    """What a torch lacks for an extension; `instead` is its nearest to the first symbol."""

    symbols: tuple[str, ...]
    libraries: tuple[str, ...]
    instead: str | None


_Wants = dict[_Want, _Want]


class _Import(NamedTuple):
    """One extension: its needs, and the result if nothing is missing."""

    want: _Want
    linked: Linked


class _Importing:
    """A vLLM's extensions: what they want of any torch, and which of them are for a Python."""

    def __init__(self, vllm: VllmSymbols, wants: _Wants) -> None:
        """Read the extensions. `wants` holds what those of other vLLMs want, and gets theirs."""
        self._vllm, self._build = vllm, build_of(vllm)
        siblings = {extension.name: extension for extension in vllm.extensions}
        every = frozenset[str]().union(*(extension.imports for extension in vllm.extensions))
        apart = frozenset(name for name in every if _is_apart(name))
        self._imports = tuple(
            _import(extension, siblings, apart, wants) for extension in vllm.extensions
        )
        self._selected: dict[str, tuple[tuple[int, tuple[str, ...]], ...]] = {}

    def link(self, torch: _Exporting) -> tuple[Linked, ...]:
        """Return the result of each extension of each Python, in the order of the table."""
        return tuple(self._link(extension, torch) for extension in self._imports)

    def _link(self, extension: _Import, torch: _Exporting) -> Linked:
        missing = torch.missing(extension.want)
        linked, demangled = extension.linked, self._vllm.demangled
        if not (missing.symbols or missing.libraries):
            return linked
        names = tuple([demangled.get(name, name) for name in missing.symbols])
        # `replace` would take three times as long, of thousands.
        return Linked(
            path=linked.path,
            feature=linked.feature,
            abi=linked.abi,
            symbols=missing.symbols,
            names=names,
            libraries=missing.libraries,
            instead=missing.instead,
        )

    def on_python(self, python: str, torch: _Exporting, linked: Sequence[Linked]) -> Linkage:
        """Return those that count on this Python, the core first.

        Of a feature whose files are all for other Pythons one stands there with these.
        """
        here = tuple(
            linked[place] if not pythons else _of_others(linked[place], pythons)
            for place, pythons in self.selected(python)
        )
        return Linkage(
            vllm=self._vllm.wheel.version,
            torch=torch.version,
            python=python,
            extensions=here,
            builds=(self._build, torch.build),
        )

    def selected(self, python: str) -> tuple[tuple[int, tuple[str, ...]], ...]:
        """Return the places of the extensions that count, the core first.

        Each with the Pythons that it is for, where this one is not among them.
        """
        if python not in self._selected:
            self._selected[python] = tuple(self._select(python))
        return self._selected[python]

    def _select(self, python: str) -> Iterable[tuple[int, tuple[str, ...]]]:
        tag = f"cp{python.replace('.', '')}"
        here: dict[int, tuple[str, ...]] = {}
        elsewhere: dict[str, list[tuple[int, str]]] = {}
        for place, (extension, wanted) in enumerate(
            zip(self._vllm.extensions, self._imports, strict=True)
        ):
            if extension.python in (None, tag):
                here[place] = ()
            else:
                unit = wanted.linked.feature or wanted.linked.name
                elsewhere.setdefault(unit, []).append((place, str(extension.python)))
        known = [self._imports[place].linked for place in here]
        served = {linked.feature or linked.name for linked in known}
        for unit, found in elsewhere.items():
            if unit not in served:
                pythons = sorted((f"3.{tag[3:]}" for _, tag in found), key=parse_version)
                here[found[-1][0]] = tuple(pythons)

        def order(place: int) -> tuple[bool, str]:
            linked = self._imports[place].linked
            return linked.feature is not None, linked.path

        return ((place, here[place]) for place in sorted(here, key=order))


def _of_others(linked: Linked, pythons: tuple[str, ...]) -> Linked:
    return Linked(path=linked.path, feature=linked.feature, abi=linked.abi, pythons=pythons)


def _import(
    extension: Extension, siblings: Mapping[str, Extension], apart: frozenset[str], wants: _Wants
) -> _Import:
    """Return what an extension wants of a torch; `apart` are the symbols that no torch has."""
    path, feature = extension.path, feature_of(extension.path)
    if extension.fault is not None:
        linked = Linked(path=path, feature=feature, abi=Abi.NONE, fault=extension.fault)
        return _Import(want=_NOTHING, linked=linked)
    own = _closure(extension.needed, siblings)
    held = {symbol for name in own for symbol in siblings[name].exports}
    named = {*extension.needed, *(name for file in own for name in siblings[file].needed)}
    symbols = frozenset(extension.imports) - held - apart
    # An rpath may lead to anything; so far no extension of vLLM has had one.
    outside = [
        name
        for name in (() if extension.rpath else extension.needed)
        if name not in siblings and not _SYSTEM.fullmatch(name)
    ]
    want = _Want(needed=frozenset(named - siblings.keys()), symbols=symbols, outside=tuple(outside))
    return _Import(
        want=wants.setdefault(want, want),
        linked=Linked(path=path, feature=feature, abi=_abi(symbols)),
    )


_NOTHING = _Want(needed=frozenset(), symbols=frozenset(), outside=())


def _closure(
    needed: Iterable[str], known: Mapping[str, Extension] | Mapping[str, Library]
) -> dict[str, None]:
    """Return those of the known files that one reaches which needs these, nearest first."""
    found: dict[str, None] = {}
    queue = list(needed)
    for name in queue:
        if name not in found and name in known:
            found[name] = None
            queue.extend(known[name].needed)
    return found


@cache
def _is_apart(name: str) -> bool:
    """Tell by its name whether a symbol without a version does not come from torch."""
    if name.startswith("_Z"):
        return bool(_RUNTIME.match(name) and not _TORCHS.search(name))
    return not _SHIMS.match(name)


def _abi(names: Collection[str]) -> Abi:
    if not names:
        return Abi.NONE
    return Abi.CXX if any(name.startswith("_Z") for name in names) else Abi.STABLE
