"""Symbol tables: what the libraries of one wheel import and export, in one small file a wheel.

A table is a line of JSON, the header, and a body. The header names the wheel, its SHA-256 and a
checksum (the SHA-256 of the rest of the header and of the body), which shows that a table was cut
or changed. The same wheel gives the same bytes.

- **vLLM**: the body is JSON, with every name in full and one name a line, so that a person can
  read which symbols a release came to need.
- **torch**: its libraries export over a hundred thousand names, so the body keeps only 40 bits of a
  hash of each: for each library the number of names by the hash's first byte, then the other 32
  bits in order. In about 1 of 10 million cases a name that a torch lacks looks like one that it
  has.
"""

from __future__ import annotations

import hashlib
import json
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Any, Literal, NamedTuple

from packaging.version import InvalidVersion

from matrix._util.versions import parse_version
from matrix.errors import MatrixError

SCHEMA = 1
TABLE = ".table"
"""What the name of a table ends with."""

_BUCKETS = 256
_WORD = 4  # bytes of a hash after its first
_LONGEST_HEADER = 1 << 20
# What JSON of another shape raises.
_BAD_CONTENT = (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidVersion)
_FIX = "put the file of the repository back, or read the wheel again: matrix linkage --read WHEEL"


class SymbolsError(MatrixError):
    """A symbol table is damaged or missing; the message names the file and the fix."""


class DescribedWheel(NamedTuple):
    """The wheel that a table describes: its project, version, file name and SHA-256 in hex.

    Of another project's files nothing is kept in a table; they are read to answer about them.
    """

    project: Literal["torch", "vllm", "other"]
    version: str
    file: str
    sha256: str


class Names:
    """A set of symbols that knows whether it contains a name; in a table, by 40 bits of a hash.

    >>> names = Names.of([b"aoti_torch_get_dim"])
    >>> "aoti_torch_get_dim" in names, "aoti_torch_get_data" in names
    (True, False)
    """

    def __init__(self, plain: frozenset[bytes], hashes: _Hashes | None = None) -> None:
        """Take the names, or their hashes where only these are known."""
        self._plain, self.hashes = plain, hashes

    @classmethod
    def of(cls, names: Iterable[bytes]) -> Names:
        """Return the set of these names; hashes them only later, since that takes long."""
        return cls(frozenset(names))

    @classmethod
    def load(cls, body: memoryview, size: int) -> Names:
        """Return the set in the bytes of a table; raises ValueError if they hold another number."""
        return cls(frozenset(), _Hashes.load(body, size))

    def dump(self) -> bytes:
        """Return its bytes in a table."""
        return self._hashed().dump()

    def __contains__(self, name: object) -> bool:
        """Tell whether the set holds this name."""
        if not isinstance(name, str):
            return False
        if self.hashes is None:
            return name.encode("utf-8", "surrogateescape") in self._plain
        return name in self.hashes

    def __len__(self) -> int:
        """Return how many names it holds."""
        return len(self._hashed().words)

    @property
    def size(self) -> int:
        """Return about how many names it holds, without hashing them."""
        return len(self._plain if self.hashes is None else self.hashes.words)

    def __eq__(self, other: object) -> bool:
        """Tell whether both hold the same names."""
        return self.dump() == other.dump() if isinstance(other, Names) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def _hashed(self) -> _Hashes:
        if self.hashes is None:
            self.hashes = _Hashes.of(self._plain)
        return self.hashes


def is_in_any(name: str, every: Iterable[Names]) -> bool:
    """Tell whether one of these sets holds the name; it is hashed once for all of them."""
    bucket, word = _hash_of(name)
    for names in every:
        if names.hashes is None:
            if name in names:
                return True
        elif names.hashes.has(bucket, word):
            return True
    return False


class _Hashes:
    """The first 40 bits of the hashes of names: how many by first byte, and the rest in order."""

    def __init__(self, counts: array[int], words: array[int]) -> None:
        self.counts, self.words = counts, words
        self._starts = [0, *accumulate(counts)]

    @classmethod
    def of(cls, names: Iterable[bytes]) -> _Hashes:
        hashed = hashlib.blake2b
        digests = sorted({hashed(name, digest_size=1 + _WORD).digest() for name in names})
        counts = array("I", bytes(_WORD * _BUCKETS))
        for digest in digests:
            counts[digest[0]] += 1
        words = array("I", b"".join([digest[1:] for digest in digests]))
        if sys.byteorder == "little":  # a digest is in order from its first byte on
            words.byteswap()
        return cls(counts, words)

    @classmethod
    def load(cls, body: memoryview, size: int) -> _Hashes:
        counts, words = array("I"), array("I")
        counts.frombytes(body[: _WORD * _BUCKETS])
        words.frombytes(body[_WORD * _BUCKETS :])
        if sys.byteorder == "big":
            counts.byteswap()
            words.byteswap()
        if len(counts) != _BUCKETS or len(words) != size or sum(counts) != size:
            raise ValueError(f"{size} names expected")
        return cls(counts, words)

    @staticmethod
    def bytes_of(size: int) -> int:
        """Return how many bytes `size` names take in a table."""
        return _WORD * (_BUCKETS + size)

    def dump(self) -> bytes:
        return _little(self.counts) + _little(self.words)

    def __contains__(self, name: str) -> bool:
        return self.has(*_hash_of(name))

    def has(self, bucket: int, word: int) -> bool:
        """Tell whether it holds the name of this hash."""
        end = self._starts[bucket + 1]
        place = bisect_left(self.words, word, self._starts[bucket], end)
        return place < end and self.words[place] == word


@dataclass(frozen=True, kw_only=True)
class Library:
    """A library of torch's wheel: its file name, the libraries that it needs, what it exports."""

    name: str
    needed: tuple[str, ...]
    exports: Names


@dataclass(frozen=True, kw_only=True)
class Extension:
    """A compiled file of vLLM's wheel.

    `python` is the only Python that it is built for (`cp312`), None for any. `rpath` are the
    folders that it adds to the loader's search. `imports` are the symbols that it must find and
    that carry no version, as all of torch's; `versioned` is how many it must find of each version
    (`GLIBC_2.14`). A weak symbol may stay unfound and counts in neither. `exports` holds only what
    another file of the wheel imports. `fault` says why the file could not be read.
    """

    path: str
    python: str | None = None
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    versioned: Mapping[str, int] = field(default_factory=dict)
    exports: tuple[str, ...] = ()
    fault: str | None = None

    @property
    def name(self) -> str:
        """Return its file name: `_C.abi3.so`."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class TorchSymbols:
    """The exports of a torch release; `faults` names unreadable files by path."""

    wheel: DescribedWheel
    libraries: tuple[Library, ...]
    faults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class VllmSymbols:
    """The imports of a vLLM release; `demangled` has C++ names as people write them."""

    wheel: DescribedWheel
    extensions: tuple[Extension, ...]
    demangled: Mapping[str, str] = field(default_factory=dict)


def file_name(project: str, version: str) -> str:
    """Return the name of the table's file.

    >>> file_name("torch", "2.10.0")
    'torch-2.10.0.table'
    """
    return f"{project}-{version}{TABLE}"


def dump(symbols: TorchSymbols | VllmSymbols) -> bytes:
    """Return the table as the bytes of its file."""
    wheel = symbols.wheel
    header: dict[str, object] = {
        "schema": SCHEMA,
        "project": wheel.project,
        "version": wheel.version,
        "wheel": wheel.file,
        "sha256": wheel.sha256,
    }
    if isinstance(symbols, TorchSymbols):
        header["libraries"] = [
            {"name": library.name, "needed": list(library.needed), "exports": len(library.exports)}
            for library in symbols.libraries
        ]
        header["faults"] = dict(sorted(symbols.faults.items()))
        body = b"".join(library.exports.dump() for library in symbols.libraries)
    else:
        body = _vllm_body(symbols)
    line = _line(header)
    header["checksum"] = hashlib.sha256(line + body).hexdigest()
    return _line(header) + body


def load(content: bytes, name: str) -> TorchSymbols | VllmSymbols:
    """Return the table in the bytes of the file `name`.

    Raises SymbolsError, which names the file and the fix, for a damaged table or any other file.
    """
    end = content.find(b"\n", 0, _LONGEST_HEADER) + 1
    try:
        header = json.loads(content[:end])
        checksum = header.pop("checksum")
        schema = header["schema"]
    except _BAD_CONTENT:
        raise SymbolsError(f"{name}: no symbol table, or one without its header; {_FIX}") from None
    if schema != SCHEMA:
        raise SymbolsError(
            f"{name}: schema is {schema!r}, and this matrix reads {SCHEMA}; use the matrix that"
            " wrote it, or read the wheel again: matrix linkage --read WHEEL"
        )
    body = memoryview(content)[end:]
    digest = hashlib.sha256(_line(header))
    digest.update(body)
    if digest.hexdigest() != checksum:
        raise SymbolsError(f"{name}: damaged or cut short (the checksum differs); {_FIX}")
    try:
        wheel = DescribedWheel(
            project=header["project"],
            version=header["version"],
            file=header["wheel"],
            sha256=header["sha256"],
        )
        parse_version(wheel.version)
        if wheel.project == "torch":
            return _torch(wheel, header, body)
        if wheel.project == "vllm":
            return _vllm(wheel, json.loads(bytes(body)))
    except _BAD_CONTENT as error:
        raise SymbolsError(f"{name}: not as a symbol table should be ({error!r}); {_FIX}") from None
    raise SymbolsError(f"{name}: project is {wheel.project!r}, not torch or vllm; {_FIX}")


def _torch(wheel: DescribedWheel, header: dict[str, Any], body: memoryview) -> TorchSymbols:
    libraries, start = [], 0
    for library in header["libraries"]:
        size = int(library["exports"])
        end = start + _Hashes.bytes_of(size)
        libraries.append(
            Library(
                name=str(library["name"]),
                needed=tuple(library["needed"]),
                exports=Names.load(body[start:end], size),
            )
        )
        start = end
    if start != len(body):
        raise ValueError(f"{len(body)} bytes instead of {start}")
    return TorchSymbols(wheel=wheel, libraries=tuple(libraries), faults=dict(header["faults"]))


def _vllm(wheel: DescribedWheel, data: dict[str, Any]) -> VllmSymbols:
    return VllmSymbols(
        wheel=wheel,
        extensions=tuple(
            Extension(
                path=str(extension["path"]),
                python=extension["python"],
                needed=tuple(extension["needed"]),
                rpath=tuple(extension["rpath"]),
                imports=tuple(extension["imports"]),
                versioned=dict(extension["versioned"]),
                exports=tuple(extension["exports"]),
                fault=extension["fault"],
            )
            for extension in data["extensions"]
        ),
        demangled=dict(data["demangled"]),
    )


def _vllm_body(symbols: VllmSymbols) -> bytes:
    data = {
        "extensions": [
            {
                "path": extension.path,
                "python": extension.python,
                "needed": list(extension.needed),
                "rpath": list(extension.rpath),
                "imports": sorted(extension.imports),
                "versioned": dict(sorted(extension.versioned.items())),
                "exports": sorted(extension.exports),
                "fault": extension.fault,
            }
            for extension in sorted(symbols.extensions, key=lambda extension: extension.path)
        ],
        "demangled": dict(sorted(symbols.demangled.items())),
    }
    return json.dumps(data, indent=0, ensure_ascii=True).encode("ascii") + b"\n"


def _line(header: Mapping[str, object]) -> bytes:
    text = json.dumps(header, separators=(",", ":"), sort_keys=True, ensure_ascii=True)
    return text.encode("ascii") + b"\n"


def _little(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


@lru_cache(maxsize=16384)
def _hash_of(name: str) -> tuple[int, int]:
    """Return the bucket and the word of a name, for which every torch is asked."""
    raw = name.encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(raw, digest_size=1 + _WORD).digest()
    return digest[0], int.from_bytes(digest[1:], "big")
