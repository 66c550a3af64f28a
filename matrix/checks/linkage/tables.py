"""Symbol tables: what the libraries of one wheel import and export, in one small file a wheel.

A table is a line of JSON, the header, and a body. The header names the wheel, its SHA-256 and a
checksum, the SHA-256 of the header without it and of the body, so that a table that was cut or
changed is known before it is used. The same wheel gives the same bytes.

- **vLLM**: the body is JSON, with every name in full and one name a line, so that a person can
  read which symbols a release came to need.
- **torch**: its libraries export over a hundred thousand names, so of each only 40 bits of a hash
  are kept: for each library the number of names by the hash's first byte, then the other 32 bits
  in order. A name that a torch lacks is taken for one that it has in about 1 of 10 million cases.
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
from typing import Any, Literal

from packaging.version import InvalidVersion, Version

from matrix.errors import MatrixError

__all__ = [
    "SCHEMA",
    "Extension",
    "Library",
    "Names",
    "SymbolsError",
    "TorchSymbols",
    "VllmSymbols",
    "Wheel",
    "dump",
    "file_name",
    "load",
]

SCHEMA = 1

_BUCKETS = 256
_WORD = 4  # bytes of a hash after its first
_LONGEST_HEADER = 1 << 20
_MEND = "put the file of the repository back, or read the wheel again: matrix linkage --read WHEEL"


class SymbolsError(MatrixError):
    """A symbol table that is damaged, or none at all: names the file and the mend."""


@dataclass(frozen=True)
class Wheel:
    """Which wheel a table was read from: its project, version, file name and SHA-256 in hex."""

    project: Literal["torch", "vllm"]
    version: str
    file: str
    sha256: str


class Names:
    """A set of symbols that can tell whether it holds a name; in a table, by 40 bits of a hash.

    >>> names = Names.of([b"aoti_torch_get_dim"])
    >>> "aoti_torch_get_dim" in names, "aoti_torch_get_data" in names
    (True, False)
    """

    def __init__(self, plain: frozenset[bytes], hashes: _Hashes | None = None) -> None:
        """Take the names, or their hashes where only these are known."""
        self._plain, self._hashes = plain, hashes

    @classmethod
    def of(cls, names: Iterable[bytes]) -> Names:
        """The set of these names; to hash them takes longer than to read them, and comes later."""
        return cls(frozenset(names))

    @classmethod
    def load(cls, body: memoryview, size: int) -> Names:
        """The set in the bytes of a table; raises ValueError where they hold no `size` names."""
        return cls(frozenset(), _Hashes.load(body, size))

    def dump(self) -> bytes:
        """Its bytes in a table."""
        return self._hashed().dump()

    def __contains__(self, name: object) -> bool:
        """Whether the set holds this name."""
        if not isinstance(name, str):
            return False
        if self._hashes is None:
            return name.encode("utf-8", "surrogateescape") in self._plain
        return name in self._hashes

    def __len__(self) -> int:
        """How many names it holds."""
        return len(self._hashed().words)

    @property
    def size(self) -> int:
        """About how many names it holds, without hashing them."""
        return len(self._plain if self._hashes is None else self._hashes.words)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same names."""
        return self.dump() == other.dump() if isinstance(other, Names) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def _hashed(self) -> _Hashes:
        if self._hashes is None:
            self._hashes = _Hashes.of(self._plain)
        return self._hashes


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
        """How many bytes `size` names take in a table."""
        return _WORD * (_BUCKETS + size)

    def dump(self) -> bytes:
        return _little(self.counts) + _little(self.words)

    def __contains__(self, name: str) -> bool:
        bucket, word = _hash_of(name)
        end = self._starts[bucket + 1]
        at = bisect_left(self.words, word, self._starts[bucket], end)
        return at < end and self.words[at] == word


@dataclass(frozen=True)
class Library:
    """A library of torch's wheel: its file name, the libraries that it needs, what it exports."""

    name: str
    needed: tuple[str, ...]
    exports: Names


@dataclass(frozen=True)
class Extension:
    """A compiled file of vLLM's wheel.

    `python` is the one Python that it is built for (`cp312`), None for any. `rpath` are the folders
    that it adds to where libraries are looked for. `imports` are the symbols that it must find and
    that carry no version, as all of torch's; `versioned` is how many it must find of each version
    (`GLIBC_2.14`). A weak symbol may stay unfound and counts in neither. `exports` holds only what
    another file of the wheel imports. `fault` says why nothing could be read.
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
        """Its file name: `_C.abi3.so`."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class TorchSymbols:
    """What a release of torch exports; `faults` says by path which file could not be read."""

    wheel: Wheel
    libraries: tuple[Library, ...]
    faults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class VllmSymbols:
    """What a release of vLLM imports; `demangled` has C++ names as a person writes them."""

    wheel: Wheel
    extensions: tuple[Extension, ...]
    demangled: Mapping[str, str] = field(default_factory=dict)


def file_name(project: str, version: str) -> str:
    """The name of the table's file.

    >>> file_name("torch", "2.10.0")
    'torch-2.10.0.table'
    """
    return f"{project}-{version}.table"


def dump(symbols: TorchSymbols | VllmSymbols) -> bytes:
    """The table as the bytes of its file."""
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
            {"name": each.name, "needed": list(each.needed), "exports": len(each.exports)}
            for each in symbols.libraries
        ]
        header["faults"] = dict(sorted(symbols.faults.items()))
        body = b"".join(each.exports.dump() for each in symbols.libraries)
    else:
        body = _vllm_body(symbols)
    line = _line(header)
    header["checksum"] = hashlib.sha256(line + body).hexdigest()
    return _line(header) + body


def load(content: bytes, name: str) -> TorchSymbols | VllmSymbols:
    """The table in the bytes of the file that is called `name`.

    Raises SymbolsError, which names the file and the mend, for what is damaged or no such table.
    """
    end = content.find(b"\n", 0, _LONGEST_HEADER) + 1
    try:
        header = json.loads(content[:end])
        checksum = header.pop("checksum")
        schema = header["schema"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SymbolsError(f"{name}: no symbol table, or one without its header; {_MEND}") from None
    if schema != SCHEMA:
        raise SymbolsError(
            f"{name}: schema is {schema!r}, and this matrix reads {SCHEMA}; use the matrix that"
            " wrote it, or read the wheel again: matrix linkage --read WHEEL"
        )
    body = memoryview(content)[end:]
    digest = hashlib.sha256(_line(header))
    digest.update(body)
    if digest.hexdigest() != checksum:
        raise SymbolsError(f"{name}: damaged or cut short (the checksum differs); {_MEND}")
    try:
        wheel = Wheel(header["project"], header["version"], header["wheel"], header["sha256"])
        Version(wheel.version)
        if wheel.project == "torch":
            return _torch(wheel, header, body)
        if wheel.project == "vllm":
            return _vllm(wheel, json.loads(bytes(body)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidVersion) as why:
        raise SymbolsError(f"{name}: not as a symbol table should be ({why!r}); {_MEND}") from None
    raise SymbolsError(f"{name}: project is {wheel.project!r}, not torch or vllm; {_MEND}")


def _torch(wheel: Wheel, header: dict[str, Any], body: memoryview) -> TorchSymbols:
    libraries, at = [], 0
    for each in header["libraries"]:
        size = int(each["exports"])
        end = at + _Hashes.bytes_of(size)
        libraries.append(
            Library(str(each["name"]), tuple(each["needed"]), Names.load(body[at:end], size))
        )
        at = end
    if at != len(body):
        raise ValueError(f"{len(body)} bytes instead of {at}")
    return TorchSymbols(wheel, tuple(libraries), dict(header["faults"]))


def _vllm(wheel: Wheel, data: dict[str, Any]) -> VllmSymbols:
    return VllmSymbols(
        wheel,
        tuple(
            Extension(
                path=str(each["path"]),
                python=each["python"],
                needed=tuple(each["needed"]),
                rpath=tuple(each["rpath"]),
                imports=tuple(each["imports"]),
                versioned=dict(each["versioned"]),
                exports=tuple(each["exports"]),
                fault=each["fault"],
            )
            for each in data["extensions"]
        ),
        dict(data["demangled"]),
    )


def _vllm_body(symbols: VllmSymbols) -> bytes:
    data = {
        "extensions": [
            {
                "path": each.path,
                "python": each.python,
                "needed": list(each.needed),
                "rpath": list(each.rpath),
                "imports": sorted(each.imports),
                "versioned": dict(sorted(each.versioned.items())),
                "exports": sorted(each.exports),
                "fault": each.fault,
            }
            for each in sorted(symbols.extensions, key=lambda each: each.path)
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


@lru_cache(maxsize=1 << 16)
def _hash_of(name: str) -> tuple[int, int]:
    """The bucket and the word of a name; the same few are asked of every torch."""
    raw = name.encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(raw, digest_size=1 + _WORD).digest()
    return digest[0], int.from_bytes(digest[1:], "big")
