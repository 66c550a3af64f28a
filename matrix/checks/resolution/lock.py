"""What uv's lock of a cell pins, and the machine that the lock is for."""

import re
from dataclasses import dataclass, replace

from packaging.utils import canonicalize_name

from matrix.errors import MatrixError

_PIN = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# The oldest names of a platform, from before a name held its glibc.
_LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}


class LockError(MatrixError):
    """The lock pins nothing."""


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """A distribution of a lock: the hashes of its files, and who requires it.

    `via` holds normalized names; for what the caller requested itself, `via` holds a name that is
    not a distribution's.
    """

    name: str
    version: str
    hashes: frozenset[str]
    via: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Target:
    """The machine that runs a bundle: its Python, its processor and the oldest glibc."""

    python: str
    machine: str = "x86_64"
    glibc: str = "2.35"

    @property
    def uv_platform(self) -> str:
        """Return the target as uv names it: `x86_64-manylinux_2_35`."""
        return f"{self.machine}-manylinux_{self.glibc.replace('.', '_')}"

    @property
    def pip_platforms(self) -> tuple[str, ...]:
        """Return every platform tag that the target accepts, the best first.

        All of them, since pip compares tags as texts.
        """
        major, newest = (int(number) for number in self.glibc.split("."))
        oldest = 5 if self.machine in ("x86_64", "i686") else 17
        tags = []
        for minor in range(newest, oldest - 1, -1):
            tags.append(f"manylinux_{major}_{minor}")
            tags += [name for name, glibc in _LEGACY.items() if glibc == (major, minor)]
        return tuple(f"{tag}_{self.machine}" for tag in (*tags, "linux"))


def parse_lock(text: str) -> dict[str, Pinned]:
    """Read what `uv pip compile --generate-hashes` prints, with its notes of who requires what.

    Raises LockError where nothing is pinned.
    """
    found: dict[str, Pinned] = {}
    name, in_via = "", False
    for line in text.splitlines():
        pin = _PIN.match(line)
        if pin:
            name, in_via = canonicalize_name(pin[1]), False
            found[name] = Pinned(name=name, version=pin[2], hashes=frozenset(), via=frozenset())
        elif name:
            note = line.strip()
            if hashed := _HASH.search(note):
                found[name] = _more(found[name], hashes=hashed[1])
            elif note.startswith("# via"):
                in_via = True
                note = note[len("# via") :].strip()
                found[name] = _more(found[name], via=note)
            elif note.startswith("#") and in_via:
                found[name] = _more(found[name], via=note[1:].strip())
    if not found:
        raise LockError("the lock is empty; does uv print one here?")
    return found


def _more(pinned: Pinned, hashes: str = "", via: str = "") -> Pinned:
    return replace(
        pinned,
        hashes=pinned.hashes | ({hashes} if hashes else set()),
        # "-r -" is the list of the caller's requirements; a distribution may carry extras.
        via=pinned.via | ({_distribution(via)} if via else set()),
    )


def _distribution(via: str) -> str:
    return via if via.startswith("-") else canonicalize_name(via.partition("[")[0])
