"""Where a record comes from: machine, Python, packages, the tests' fingerprint, the command.

It names no user, no host and no folder of the machine: `scrub` takes them out of any text that goes
into a record.
"""

import hashlib
import os
import platform
import re
import socket
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from matrix.preflight import total_memory_mib

__all__ = [
    "command_of",
    "commit",
    "fingerprint",
    "packages",
    "provenance",
    "scrub",
    "timestamp",
    "version_of",
]

_FINGERPRINTED = ("matrix/data/models", "matrix/inside", "tests/startup")
_HOME = re.compile(r"(?<![\w.~-])/(?:home|Users)/[^/\s'\":,;()<>]+")


def provenance(
    root: Path, started: datetime, argv: Sequence[str], model_source: str
) -> dict[str, object]:
    """What is known before anything of the cell is imported; the run itself adds CUDA and the GPU.

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
        "tests": {"commit": commit(root), "fingerprint": fingerprint(root)},
        "command": command_of(argv, root),
        "model_source": model_source,
    }


def timestamp(moment: datetime) -> str:
    """A time in the record's form.

    >>> timestamp(datetime(2026, 11, 22, 18, 0, 0, tzinfo=timezone.utc))
    '2026-11-22T18:00:00Z'
    """
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def version_of(package: str) -> str | None:
    """The installed version by the package's metadata, or None; nothing is imported."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def packages() -> dict[str, str]:
    """Every installed distribution by its normalized name, with its version."""
    found: dict[str, str] = {}
    for each in metadata.distributions():
        # Where two stand on the path, the first is the one that an import finds.
        name, version = each.metadata["Name"], each.version
        if name and version:
            found.setdefault(canonicalize_name(name), version)
    return dict(sorted(found.items()))


def commit(root: Path) -> str | None:
    """The commit of the checkout, with `+changed` where what the fingerprint covers differs.

    None outside a checkout, or where git is not there to say.
    """
    head = _git(root, "rev-parse", "HEAD")
    if head is None or _git(root, "rev-parse", "--show-cdup") != "":
        return None
    status = _git(root, "status", "--porcelain", "--", *_FINGERPRINTED)
    return head if status == "" else f"{head}+changed"


def fingerprint(root: Path) -> str:
    """A SHA-256 over the names and bytes of all that runs inside a cell, in sorted order."""
    digest = hashlib.sha256()
    for folder in _FINGERPRINTED:
        for path in sorted((root / folder).rglob("*"), key=lambda each: each.as_posix()):
            if path.is_file() and not _is_leftover(path.relative_to(root)):
                name, content = path.relative_to(root).as_posix().encode(), path.read_bytes()
                digest.update(b"%d %s %d\n" % (len(name), name, len(content)))
                digest.update(content)
    return f"sha256:{digest.hexdigest()}"


def command_of(argv: Sequence[str], root: Path) -> list[str]:
    """The command without folders of this machine: a path is relative to the checkout, or a name.

    >>> command_of(["/opt/venv/bin/matrix", "run", "--records=/repo/records"], Path("/repo"))
    ['matrix', 'run', '--records=records']
    """
    program = Path(argv[0])
    # `python -m NAME` is told as the path of NAME/__main__.py.
    name = program.parent.name if program.name == "__main__.py" else program.name
    return [name, *(_argument(each, root) for each in argv[1:])]


def scrub(text: str, root: Path, environ: Mapping[str, str] = os.environ) -> str:
    """The text without the checkout's path, home folders and this machine's name.

    >>> scrub("/repo/tests/a.py and /home/ann/x", Path("/repo"), {})
    'tests/a.py and ~/x'
    """
    home = environ.get("HOME", "").rstrip("/")
    for folder, instead in ((str(root), ""), (home if len(home) > 1 else "", "~/")):
        if folder:
            text = re.sub(rf"(?<![\w.~-]){re.escape(folder)}(?![\w.-])/?", instead, text)
    text = _HOME.sub("~", text)
    host = socket.gethostname()
    if len(host) > 3 and not host.startswith("localhost"):
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "this-host", text)
    return text


def _argument(argument: str, root: Path) -> str:
    option, equals, value = (
        argument.partition("=") if argument.startswith("-") else ("", "", argument)
    )
    if value.startswith("~") or Path(value).is_absolute():
        try:
            value = str(Path(value).relative_to(root))
        except ValueError:
            value = Path(value).name or value
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
