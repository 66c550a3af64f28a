"""Where a record comes from: machine, Python, packages, the tests' version, the command.

It names no user, no host, no address and no folder of the machine: `scrub` takes them out of any
text that goes into a record.
"""

import hashlib
import json
import os
import platform
import re
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from matrix._util.memory import total_memory_mib
from matrix.record.startup_tests import STARTUP_TESTS_VERSION

__all__ = [
    "command_of",
    "commit",
    "note_commit",
    "packages",
    "provenance",
    "scrub",
    "timestamp",
    "version_of",
]

# Where what a start does is written: changes that are not committed are marked at the commit.
_WATCHED = ("matrix/data/models", "matrix/inside", "tests/startup")

_CHANGED = "+changed"
_NOTE = "commit.json"  # in a copy of a checkout: which commit it is of

# Names of users and hosts that name nobody, and that failures and paths are full of.
_NOBODY = frozenset(
    re.findall(
        r"\w+",
        "address app aot autograd build builder cache cpu cuda docker dynamo gpu home host "
        "inductor localhost main matrix model models nobody node path python ray root runner "
        "server startup test tests this tmp torch triton ubuntu user users vllm worker workspace",
    )
)
# A path starts where no word or path goes on, or after a compiler's -I, -L and the like.
_START = r"(?:(?<![\w.~>/-])|(?<=[\s'\"=,]-[A-Za-z])|(?<=\A-[A-Za-z]))"
_PART = r"[^/\s'\"`:,;()<>|\[\]{}]"
_HOME = re.compile(rf"{_START}/(?:home|Users)/{_PART}+")
_PATH = re.compile(
    r"(?<!\w)(?P<quote>['\"])(?P<quoted>(?:~|<tmp>)?/(?:(?! /)[^'\"\n])*)(?P=quote)"
    rf"|{_START}(?P<bare>(?:~|<tmp>)?/+{_PART}(?:{_PART}|/)*)"
)
_PACKAGES = re.compile(r".*/((?:site|dist)-packages(?:/|$))")
_KERNELS = ("/dev/", "/proc/", "/sys/")  # the same on every machine
_USERS_FOLDER = re.compile(r"(?<=/)(torchinductor_|pytest-of-)[\w.@+-]+")
_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_ADDRESS = re.compile(
    # Without a port or a scheme it could be a version, such as 12.8.4.1.
    rf"(?<![\w.])(?:{_OCTET}\.){{3}}{_OCTET}:\d+\b"
    rf"|(?<=[/@])(?:{_OCTET}\.){{3}}{_OCTET}(?![\w.])"
    rf"|(?<![\w.])(?:192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.{_OCTET}){{2}}(?!\.?\w)"
    r"|\[[0-9a-fA-F]*:[0-9a-fA-F:.]*(?:%\w+)?\]:\d+\b"
)


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
        "tests": {"commit": commit(root), "version": STARTUP_TESTS_VERSION},
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
    """Return the commit of the checkout, with `+changed` where the startup tests differ from it.

    That mark is for people: only the version of the startup tests tells what was measured.
    Outside a checkout it is what `note_commit` noted; None where nothing says.
    """
    head = _git(root, "rev-parse", "HEAD")
    if head is None or _git(root, "rev-parse", "--show-cdup") != "":
        return _noted_commit(root)
    status = _git(root, "status", "--porcelain", "--", *_WATCHED)
    return head if status == "" else f"{head}{_CHANGED}"


def note_commit(root: Path, of: str | None) -> None:
    """Note in a copy of a checkout of which commit it is, and how it looks now."""
    noted = {"commit": of, "watched": _watched_digest(root)}
    (root / _NOTE).write_text(json.dumps(noted) + "\n", encoding="utf-8")


def _noted_commit(root: Path) -> str | None:
    try:
        noted = json.loads((root / _NOTE).read_text(encoding="utf-8"))
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
        for path in sorted(found, key=lambda each: each.as_posix()):
            if path.is_file() and not _is_leftover(path.relative_to(root)):
                name, content = path.relative_to(root).as_posix().encode(), path.read_bytes()
                digest.update(b"%d %s %d\n" % (len(name), name, len(content)))
                digest.update(content)
    return digest.hexdigest()


def command_of(
    argv: Sequence[str], root: Path, environ: Mapping[str, str] = os.environ
) -> list[str]:
    """The command without folders of this machine: a path is relative to the checkout, or a name.

    What else an argument holds is scrubbed.

    >>> command_of(["/opt/venv/bin/matrix", "run", "--records=/repo/records"], Path("/repo"))
    ['matrix', 'run', '--records=records']
    """
    program = Path(argv[0])
    # `python -m NAME` is told as the path of NAME/__main__.py.
    name = program.parent.name if program.name == "__main__.py" else program.name
    return [
        scrub(each, root, environ)
        for each in (name, *(_argument(each, root, environ) for each in argv[1:]))
    ]


def scrub(text: str, root: Path, environ: Mapping[str, str] = os.environ) -> str:
    """The text without the checkout's path, other folders, addresses, and names of user and host.

    A path keeps what is below the checkout, site-packages, the home folder and the temporary
    folder; any other its last part. To scrub again changes nothing.

    >>> scrub("/repo/tests/a.py and /home/ann/x", Path("/repo"), {})
    'tests/a.py and ~/x'
    >>> scrub("/opt/py/site-packages/vllm/a.py, /data/ann/b.py", Path("/repo"), {})
    'site-packages/vllm/a.py, <path>/b.py'
    >>> scrub("/tmp/torchinductor_ann/fx at tcp://10.12.3.4:45123", Path("/repo"), {})
    '<tmp>/torchinductor_<user>/fx at tcp://<address>'
    """
    folders, names = _folders(root, environ), _names(environ)
    # What is left can match anew, though almost never does.
    for _ in range(8):
        before = text
        for folder, instead in folders:
            text = folder.sub(instead, text)
        text = _PATH.sub(_short, _HOME.sub("~", text))
        text = _ADDRESS.sub("<address>", _USERS_FOLDER.sub(r"\1<user>", text))
        for name, instead in names:
            text = name.sub(instead, text)
        if text == before:
            break
    return text


def _folders(root: Path, environ: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    named = {each: "<tmp>/" for each in ("/tmp", "/var/tmp", tempfile.gettempdir())}
    named |= {environ.get("TMPDIR", ""): "<tmp>/", environ.get("HOME", ""): "~/", str(root): ""}
    folders = {folder.rstrip("/"): instead for folder, instead in named.items()}
    return [
        (re.compile(rf"{_START}{re.escape(folder)}(?![\w.-])/*"), folders[folder])
        for folder in sorted(folders, key=len, reverse=True)  # the innermost first
        if folder.startswith("/")
    ]


def _names(environ: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    users = {environ.get(each, "") for each in ("USER", "LOGNAME", "LNAME", "USERNAME")}
    users.add(_account())
    host = socket.gethostname()
    found = []
    for user in sorted(users):
        if len(user) > 1 and user.lower() not in _NOBODY:
            name = re.escape(user)
            # A whole part of a path, the end of a name such as vllm_ann, or ann@host.
            pattern = rf"(?:(?<=[/~_])|(?<=-of-)|(?<![\w.<-])(?={name}[/@])){name}(?![\w-])"
            found.append((re.compile(pattern), "<user>"))
    short = host.partition(".")[0]
    if len(host) > 3 and short.lower() not in _NOBODY and re.search(r"[A-Za-z]", short):
        # With its domain, whichever that is here.
        pattern = rf"(?<![A-Za-z0-9<]){re.escape(short)}(?![\w-])(?:\.\w[\w-]*)*"
        found.append((re.compile(pattern, re.IGNORECASE), "this-host"))
    return found


def _account() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return ""


def _short(found: re.Match[str]) -> str:
    """The path without what is the machine's own; a URL stays."""
    quote = found["quote"] or ""
    whole = found["quoted"] or found["bare"]
    if re.match("//(?!/)", whole) and found.string.endswith(":", 0, found.start()):
        return found[0]
    path = re.sub("/+", "/", whole)
    if packages := _PACKAGES.match(path):
        return f"{quote}{path[packages.start(1) :]}{quote}"
    parts = path.rstrip("/").split("/")
    if path[0] != "/" or path.startswith(_KERNELS) or len(parts) < 3:
        return found[0]
    last = "<user>" if parts[-2].lower() in ("home", "homes", "users") else parts[-1]
    return f"{quote}<path>/{last}{quote}"


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
