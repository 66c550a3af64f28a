"""Commits of a git repository, by git itself: fetched, verified, written into a folder.

What a repository holds is not trusted. Nothing of it runs here: neither hooks nor filters, and no
submodule is fetched. git may use the one protocol of the address that a person gave.

Two bare repositories in the cache serve each address. One has the files of the commits that were
asked for and no history; the other has the history and the tags, where the server can do so without
files.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix._util.addresses import without_secrets
from matrix._util.caches import cache_folder
from matrix._util.reported import Say, last_line, run_reported
from matrix._util.scratch import Scratch
from matrix._util.text import clean, clip
from matrix.catalog.lock import alone
from matrix.errors import MatrixError

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SCHEMES = {"https": "https", "http": "http", "ssh": "ssh", "git": "git", "file": "file"}
# user@host:path, which git takes for ssh.
_SCP = re.compile(r"(?:[\w.-]+@)?[\w.-]+:(?!//).+")
_NAME = re.compile(r"(?!-)[\w./+@^~-]{1,200}")
_SHORT = re.compile(r"[0-9a-f]{7,39}")
_DESCRIBED = re.compile(r"(v\S+)-([0-9]+)-g[0-9a-f]+")
# What tells git of another repository than ours, as in a hook.
_STRAY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
_SAFE = (
    ("core.hooksPath", os.devnull),
    ("core.fsmonitor", "false"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("advice.detachedHead", "false"),
    # A server that sends nothing for so many seconds does not answer.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "120"),
)
READ_ONLY = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
"""What keeps git within a folder of the user's.

Its settings may name a remote of which git fetches objects that the folder lacks, and the program
that does so. git 2.45 has a variable against it; older ones find no protocol that they may use.
"""
_SILENT_SSH = "ssh -oBatchMode=yes"  # without it, ssh asks on the terminal and a job waits for ever
_NO_REMOTE = "Could not read from remote repository"  # what was wrong stands in the line above
_OF_SSH = "; ssh asks nothing here, so it needs a known host and a key without a question"
_TAGS = "refs/tags/v*:refs/tags/v*"
_DESCRIBE = ("describe", "--tags", "--long", "--abbrev=40", "--match", "v[0-9]*")
_ANSWER = 300.0  # seconds for the branches of a repository, whatever the protocol
_REASON = 300  # characters of what git says
_TITLE = 120  # characters of the first line of a message


class GitError(MatrixError):
    """A repository that cannot be read, or a commit that it does not have."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """The nearest tag of a release below a commit, and how many commits lie between."""

    tag: str
    distance: int


@dataclass(frozen=True, kw_only=True)
class Logged:
    """A commit of a history: its full hash, the day it was committed, the first line it says."""

    commit: str
    day: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A git repository by its address or path; `cache` is where copies of it are kept.

    The address may hold credentials: they are in no message, no file and no command line. Raises
    GitError for an address that git would take for a command or an option.
    """

    address: str
    say: Say
    cache: Path | None = None

    def __post_init__(self) -> None:
        """Refuse addresses such as `ext::sh -c ...` and `--upload-pack=...`."""
        _ = self._protocol

    @property
    def shown(self) -> str:
        """The address without credentials."""
        return without_secrets(self.address) if "://" in self.address else self.address

    @property
    def place(self) -> str:
        """The place, for a file: an absolute path, or the address without credentials."""
        return without_secrets(self._remote) if "://" in self._remote else self._remote

    @property
    def _protocol(self) -> str:
        scheme, found, _ = self.address.partition("://")
        if found and scheme in _SCHEMES:
            return _SCHEMES[scheme]
        path = not found and self.address and "::" not in self.address
        if path and not self.address.startswith("-"):
            if Path(self.address).exists():
                return "file"
            if _SCP.fullmatch(self.address):
                return "ssh"
        raise GitError(
            f"{clip(self.shown, _REASON)!r}: is neither an existing folder nor an address that"
            " git can fetch; write a path, https://... or ssh://..."
        )

    @property
    def _remote(self) -> str:
        """The address as git gets it; a path is made whole, since git runs elsewhere."""
        local = "://" not in self.address and self._protocol == "file"
        return str(Path(self.address).resolve()) if local else self.address

    def resolve(self, revision: str) -> str:
        """Return the full hash of a branch, a tag, `HEAD` or the beginning of a hash.

        A full hash stays as it is, and is not looked for. Of a folder, whatever git takes for a
        revision will do, such as `HEAD~3`. Raises GitError: no git, no answer, no such commit.
        """
        if _HASH.fullmatch(revision):
            return revision
        if not _NAME.fullmatch(revision):
            raise GitError(f"{clip(revision, 60)!r}: is not a branch, a tag or a commit; name one")
        names = (f"refs/tags/{revision}^{{}}", f"refs/tags/{revision}", f"refs/heads/{revision}")
        asked = (*names, revision)
        done = self._git(["ls-remote", "origin", *asked])
        rows = (line.split("\t") for line in done.splitlines() if "\t" in line)
        found = {name: commit for commit, name in rows if _HASH.fullmatch(commit)}
        for name in asked:
            if name in found:
                return found[name]
        if commit := self._resolve_here(revision):
            return commit
        raise GitError(f"{self.shown}: has no branch, tag or commit {revision}; name another")

    def _resolve_here(self, revision: str) -> str | None:
        """Return the commit of a revision that is not a branch or a tag; None without one."""
        if "://" not in self._remote and self._protocol == "file":
            command = ["-C", self._remote, "rev-parse"]
            store = None
        elif _SHORT.fullmatch(revision):
            store = self._store("history")
            refs = "+refs/heads/*:refs/heads/*"
            self._fetch(store, revision, ["--filter=tree:0", refs, _TAGS], "the history")
            command = ["rev-parse"]
        else:
            return None
        options = ["--verify", "--quiet", f"{revision}^{{commit}}"]
        try:
            found = self._git([*command, *options], store, None if store else READ_ONLY).strip()
        except GitError:
            return None
        return found if _HASH.fullmatch(found) else None

    def write(self, commit: str, folder: Path) -> None:
        """Write the files of a commit, given by its full hash, into an empty folder.

        Without `.git` and without submodules. Raises GitError: no git, no such commit, no answer.
        """
        store = self._fetched(commit)
        with Scratch("git") as scratch:
            own = {"GIT_INDEX_FILE": str(scratch / "index"), "GIT_WORK_TREE": str(folder.resolve())}
            self._git(["read-tree", commit], store, {**own, **_NO_FILTERS})
            self._git(["checkout-index", "--all"], store, {**own, **_NO_FILTERS}, folder)

    def show(self, commit: str, path: str) -> str | None:
        """Return the text of one file of a commit; None if the commit does not have it."""
        store = self._fetched(commit)
        if not self._git(["ls-tree", commit, "--", path], store):
            return None
        return self._git(["cat-file", "blob", f"{commit}:{path}"], store)

    def describe(self, commit: str) -> Described | None:
        """Return the nearest tag v[0-9]* at or below a commit; None if there is none.

        It needs the history: the server is asked for commits alone, without their files. Raises
        GitError as `write` does.
        """
        store = self._store("history")
        refs = [f"{commit}:refs/commits/{commit}", _TAGS]
        self._fetch(store, commit, ["--filter=tree:0", *refs], "the history")
        try:
            text = self._git([*_DESCRIBE, commit], store)
        except GitError:
            return None  # "No names found": the address answered just now
        return _described(text)

    def line(self, old: str, new: str) -> tuple[Logged, ...]:
        """Return the commits from one to a later one, both included, oldest first.

        Both are full hashes. Of a merge the line takes the first parent. Raises GitError as `write`
        does, and where the two are the same, the other way round, or not on one line.
        """
        store = self._store("history")
        for commit in (old, new):
            ref = f"refs/commits/{commit}"
            if not self._has(store, ref, commit):
                refs = [f"{commit}:{ref}", _TAGS]
                self._fetch(store, commit, ["--filter=tree:0", *refs], "the history")
        try:
            base = self._git(["merge-base", old, new], store).strip()
        except GitError:
            base = ""
        if old == new or base != old:
            raise GitError(f"{self.shown}: {_no_line(old[:12], new[:12], base[:12])}")
        form = ["--first-parent", "--topo-order", "--reverse", "--format=%H%x09%cs%x09%s"]
        found = self._git(["rev-list", *form, new, f"^{old}"], store)
        first = self._git(["rev-list", form[-1], "--max-count=1", old], store)
        rows = (line.split("\t", 2) for line in (first + found).splitlines())
        return tuple(
            Logged(commit=row[0], day=row[1], title=clip(clean(row[2]), _TITLE))
            for row in rows
            if len(row) == len(("commit", "day", "title"))
        )

    def _fetched(self, commit: str) -> Path:
        """Return the repository of the cache that has a commit with its files."""
        if not _HASH.fullmatch(commit):
            raise GitError(f"{clip(commit, 60)!r}: is not the full hash of a commit")
        store = self._store("files")
        ref = f"refs/commits/{commit}"
        if not self._has(store, ref, commit):
            self._fetch(store, commit, ["--depth=1", f"{commit}:{ref}"], commit[:12])
            if not self._has(store, ref, commit):
                raise GitError(f"{self.shown}: {commit} is not a commit; name one")
        return store

    def _has(self, store: Path, ref: str, commit: str) -> bool:
        try:
            found = self._git(["rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"], store)
        except GitError:
            return False
        return found.strip() == commit

    def _store(self, kind: str) -> Path:
        """Return a bare repository of the cache, made where it is not there."""
        digest = hashlib.sha256(without_secrets(self._remote).encode()).hexdigest()[:16]
        store = (self.cache or cache_folder()) / "git" / f"{digest}-{kind}"
        if not _is_whole(store):
            store.parent.mkdir(parents=True, exist_ok=True)
            with alone(_lock_of(store)):
                if not _is_whole(store):
                    shutil.rmtree(store, ignore_errors=True)
                    # Nothing of a template: it may have hooks.
                    self._git(["init", "--quiet", "--bare", "--template=", str(store)])
        return store

    def _fetch(self, store: Path, commit: str, options: Sequence[str], what: str) -> None:
        """Fetch by one option and some refspecs; `what` says in progress what is fetched."""
        command = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--force"]
        command += [options[0], "origin", *options[1:]]
        waits = f"{self.shown}: waits for another command that fetches from it"
        with Scratch("git") as scratch, alone(_lock_of(store), lambda: self.say(waits)):
            for left in store.rglob("*.lock"):  # by a git that was killed: nobody else is here
                left.unlink(missing_ok=True)
            log = scratch / "log"
            status = run_reported(
                self._command(command, store),
                log,
                self.say,
                f"{self.shown}: fetches {what}",
                environ=self._environ({}),
            )
            if status:
                text = log.read_text("utf-8", "replace")
                if re.search(r"not our ref|couldn't find remote ref|no such remote ref", text):
                    raise GitError(
                        f"{self.shown}: has no commit {commit}; push it, or name another"
                    )
                raise GitError(f"{self.shown}: {self._reason(text) or last_line(log)}")

    def _git(
        self,
        arguments: Sequence[str],
        store: Path | None = None,
        more: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> str:
        """Run git and return what it prints; raises GitError with git's own reason."""
        try:
            done = subprocess.run(
                self._command(arguments, store),
                env=self._environ(more or {}),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_ANSWER if arguments[0] == "ls-remote" else None,
            )
        except subprocess.TimeoutExpired:
            raise GitError(f"{self.shown}: does not answer; name another address") from None
        if done.returncode:
            reason = self._reason(done.stderr.decode("utf-8", "replace"))
            raise GitError(f"{self.shown}: {reason or f'git {arguments[0]} failed'}")
        return done.stdout.decode("utf-8", "replace")

    def _command(self, arguments: Sequence[str], store: Path | None) -> list[str]:
        git = shutil.which("git")
        if git is None:
            raise GitError("git is missing; it fetches the commit: install git")
        if arguments[0] == "-C":  # a folder of the user's
            return [git, *arguments]
        # Without a repository of its own git would look for one in the folders above.
        return [git, f"--git-dir={store or os.devnull}", *arguments]

    def _environ(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of git; the address stands there, where no other user sees it."""
        kept = {key: value for key, value in os.environ.items() if key not in _STRAY}
        settings = (*_SAFE, ("remote.origin.url", self._remote))
        if self._protocol == "ssh" and not self._has_own_ssh:
            kept["GIT_SSH_COMMAND"] = _SILENT_SSH
        kept |= {
            "GIT_ALLOW_PROTOCOL": self._protocol,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_CONFIG_COUNT": str(len(settings)),
            "LC_ALL": "C",
        }
        for number, (key, value) in enumerate(settings):
            kept |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        return {**kept, **more}

    @property
    def _has_own_ssh(self) -> bool:
        """Whether the user chose which ssh git runs, by a variable or in git's settings."""
        if os.environ.get("GIT_SSH_COMMAND") or os.environ.get("GIT_SSH"):
            return True
        git = shutil.which("git")
        if git is None:
            return False
        asked = [git, f"--git-dir={os.devnull}", "config", "--get", "core.sshCommand"]
        done = subprocess.run(
            asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        return bool(done.stdout.strip())

    def _reason(self, text: str) -> str:
        """Return the line of git's output that says what is wrong, without credentials."""
        every = [line for line in text.splitlines() if line.strip()]
        lines = [line for line in every if line.startswith(("fatal:", "error:"))]
        shown = lines[0].partition(": ")[2] if lines else ""
        before = every[every.index(lines[0]) - 1] if lines and every[0] != lines[0] else ""
        if before and shown.startswith(_NO_REMOTE):
            shown = before.strip().rstrip(".")
            shown += _OF_SSH if re.search(r"Permission denied|verification failed", shown) else ""
        return clip(clean(shown.replace(self._remote, self.shown)), _REASON)


def _lock_of(store: Path) -> Path:
    """Return the lock file of a repository, next to it; git has its own locks inside."""
    return store.with_name(f"{store.name}.lock")


def _is_whole(store: Path) -> bool:
    """Tell whether a repository of the cache has what makes git take it for one."""
    head = store / "HEAD"
    folders = all((store / name).is_dir() for name in ("objects", "refs"))
    return folders and head.is_file() and head.stat().st_size > 0


def described_head(folder: Path) -> Described | None:
    """Return the nearest tag v[0-9]* below what a checkout has; None without a tag or a git."""
    git = shutil.which("git")
    if git is None:
        return None
    safe = [part for key, value in _SAFE for part in ("-c", f"{key}={value}")]
    done = subprocess.run(
        [git, "-C", str(folder), *safe, *_DESCRIBE],
        env={**os.environ, **READ_ONLY, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return None if done.returncode else _described(done.stdout.decode("utf-8", "replace"))


def _no_line(old: str, new: str, base: str) -> str:
    """Return why no line leads from one commit to another; `base` is where they part, or ""."""
    if old == new:
        return f"{old} is both ends of the range; name two commits"
    if base == new:
        return f"{new} is older than {old}; write the range as {new}..{old}"
    if base:
        return f"{old} is not below {new}; they branch at {base}; write the range as {base}..{new}"
    return f"{old} and {new} have no common history; name two commits of one line"


def _described(text: str) -> Described | None:
    found = _DESCRIBED.fullmatch(text.strip())
    return Described(tag=found[1], distance=int(found[2])) if found else None


# Filters are programs that the user's own settings name, for files of the user's own repositories.
_NO_FILTERS = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
}
