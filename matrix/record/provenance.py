"""Where a record comes from: machine, Python, packages, the tests' version, the command."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from matrix._util.files import read_text
from matrix._util.memory import total_memory_mib
from matrix.record.scrub import scrub
from matrix.record.startup_tests import STARTUP_TESTS_VERSION

# Where what a start does is written: changes that are not committed are marked at the commit.
_WATCHED = ("matrix/data/models", "matrix/inside", "tests/startup")

_CHANGED = "+changed"
_NOTE = "commit.json"  # in a copy of a checkout: which commit it is of


def provenance(
    root: Path, started: datetime, argv: Sequence[str], model_source: str
) -> dict[str, object]:
    """Return what is known before the cell's imports; the run itself adds CUDA and the GPU.

    `root` is the checkout that holds the tests, `argv` the command as it was called.
    """
    return {
        "started": timestamp(started),
        "seconds": 0.0,
        "python": platform.python_version(),
        "os": _os(),
        "machine": platform.machine(),
        "cpu": {"model": _cpu_model(), "cores": _cores()},
        "memory_mib": total_memory_mib(),
        "gpu": None,
        "torch": version_of("torch"),
        "vllm": version_of("vllm"),
        "triton": version_of("triton"),
        "cuda": None,
        "tests": {"commit": commit(root), "version": STARTUP_TESTS_VERSION},
        "command": command_of(argv, root),
        "model_source": model_source,
    }


def timestamp(moment: datetime) -> str:
    """Return a time in the record's form.

    >>> timestamp(datetime(2026, 11, 22, 18, 0, 0, tzinfo=timezone.utc))
    '2026-11-22T18:00:00Z'
    """
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def version_of(package: str) -> str | None:
    """Return the installed version by the package's metadata, or None; import nothing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit(root: Path) -> str | None:
    """Return the commit of the checkout, with `+changed` where the startup tests differ from it.

    That mark is for people: only the version of the startup tests shows what was measured.
    Outside a checkout it is what `note_commit` noted; None if nothing says.
    """
    head = _git(root, "rev-parse", "HEAD")
    if head is None or _git(root, "rev-parse", "--show-cdup") != "":
        return _noted_commit(root)
    status = _git(root, "status", "--porcelain", "--", *_WATCHED)
    return head if status == "" else f"{head}{_CHANGED}"


def note_commit(root: Path, head: str | None) -> None:
    """Note in a copy of a checkout of which commit it is, and how it looks now."""
    noted = {"commit": head, "watched": _watched_digest(root)}
    (root / _NOTE).write_text(json.dumps(noted) + "\n", encoding="utf-8")


def _noted_commit(root: Path) -> str | None:
    try:
        noted = json.loads(read_text(root / _NOTE))
        head, looked = noted["commit"], noted["watched"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(head, str) or head.endswith(_CHANGED) or looked == _watched_digest(root):
        return head if isinstance(head, str) else None
    return f"{head}{_CHANGED}"


def _watched_digest(root: Path) -> str:
    """Return a SHA-256 over the names and bytes of the watched files, in sorted order."""
    digest = hashlib.sha256()
    for covered in _WATCHED:
        found = (root / covered, *(root / covered).rglob("*"))
        for path in sorted(found, key=Path.as_posix):
            if path.is_file() and not _is_leftover(path.relative_to(root)):
                name, content = path.relative_to(root).as_posix().encode(), path.read_bytes()
                digest.update(b"%d %s %d\n" % (len(name), name, len(content)))
                digest.update(content)
    return digest.hexdigest()


def command_of(
    argv: Sequence[str], root: Path, environ: Mapping[str, str] = os.environ
) -> list[str]:
    """Return the command without folders of this machine: paths relative to the checkout, or names.

    The rest of an argument is scrubbed.

    >>> command_of(["/opt/venv/bin/matrix", "run", "--records=/repo/records"], Path("/repo"))
    ['matrix', 'run', '--records=records']
    """
    program = Path(argv[0])
    # Of `python -m NAME` the first argument is the path of NAME/__main__.py.
    name = program.parent.name if program.name == "__main__.py" else program.name
    return [
        scrub(word, root, environ)
        for word in (name, *(_argument(argument, root, environ) for argument in argv[1:]))
    ]


def _argument(argument: str, root: Path, environ: Mapping[str, str]) -> str:
    option, equals, value = (
        argument.partition("=") if argument.startswith("-") else ("", "", argument)
    )
    if value.startswith("~") or Path(value).is_absolute():
        try:
            value = str(Path(value).relative_to(root))
        except ValueError:
            # Scrubbed first: the name alone of a home folder would not be known for one.
            value = Path(scrub(value, root, environ)).name or value
    return f"{option}{equals}{value}"


def _is_leftover(path: Path) -> bool:
    return path.suffix == ".pyc" or any(
        part == "__pycache__" or part.startswith(".") for part in path.parts
    )


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _os() -> str:
    kernel = f"{platform.system()} {platform.release()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    except (OSError, KeyError):
        return kernel


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, None) or platform.processor() or None


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
