"""The pins of uv's lock for a cell, and the machine of the lock."""

import re
from dataclasses import dataclass, replace

from packaging.utils import canonicalize_name, parse_wheel_filename

from matrix.catalog.located import name_of
from matrix.errors import MatrixError

_PIN = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==([^\s;\\]+)")
_FILE = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])? @ ([^\s;#\\]+)(?:#\S*)?")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# The oldest names of a platform, from before a name held its glibc.
_LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
# Those of `uv pip compile --python-platform`, in uv 0.8 to 0.13.
_UV_GLIBC = ((2, 17), (2, 28), *((2, minor) for minor in range(31, 41)))


class LockFileError(MatrixError):
    """The lock pins nothing, or uv cannot make one for this machine."""


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """A distribution of a lock: the hashes of its files, and who requires it.

    `via` holds normalized names; for what the caller requested itself, `via` holds a name that is
    not a distribution's. `url` is the address of the file that was asked for by its address; None
    for what an index has.
    """

    name: str
    version: str
    hashes: frozenset[str]
    via: frozenset[str]
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """The machine that runs a bundle: its Python, its processor and the oldest glibc."""

    python: str
    machine: str = "x86_64"
    glibc: str = "2.35"

    @property
    def uv_platform(self) -> str:
        """Return the target as uv names it: `x86_64-manylinux_2_35`.

        uv does not know every glibc. The name has the newest that it knows and that is not newer
        than the target's, whose wheels the target runs too. Raises LockError for an older one than
        uv knows.
        """
        return self._uv_platform(
            max((version for version in _UV_GLIBC if version <= self._glibc), default=None)
        )

    @property
    def uv_platform_above(self) -> str | None:
        """Return the target's platform as uv names it, with the glibc rounded up.

        None if uv knows the target's own glibc, or none that is as new.
        """
        above = min((version for version in _UV_GLIBC if version >= self._glibc), default=None)
        return None if above in (None, self._glibc) else self._uv_platform(above)

    @property
    def _glibc(self) -> tuple[int, int]:
        major, minor = (int(number) for number in self.glibc.split("."))
        return major, minor

    def _uv_platform(self, glibc: tuple[int, int] | None) -> str:
        if glibc is None:
            oldest = ".".join(map(str, _UV_GLIBC[0]))
            raise LockFileError(
                f"glibc {self.glibc}: uv supports none that old; name {oldest} or newer"
            )
        return f"{self.machine}-manylinux_{glibc[0]}_{glibc[1]}"

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

    Raises LockError if nothing is pinned, or a file that was asked for is not a wheel.
    """
    found: dict[str, Pinned] = {}
    name, in_via = "", False
    for line in text.splitlines():
        pin = _PIN.match(line)
        if pin:
            name, in_via = canonicalize_name(pin[1]), False
            found[name] = Pinned(name=name, version=pin[2], hashes=frozenset(), via=frozenset())
        elif file := _FILE.match(line):
            name, in_via = canonicalize_name(file[1]), False
            found[name] = _of_file(name, file[2])
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
        raise LockFileError("the lock is empty; does uv print one here?")
    return found


def _of_file(name: str, url: str) -> Pinned:
    try:
        version = str(parse_wheel_filename(name_of(url))[1])
    except ValueError:  # InvalidWheelFilename, or a version of more digits than Python reads
        raise LockFileError(f"the lock has {name} from what is not a wheel") from None
    return Pinned(name=name, version=version, hashes=frozenset(), via=frozenset(), url=url)


def _more(pinned: Pinned, hashes: str = "", via: str = "") -> Pinned:
    return replace(
        pinned,
        hashes=pinned.hashes | ({hashes} if hashes else set()),
        # "-r -" is the list of the caller's requirements; a distribution may carry extras.
        via=pinned.via | ({_distribution(via)} if via else set()),
    )


def _distribution(via: str) -> str:
    return via if via.startswith("-") else canonicalize_name(via.partition("[")[0])
