"""Read shared objects: what one needs, imports and exports, and that of every one in a wheel.

pyelftools reads the ELF structure. This module takes the symbols themselves, a hundred thousand in
torch's largest library, from its tables at once: pyelftools makes an object of each, which takes
twenty times as long. It unpacks a library of a wheel to a temporary file first, one at a time (1 GB
for the largest).
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import sys
import tempfile
import zipfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from matrix._util.archives import BAD_ARCHIVE
from matrix._util.files import digest_of, no_file
from matrix._util.text import pip_install
from matrix.checks.linkage.tables import (
    DescribedWheel,
    Extension,
    Library,
    Names,
    TorchSymbols,
    VllmSymbols,
)
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

_BLOCK = 1 << 20
_LARGEST = 8 << 30  # bytes; torch's largest library has 1 GB
_CUT = "is a damaged ELF file (cut short)"
_TYPES = ("SHT_DYNAMIC", "SHT_DYNSYM", "SHT_GNU_versym", "SHT_GNU_verneed")
_SYMBOL = 24  # bytes of a symbol
_UNDEFINED = 0xFFFF  # the second word of a symbol that no section defines is at most this
_LOCAL, _WEAK = 0, 2
_HIDDEN = (1, 2)  # the visibilities internal and hidden
_UNVERSIONED = (0, 1)  # local, global
_STRING = "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char>>"
_PYTHON = re.compile(r"\.cpython-(3)(\d+)(t?)-")


class ElfError(MatrixError):
    """The file is not a shared object, or not a wheel of torch or vLLM; names it and the fix."""


class NoLibraryError(ElfError):
    """The wheel is whole and contains no shared object."""


@dataclass(frozen=True, kw_only=True)
class Dynamic:
    """The view of the dynamic loader on a shared object.

    `imports` are the strong undefined symbols without a version, `versioned` how many there are of
    each version, and `exports` the symbols that it defines.
    """

    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    imports: tuple[bytes, ...] = ()
    versioned: Mapping[str, int] = field(default_factory=dict)
    exports: tuple[bytes, ...] = ()


def read_object(file: IO[bytes], *, with_imports: bool = True) -> Dynamic:
    """Read a shared object for x86_64; raises ElfError, without a name, for any other file."""
    elffile, faults = _elftools()
    try:
        file.seek(0)
        start = file.read(20)
        if start[:4] != b"\x7fELF":
            raise ElfError("is not an ELF file")
        if start[4:6] != b"\x02\x01" or struct.unpack("<H", start[18:20]) != (62,):
            raise ElfError("is an ELF file of another machine than x86_64")
        return _dynamic(elffile(file), with_imports=with_imports)
    except faults as error:
        why = str(error) or type(error).__name__
        raise ElfError(f"is a damaged ELF file ({why})") from error


def read_wheel(
    path: Path, *, sha256: str | None = None, report: Callable[[str], None] = lambda _: None
) -> TorchSymbols | VllmSymbols:
    """Read every shared object of a wheel of torch or vLLM for Linux on x86_64.

    `sha256` is the wheel's, where the caller knows it; `report` receives the name of each file
    before this reads it. The table names each file that is not an ELF file. Raises ElfError for any
    other file than such a wheel.
    """
    wheel = _wheel(path, sha256)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if _is_library(name)]
            if not members:
                # Also a wheel for any platform, as that of a vLLM that was built without compiling.
                raise NoLibraryError(f"{path.name}: contains no shared object; take another wheel")
            return _with_names(
                _read(
                    wheel,
                    sorted(members),
                    lambda name: _unpacked(archive, name),
                    report,
                )
            )
    except (*BAD_ARCHIVE, OSError) as error:
        raise ElfError(f"{path.name}: cannot be read ({error}); fetch the wheel again") from error


def read_folder(
    folder: Path, project: Literal["torch", "vllm"], version: str
) -> TorchSymbols | VllmSymbols:
    """Read what `read_wheel` does, from a wheel installed in this folder (`site-packages`).

    The table then does not know which wheel that was, and demangles no name. Raises ElfError if
    the folder contains no shared object of the project.
    """
    paths = sorted(
        Path(parent, name).relative_to(folder).as_posix()
        for parent, _, names in os.walk(folder / project)
        for name in names
        if ".so" in name and _is_library(name)
    )
    if not paths:
        raise ElfError(f"{folder}: contains no shared object of {project}; name its site-packages")
    wheel = DescribedWheel(project=project, version=version, file="", sha256="")
    return _read(wheel, paths, lambda name: _opened(folder / name), lambda _: None)


def read_extensions(path: Path) -> VllmSymbols:
    """Read what the files of any project's wheel for Linux on x86_64 import, or a single library.

    Raises ElfError for any other file.
    """
    _must_be_file(path)
    if path.suffix != ".whl":
        return _one_library(path)
    try:
        _, version, _, _ = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise ElfError(f"{path.name}: {error}; give the wheel its own name") from None
    wheel = DescribedWheel(project="other", version=str(version), file=path.name, sha256="")
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(member for member in archive.namelist() if _is_library(member))
            if not members:
                raise NoLibraryError(f"{path.name}: contains no shared object; take another wheel")
            found = _read(wheel, members, lambda member: _unpacked(archive, member), lambda _: None)
    except (*BAD_ARCHIVE, OSError) as error:
        raise ElfError(f"{path.name}: cannot be read ({error}); fetch the wheel again") from error
    assert isinstance(found, VllmSymbols)
    if all(extension.fault for extension in found.extensions):
        raise ElfError(f"{path.name}: {found.extensions[0].path} {found.extensions[0].fault}")
    return found


def _one_library(path: Path) -> VllmSymbols:
    wheel = DescribedWheel(project="other", version="0", file=path.name, sha256="")
    try:
        with path.open("rb") as file:
            found = {path.name: read_object(file)}
    except OSError as error:
        raise ElfError(
            f"{path.name}: cannot be read ({error.strerror or error}); name a readable one"
        ) from error
    except ElfError as error:
        raise ElfError(f"{path.name}: {error}; name a wheel or a shared object") from None
    return _vllm(wheel, found, {})


def _read(
    wheel: DescribedWheel,
    paths: Iterable[str],
    opened: Callable[[str], Any],
    report: Callable[[str], None],
) -> TorchSymbols | VllmSymbols:
    found: dict[str, Dynamic] = {}
    faults: dict[str, str] = {}
    for path in paths:
        report(path)
        try:
            with opened(path) as file:
                found[path] = read_object(file, with_imports=wheel.project != "torch")
        except ElfError as error:
            faults[path] = str(error)
    if wheel.project == "torch":
        libraries = tuple(
            Library(
                name=PurePosixPath(path).name,
                needed=library.needed,
                exports=Names.of(library.exports),
            )
            for path, library in found.items()
        )
        return TorchSymbols(wheel=wheel, libraries=libraries, faults=faults)
    return _vllm(wheel, found, faults)


def _vllm(wheel: DescribedWheel, found: dict[str, Dynamic], faults: dict[str, str]) -> VllmSymbols:
    wanted = {name for dynamic in found.values() for name in dynamic.imports}
    extensions = [
        Extension(
            path=path,
            python=_python_of(path),
            needed=dynamic.needed,
            rpath=dynamic.rpath,
            imports=_texts(dynamic.imports),
            versioned=dynamic.versioned,
            exports=_texts(wanted.intersection(dynamic.exports)),
        )
        for path, dynamic in found.items()
    ]
    extensions += [
        Extension(path=path, python=_python_of(path), fault=fault) for path, fault in faults.items()
    ]
    extensions.sort(key=lambda extension: extension.path)
    return VllmSymbols(wheel=wheel, extensions=tuple(extensions))


def _with_names(symbols: TorchSymbols | VllmSymbols) -> TorchSymbols | VllmSymbols:
    if isinstance(symbols, TorchSymbols):
        return symbols
    imports = {name for extension in symbols.extensions for name in extension.imports}
    names = sorted(name for name in imports if name.startswith("_Z"))
    demangled = {name: text for name in names if (text := _demangled(name)) is not None}
    return replace(symbols, demangled=demangled)


def _texts(names: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(sorted(name.decode("utf-8", "replace") for name in names))


def _dynamic(elf: ELFFile, *, with_imports: bool) -> Dynamic:
    sections = _sections(elf)
    dynamic = sections.get("SHT_DYNAMIC")
    if dynamic is None:
        segments: list[Any] = list(elf.iter_segments())
        if any(segment["p_offset"] + segment["p_filesz"] > elf.stream_len for segment in segments):
            raise ElfError(_CUT)
        dynamic = next((part for part in segments if part["p_type"] == "PT_DYNAMIC"), None)
    if dynamic is None:
        raise ElfError("is an ELF file, but no shared object")
    needed: list[str] = []
    rpath: list[str] = []
    for tag in dynamic.iter_tags():
        if tag.entry.d_tag == "DT_NEEDED":
            needed.append(str(tag.needed))
        elif tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
            text = tag.rpath if tag.entry.d_tag == "DT_RPATH" else tag.runpath
            rpath += str(text).split(":")
    symbols, strings = _tables(elf, dynamic, sections.get("SHT_DYNSYM"))
    words = array("I", symbols)
    if sys.byteorder == "big":
        words.byteswap()
    # A symbol is six words: where its name is; then, from the lowest bits on, a byte of its type
    # and binding, one of its visibility, and the section that defines it.
    names, whats = words[0::6], words[1::6]
    visible = {
        what for what in set(whats) if what >> 4 & 15 != _LOCAL and what >> 8 & 3 not in _HIDDEN
    }
    defined = {what for what in visible if what > _UNDEFINED}
    wanted = {what for what in visible - defined if what >> 4 & 15 != _WEAK}
    end = strings.index
    exports = tuple(
        [
            strings[start : end(0, start)]
            for start, what in zip(names, whats, strict=True)
            if what in defined
        ]
    )
    if not with_imports:
        return Dynamic(needed=tuple(needed), rpath=tuple(rpath), exports=exports)
    version_of = _versions(sections, len(names))
    imports: list[bytes] = []
    versioned: Counter[str] = Counter()
    for index in [index for index, what in enumerate(whats) if what in wanted]:
        if version := version_of(index):
            versioned[version] += 1
        else:
            imports.append(strings[names[index] : end(0, names[index])])
    return Dynamic(
        needed=tuple(needed),
        rpath=tuple(rpath),
        imports=tuple(imports),
        versioned=versioned,
        exports=exports,
    )


def _sections(elf: ELFFile) -> dict[str, Any]:
    """Return the sections about dynamic symbols, by type.

    pyelftools reads a header again each time and some sections completely (a hash table takes
    longer than all else here), so this asks for each once, and reads only the headers of the
    others.
    """
    from elftools.common.exceptions import ELFError

    found: dict[str, Any] = {}
    if elf["e_shoff"] + elf["e_shnum"] * elf["e_shentsize"] > elf.stream_len:
        raise ElfError(_CUT)
    for number in range(elf.num_sections()):
        with suppress(ELFError):  # of another type; or damaged, and then the segments must do
            section = elf.get_section(number, _TYPES)
            found[section["sh_type"]] = section
    return found


# pyelftools has no type for what its dynamic sections and segments have in common.
def _tables(elf: ELFFile, dynamic: Any, section: Any) -> tuple[bytes, bytes]:  # noqa: ANN401
    """Return the bytes of the dynamic symbols and of their names."""
    if section is not None:
        names = elf.get_section(section["sh_link"])
        symbols, strings = section.data(), names.data()
        if (len(symbols), len(strings)) != (section["sh_size"], names["sh_size"]):
            raise ElfError(_CUT)
    else:
        # Without section headers, which the loader never reads, the segment says where they are.
        _, start = dynamic.get_table_offset("DT_SYMTAB")
        symbols = _bytes_at(elf, start, dynamic.num_symbols() * _SYMBOL)
        _, start = dynamic.get_table_offset("DT_STRTAB")
        length = next((tag["d_val"] for tag in dynamic.iter_tags("DT_STRSZ")), 0)
        strings = _bytes_at(elf, start, length)
    if len(symbols) % _SYMBOL:
        raise ElfError("is a damaged ELF file (half a symbol)")
    return symbols, strings


def _bytes_at(elf: ELFFile, start: int, size: int) -> bytes:
    elf.stream.seek(start)
    content: bytes = elf.stream.read(size)
    if len(content) != size:
        raise ElfError(_CUT)
    return content


def _versions(sections: Mapping[str, Any], count: int) -> Callable[[int], str]:
    """Return a function from the index of a symbol to its version; "" for a symbol without."""
    section, needs = sections.get("SHT_GNU_versym"), sections.get("SHT_GNU_verneed")
    if section is None or needs is None:
        return lambda _: ""
    numbers = struct.unpack(f"<{count}H", section.data()[: 2 * count])
    names = {
        auxiliary["vna_other"]: str(auxiliary.name)
        for _, auxiliaries in needs.iter_versions()
        for auxiliary in auxiliaries
    }

    def version_of(index: int) -> str:
        number = numbers[index]
        return "" if number in _UNVERSIONED else names.get(number & 0x7FFF, "")

    return version_of


def _is_library(name: str) -> bool:
    return ".so" in PurePosixPath(name).suffixes and not name.endswith("/")


def _python_of(path: str) -> str | None:
    found = _PYTHON.search(PurePosixPath(path).name)
    return f"cp{found[1]}{found[2]}{found[3]}" if found else None


def _must_be_file(path: Path) -> None:
    if fault := no_file(path):
        raise ElfError(f"{path.name}: {fault}; name the file of a wheel or of a library")


def _wheel(path: Path, sha256: str | None) -> DescribedWheel:
    _must_be_file(path)
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise ElfError(f"{path.name}: {error}; name a wheel of torch or vLLM") from None
    project = canonicalize_name(name)
    if project not in ("torch", "vllm"):
        raise ElfError(f"{path.name}: a wheel of {project}; name one of torch or vLLM")
    if not any(tag.platform.endswith("x86_64") or tag.platform == "any" for tag in tags):
        raise ElfError(f"{path.name}: not for Linux on x86_64; name such a wheel")
    kind: Literal["torch", "vllm"] = "torch" if project == "torch" else "vllm"
    return DescribedWheel(
        project=kind,
        version=str(version),
        file=path.name,
        sha256=sha256 or digest_of(path),
    )


@contextmanager
def _unpacked(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    if archive.getinfo(name).file_size > _LARGEST:
        raise ElfError(f"is larger than {_LARGEST >> 30} GiB")
    with tempfile.TemporaryFile() as file:
        try:
            with archive.open(name) as source:
                shutil.copyfileobj(source, file, _BLOCK)
        except BAD_ARCHIVE as error:
            raise ElfError(f"cannot be unpacked ({error})") from error
        yield file


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        yield file


def _demangled(name: str) -> str | None:
    """Return a C++ name as people write it; None if libstdc++ cannot read it.

    The same wheel must give the same table, so this removes what demanglers write differently, the
    space between two brackets, and writes the short name of a plain string.
    """
    import cxxfilt

    try:
        text = str(cxxfilt.demangle(name))
    except cxxfilt.InvalidName:
        return None
    except cxxfilt.LibraryNotFound as error:
        raise MatrixError(f"the symbols cannot be demangled ({error}); install libstdc++") from None
    while "> >" in text:
        text = text.replace("> >", ">>")
    return text.replace(_STRING, "std::string")


def _elftools() -> tuple[type[ELFFile], tuple[type[Exception], ...]]:
    try:
        import cxxfilt  # noqa: F401
        from elftools.common.exceptions import ELFError
        from elftools.construct import ConstructError
        from elftools.elf.elffile import ELFFile
    except ImportError as error:
        raise MatrixError(
            f"{error.name} is not installed; it reads wheels: {pip_install('linkage')}"
        ) from None
    # What pyelftools and the bytes of a damaged file raise.
    faults = (ELFError, ConstructError, struct.error, ValueError, KeyError, IndexError)
    return ELFFile, (*faults, TypeError, AttributeError, OverflowError, AssertionError, MemoryError)
