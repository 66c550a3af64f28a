"""Make a candidate of vLLM from a git commit or a folder of sources. It runs git alone.

A commit of a remote repository is read from a clone without file contents, which lasts as long as
the reading does. The version is that of the nearest tag before the commit, counted on as
setuptools-scm does, unless a person names one.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from packaging.version import InvalidVersion, Version

from matrix._util.scratch import Scratch
from matrix._util.versions import parse_version
from matrix.catalog.candidates.addresses import without_secrets
from matrix.catalog.candidates.gathered import Gathered, Wanted, built
from matrix.catalog.candidates.model import CandidateError, Commit, Tree
from matrix.catalog.package_metadata import read_vllm

_SECONDS = 600.0
_DESCRIBED = re.compile(r"v?(?P<tag>.+)-(?P<distance>\d+)-g[0-9a-f]+")
_PROJECT = re.compile(r"""^name\s*=\s*["']vllm["']""", re.MULTILINE)
_PYTHON = re.compile(r"""^requires-python\s*=\s*["']([^"']+)["']""", re.MULTILINE)
_FILES = ("pyproject.toml", "setup.py", "requirements/cuda.txt", "vllm/envs.py")
_LEFT_OUT = frozenset({".git", "__pycache__", "build", "dist"})
_Read = Callable[[str], "str | None"]


def from_commit(wanted: Wanted, text: str, version: str | None) -> Gathered:
    """Return the candidate of `REPOSITORY@REVISION`; a path of this machine may be a repository.

    Raises CandidateError where git cannot read it, or it is no vLLM.
    """
    repository, _, revision = text.rpartition("@")
    if not repository or not revision:
        raise CandidateError(
            f"--commit {without_secrets(text)}: write REPOSITORY@REVISION, with a commit or a tag"
        )
    if Path(repository).is_dir():
        place = str(Path(repository).resolve())
        return _of_commit(wanted, Path(repository), place, revision, version)
    place = without_secrets(repository)
    with Scratch("candidate") as folder:
        clone = folder / "clone"
        # No file contents: git asks for the few that are read.
        options = ["--bare", "--quiet", "--filter=blob:none"]
        _git(None, "clone", *options, "--", repository, str(clone), where=f"--commit {place}")
        return _of_commit(wanted, clone, place, revision, version)


def from_tree(wanted: Wanted, folder: str, version: str | None) -> Gathered:
    """Return the candidate of a folder of vLLM's sources, as they are now.

    Raises CandidateError where there is no such folder, or it is no vLLM.
    """
    path = Path(folder)
    if not path.is_dir():
        raise CandidateError(f"--tree {folder}: no such folder; name one that is there")
    path = path.resolve()
    where = f"--tree {folder}"
    described = None
    if _tracked(path):
        described = _git_or_none(path, "describe", "--tags", "--long", "--match", "v[0-9]*", "HEAD")
    source = Tree(path=str(path), state=tree_state(path))
    return _gathered(wanted, source, lambda name: _text(path / name), (version, described, where))


def tree_state(path: Path) -> str:
    """Return a digest of what a folder of sources holds: a commit and changes, or all files.

    What git ignores does not count. Raises CandidateError where a file cannot be read.
    """
    digest = hashlib.sha256()
    if _tracked(path):
        digest.update(_git(path, "rev-parse", "HEAD^{tree}", where=str(path)).encode())
        changes = _git(path, "diff", "--binary", "--no-ext-diff", "HEAD", where=str(path))
        digest.update(changes.encode(errors="surrogateescape"))
        others = _git(path, "ls-files", "-z", "--others", "--exclude-standard", where=str(path))
        names = sorted(filter(None, others.split("\0")))
    else:
        names = sorted(
            str(file.relative_to(path))
            for file in path.rglob("*")
            if file.is_file() and not _LEFT_OUT.intersection(file.relative_to(path).parts)
        )
    for name in names:
        try:
            content = (path / name).read_bytes()
        except OSError as error:
            raise CandidateError(f"{path / name}: cannot be read ({error.strerror})") from None
        head = f"\n{len(name)} {name} {len(content)}\n"
        digest.update(head.encode(errors="surrogateescape"))
        digest.update(content)
    return digest.hexdigest()


def version_of(described: str) -> str | None:
    """Return the version that `git describe --tags --long` stands for, as setuptools-scm counts on.

    >>> version_of("v0.33.0-0-g4152872ac"), version_of("v0.33.0-3-g4152872ac")
    ('0.33.0', '0.33.1.dev3')
    >>> version_of("v0.34.0rc1-5-g4152872ac")
    '0.34.0rc2.dev5'
    """
    found = _DESCRIBED.fullmatch(described)
    if found is None:
        return None
    try:
        tag = parse_version(found["tag"])
    except InvalidVersion:
        return None
    if found["distance"] == "0":
        return str(tag)
    return f"{_next(tag)}.dev{found['distance']}"


def _next(tag: Version) -> str:
    if tag.pre is not None:
        return f"{tag.base_version}{tag.pre[0]}{tag.pre[1] + 1}"
    *parts, last = tag.release
    return ".".join(map(str, (*parts, last + 1)))


def _of_commit(
    wanted: Wanted, repository: Path, place: str, revision: str, version: str | None
) -> Gathered:
    where = f"--commit {place}@{revision}"
    if revision.startswith("-"):
        raise CandidateError(f"{where}: is not a revision; write a commit or a tag")
    full = _git_or_none(repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if full is None:
        raise CandidateError(f"{where}: no such commit there; name one, or a tag")
    described = _git_or_none(repository, "describe", "--tags", "--long", "--match", "v[0-9]*", full)
    source = Commit(repository=place, revision=full)

    def read(name: str) -> str | None:
        return _git_or_none(repository, "show", f"{full}:{name}", strip=False)

    return _gathered(wanted, source, read, (version, described, where))


def _gathered(
    wanted: Wanted,
    source: Commit | Tree,
    read: _Read,
    named: tuple[str | None, str | None, str],
) -> Gathered:
    """Return the candidate of sources; `named` is a version, git's description, their place."""
    version, described, where = named
    project = read("pyproject.toml")
    if project is None or not _PROJECT.search(project) or read("vllm/__init__.py") is None:
        raise CandidateError(f"{where}: is not vLLM: no pyproject.toml of vllm, or no vllm package")
    found = version or (version_of(described) if described else None)
    if found is None:
        raise CandidateError(
            f"{where}: has no tag that says its version; name it: --version 0.34.0"
        )
    members = {name: text for name in _FILES if (text := read(name)) is not None}
    metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {found}\n"
    if python := _PYTHON.search(project):
        metadata += f"Requires-Python: {python[1]}\n"
    told = read_vllm(found, _placed(members, metadata), "sdist")
    candidate = built(wanted, source, found, told)
    notes = () if version or not described else (f"its version by its tags is {found}",)
    return Gathered(candidate=candidate, notes=notes)


def _placed(members: Mapping[str, str], metadata: str) -> dict[str, str]:
    """Return sources as members of a source distribution, with metadata as a build would write."""
    return {"vllm/PKG-INFO": metadata, **{f"vllm/{name}": text for name, text in members.items()}}


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _tracked(path: Path) -> bool:
    """Tell whether a folder is the top of a git work tree with a commit."""
    return (
        _git_or_none(path, "rev-parse", "--show-cdup") == ""
        and _git_or_none(path, "rev-parse", "--verify", "--quiet", "HEAD") is not None
    )


def _git_or_none(path: Path, *arguments: str, strip: bool = True) -> str | None:
    try:
        return _git(path, *arguments, where="", strip=strip)
    except CandidateError:
        return None


def _git(path: Path | None, *arguments: str, where: str, strip: bool = True) -> str:
    """Return what git prints. Raises CandidateError with the last line of its errors."""
    place = [] if path is None else ["-C", str(path)]
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *place, *arguments],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise CandidateError(f"{where}: git is not installed; install it") from None
    except subprocess.TimeoutExpired:
        raise CandidateError(f"{where}: git did not end in {_SECONDS:.0f} s; try again") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        # git repeats the address, with what is secret in it.
        reason = re.sub(r"://[^/\s@]+@", "://", lines[-1]) if lines else "no reason given"
        raise CandidateError(f"{where}: git fails ({reason.removeprefix('fatal: ')})")
    return done.stdout.strip() if strip else done.stdout
