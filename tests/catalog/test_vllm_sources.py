"""vLLM's sources as a commit, a folder and an sdist: found, verified, named by a version."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from local_index import Served
from matrix.catalog.candidates.model import Sdist, SourceKind, Tree
from matrix.catalog.index import FetchError
from matrix.catalog.package_metadata import read_vllm
from matrix.catalog.vllm_sources import folder as folders
from matrix.catalog.vllm_sources import git
from matrix.catalog.vllm_sources.folder import SourcesError, copy_tree, state_of, unpack
from matrix.catalog.vllm_sources.git import Described, GitError, Repository
from matrix.catalog.vllm_sources.sources import (
    Sources,
    open_commit,
    open_sdist,
    open_sources,
    open_tree,
)
from matrix.catalog.vllm_sources.version import VersionError, version_of
from matrix.errors import MatrixError
from programs import program
from vllm_tree import commit_all, repository_of, write_sdist, write_tree

pytestmark = pytest.mark.programs


def quiet(_: str) -> None:
    pass


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def repository(place: Path | str, cache: Path) -> Repository:
    return Repository(address=str(place), say=quiet, cache=cache)


def of_commit(place: Path, revision: str, cache: Path, version: str | None = None) -> Sources:
    folder = cache.parent / f"out-{revision[:8]}-{len(list(cache.parent.iterdir()))}"
    folder.mkdir()
    return open_commit(repository(place, cache), revision, folder, version=version)


def new(tmp_path: Path) -> Path:
    folder = tmp_path / f"new-{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    return folder


def test_a_commit_has_its_files_and_a_version_by_its_tag(tmp_path: Path, cache: Path) -> None:
    tree = write_tree(tmp_path / "tree")
    first = commit_all(tree, "release", tag="v0.33.0")
    (tree / "vllm/new.py").write_text("new = 1\n")
    second = commit_all(tree, "after")
    assert of_commit(tree, first, cache).version == f"0.33.0+g{first[:9]}"
    found = of_commit(tree, second, cache)
    assert found.version == f"0.33.1.dev1+g{second[:9]}"
    assert (found.kind, found.identity, found.revision) == (SourceKind.COMMIT, second, second)
    assert (found.folder / "vllm/new.py").read_text() == "new = 1\n"
    assert not (found.folder / ".git").exists()
    assert str(found.python) == "<3.15,>=3.10"
    read = read_vllm(found.version, found.members(), "sdist")
    assert read.facts["torch"] == "2.14.0" and read.facts["cuda"] == "13.0"


def test_a_commit_that_is_here_is_not_fetched_again(tmp_path: Path, cache: Path) -> None:
    tree = write_tree(tmp_path / "tree")
    commit = commit_all(tree)
    repository(tree, cache).write(commit, new(tmp_path))
    tree.rename(tmp_path / "gone")
    (tmp_path / "tree").mkdir()
    folder = new(tmp_path)
    repository(tree, cache).write(commit, folder)
    assert (folder / "setup.py").is_file()


def test_names_become_full_hashes(tmp_path: Path, cache: Path) -> None:
    tree = write_tree(tmp_path / "tree")
    first = commit_all(tree, tag="v0.33.0")
    second = commit_all(tree, "two")
    there = repository(tree, cache)
    assert there.resolve("main") == there.resolve("HEAD") == there.resolve(second) == second
    assert there.resolve("refs/heads/main") == second
    assert there.resolve("v0.33.0") == first
    subprocess.run(["git", "-C", tree, "-c", "user.name=a", "-c", "user.email=a@example.org",
                    "tag", "-a", "-m", "x", "v0.34.0"], check=True)  # fmt: skip
    assert there.resolve("v0.34.0") == second  # the commit, not the tag's own object
    assert there.resolve(second[:12]) == second and there.resolve("HEAD~1") == first
    by_address = repository(tree.as_uri(), cache)
    assert by_address.resolve("v0.33.0") == by_address.resolve(first[:12]) == first
    for known in (there, by_address):
        for name in ("nobody", "0123abc"):
            with pytest.raises(GitError, match=rf"has no branch, tag or commit {name}; name"):
                known.resolve(name)
    with pytest.raises(GitError, match="is not a branch"):
        there.resolve("--upload-pack=x")


@pytest.mark.parametrize(
    "address",
    [
        "ext::sh -c 'touch /tmp/x'",
        "--upload-pack=x",
        "/nowhere",
        "ftp://example.org/x",
        "fd::0",
        "",
    ],
)
def test_an_address_that_git_may_not_fetch(address: str, cache: Path) -> None:
    with pytest.raises(GitError, match=r"is neither an existing folder nor an address"):
        repository(address, cache)


def test_what_is_not_there(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = write_tree(tmp_path / "tree")
    commit_all(tree)
    nobody = "0" * 40
    with pytest.raises(GitError, match=rf"tree: has no commit {nobody}; push it"):
        repository(tree, cache).write(nobody, new(tmp_path))
    with pytest.raises(GitError, match="does not appear to be a git repository"):
        repository(tmp_path, cache).write(nobody, new(tmp_path))
    with pytest.raises(GitError, match="is not the full hash of a commit"):
        repository(tree, cache).write("main", new(tmp_path))
    secret = repository("http://me:secret@127.0.0.1:9/vllm.git", cache)
    with pytest.raises(GitError) as caught:
        secret.resolve("main")
    assert "secret" not in str(caught.value) and "127.0.0.1:9/vllm.git" in str(caught.value)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(GitError, match="git is missing"):
        repository(tree, cache).resolve("main")


@pytest.mark.parametrize("lost", ["HEAD", "objects", "refs", "config"])
def test_a_cache_that_a_killed_command_left_is_made_again(
    tmp_path: Path, cache: Path, lost: str
) -> None:
    tree = write_tree(tmp_path / "tree")
    commit = commit_all(tree, tag="v0.33.0")
    there = repository(tree, cache)
    there.write(commit, new(tmp_path))
    (store,) = (cache / "git").iterdir()
    path = store / lost
    shutil.rmtree(path) if path.is_dir() else path.write_text("")
    folder = new(tmp_path)
    there.write(commit, folder)
    assert (folder / "setup.py").is_file()


def test_the_lock_of_a_git_that_was_killed_stops_no_other(tmp_path: Path, cache: Path) -> None:
    tree = write_tree(tmp_path / "tree")
    there = repository(tree, cache)
    there.write(commit_all(tree, tag="v0.33.0"), new(tmp_path))
    for store in (cache / "git").iterdir():
        (store / "shallow.lock").write_text("")
    second = commit_all(tree, "two")
    assert of_commit(tree, second, cache).identity == second


def test_a_server_that_hangs_does_not_answer(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "_ANSWER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"git://127.0.0.1:{server.getsockname()[1]}/vllm"
        with pytest.raises(GitError, match=r"/vllm: does not answer; name another address"):
            repository(address, cache).resolve("main")


def test_the_address_of_a_repository_is_in_no_file(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(GitError):
        repository("http://me:secret@127.0.0.1:9/vllm.git", cache).write("0" * 40, new(tmp_path))
    texts = [path.read_bytes() for path in cache.rglob("*") if path.is_file()]
    assert texts and not [text for text in texts if b"secret" in text]


def test_nothing_of_a_repository_runs(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    template = tmp_path / "template/hooks"
    template.mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (template / name).write_text(f"#!/bin/sh\ntouch {ran}\n")
        (template / name).chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(
        f"[init]\n templateDir = {template.parent}\n[core]\n hooksPath = {template}\n"
        f'[filter "run"]\n smudge = touch {ran}\n[submodule]\n recurse = true\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    more = {".gitattributes": "*.py filter=run\n", ".gitmodules": "[submodule]\n"}
    tree = write_tree(tmp_path / "tree", more=more)
    commit = commit_all(tree)
    repository(tree, cache).write(commit, new(tmp_path))
    assert not ran.exists()


@pytest.mark.parametrize("own", ["none", "variable", "setting"])
def test_ssh_asks_nobody_unless_the_user_has_an_ssh_of_its_own(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    programs, said = tmp_path / "bin", tmp_path / "arguments"
    for name in ("ssh", "ownssh"):
        lines = (
            f'echo {name} "$@" >> {said}',
            "echo 'Host key verification failed.' >&2",
            "exit 255",
        )
        program(programs, name, "\n".join(lines))
    config = tmp_path / "gitconfig"
    config.write_text("[core]\n sshCommand = ownssh\n" if own == "setting" else "")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("GIT_SSH", raising=False)
    monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)
    if own == "variable":
        monkeypatch.setenv("GIT_SSH_COMMAND", "ownssh")
    there = Repository(address="ssh://git@host.invalid/vllm", say=lambda _: None, cache=cache)
    with pytest.raises(GitError) as caught:
        there.resolve("main")
    assert str(caught.value).startswith(
        "ssh://host.invalid/vllm: Host key verification failed; ssh asks nothing here"
    )
    silent = [line for line in said.read_text().splitlines() if "BatchMode=yes" in line]
    assert bool(silent) is (own == "none")
    assert {line.partition(" ")[0] for line in said.read_text().splitlines()} == {
        "ssh" if own == "none" else "ownssh"
    }


def test_a_folder_that_lacks_a_commit_fetches_it_by_no_program(tmp_path: Path, cache: Path) -> None:
    """Its settings name a remote that has what is missing, and what git shall start for it."""
    tree = write_tree(tmp_path / "tree")
    first = commit_all(tree, tag="v0.33.0")
    commit_all(tree, "two")
    ran = tmp_path / "ran"
    touches = program(tmp_path, "program", f"touch {ran}")
    with (tree / ".git/config").open("a") as config:
        config.write(
            "[core]\n repositoryformatversion = 1\n[extensions]\n partialClone = other\n"
            f'[protocol]\n allow = always\n[remote "other"]\n url = {tree}\n promisor = true\n'
            f" uploadpack = {touches}\n"
        )
    (tree / ".git/objects" / first[:2] / first[2:]).unlink()
    with pytest.raises(VersionError):
        open_tree(str(tree), new(tmp_path))
    with pytest.raises(GitError, match="has no branch, tag or commit HEAD~1"):
        repository(tree, cache).resolve("HEAD~1")
    assert not ran.exists()


def test_nothing_is_written_through_a_link_in_the_place_of_a_tracked_folder(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", more={"vllm/sub/a.py": "own = 1\n"})
    commit_all(tree, "all")
    shutil.rmtree(tree / "vllm/sub")
    (tree / "vllm/sub").symlink_to("../../others")
    mine = tmp_path / "copies/others/a.py"  # where the link leads from the copy
    for path in (tmp_path / "others/a.py", mine):
        path.parent.mkdir(parents=True)
        path.write_text(f"{path.parts[-3]}\n")
    with pytest.raises(SourcesError, match="vllm/sub: is a link to a file outside the sources"):
        open_tree(str(tree), tmp_path / "copies/sources", version="0.33.0")
    assert mine.read_text() == "copies\n"


@pytest.mark.parametrize("target", ["/etc/hostname", "../../x", "..", "../vllm/../../x"])
def test_a_link_that_leads_out_of_the_sources(tmp_path: Path, cache: Path, target: str) -> None:
    tree = write_tree(tmp_path / "tree")
    (tree / "vllm/inside").symlink_to("../setup.py")
    (tree / "vllm/self").symlink_to(".")
    open_tree(str(tree), new(tmp_path), version="0.33.0")
    place = "link" if target == ".." else "vllm/link"
    (tree / place).symlink_to(target)
    with pytest.raises(SourcesError, match=f"tree: {place}: is a link to a file outside the"):
        open_tree(str(tree), new(tmp_path), version="0.33.0")
    commit = commit_all(tree)
    with pytest.raises(SourcesError, match=f"{commit[:12]}: {place}: is a link to a file outside"):
        of_commit(tree, commit, cache, "0.33.0")


def test_a_folder_without_git(tmp_path: Path) -> None:
    more = {"vllm/_version.py": "__version__ = version = '0.33.0+empty'\n", "build/x": "left"}
    tree = write_tree(tmp_path / "tree", more={**more, "vllm/__pycache__/a.pyc": "left"})
    (tree / "vllm/link.py").symlink_to("envs.py")
    found = open_tree(str(tree), new(tmp_path))
    assert found.version == f"0.33.0+d{found.identity[:9]}"
    assert (found.kind, found.revision) == (SourceKind.TREE, None)
    assert (found.folder / "requirements/build/cuda.txt").is_file()
    assert (found.folder / "vllm/link.py").readlink() == Path("envs.py")
    assert not (found.folder / "build").exists()
    assert not (found.folder / "vllm/__pycache__").exists()


def test_a_checkout_is_what_git_does_not_ignore(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree")
    commit_all(tree, tag="v0.33.0")
    before = open_tree(str(tree), new(tmp_path))
    assert before.version == f"0.33.0+d{before.identity[:9]}"
    (tree / "vllm/_version.py").write_text("ignored")
    assert open_tree(str(tree), new(tmp_path)).identity == before.identity
    (tree / "vllm/new.py").write_text("not committed")
    (tree / "vllm/envs.py").unlink()
    after = open_tree(str(tree), new(tmp_path))
    assert after.identity != before.identity
    assert (after.folder / "vllm/new.py").is_file()
    assert not (after.folder / "vllm/envs.py").exists()


def test_a_folder_that_changed_is_another_candidate(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", more={"PKG-INFO": "Version: 0.33.0\n"})
    state = open_tree(str(tree), new(tmp_path)).identity
    source = Tree(path=str(tree), state=state)
    assert open_sources(source, new(tmp_path), quiet).identity == state
    (tree / "vllm/envs.py").chmod(0o755)
    with pytest.raises(SourcesError, match="changed since it became a candidate; add it again"):
        open_sources(source, new(tmp_path), quiet)


def test_a_source_distribution(tmp_path: Path, served: Served) -> None:
    sdist = write_sdist(tmp_path, "0.33.0")
    found = open_sdist(str(sdist), new(tmp_path))
    assert (found.version, found.kind, found.shown) == ("0.33.0", SourceKind.SDIST, sdist.name)
    source = Sdist(location=str(sdist), sha256=found.identity)
    assert open_sources(source, new(tmp_path), quiet).version == "0.33.0"
    wrong = Sdist(location=str(sdist), sha256="0" * 64)
    with pytest.raises(FetchError, match="it is not the file that was meant"):
        open_sources(wrong, new(tmp_path), quiet)
    served.add("vllm", sdist.name, sdist.read_bytes())
    url = f"{served.url[:-8]}/files/{sdist.name}"
    assert open_sdist(url, new(tmp_path), sha256=found.identity).version == "0.33.0"
    with pytest.raises(SourcesError, match="its SHA-256 is not known"):
        open_sdist(url, new(tmp_path))
    with pytest.raises(FetchError, match="does not exist"):
        open_sdist(str(tmp_path / "vllm-1.0.tar.gz"), new(tmp_path))


@pytest.mark.parametrize("kind", ["not an archive", "outside", "two folders", "cut"])
def test_an_archive_that_is_not_one_of_sources(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "vllm-0.33.0.tar.gz"
    names = {"outside": ["vllm-0.33.0/a", "../outside"], "two folders": ["a/b", "c/d"]}
    with tarfile.open(path, "w:gz") as archive:
        for name in names.get(kind, ["vllm-0.33.0/a"]):
            info = tarfile.TarInfo(name)
            info.size = 1000
            archive.addfile(info, io.BytesIO(os.urandom(1000)))
    if kind == "not an archive":
        path.write_bytes(b"hello")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(SourcesError, match=r"^vllm-0\.33\.0\.tar\.gz: [^\n]+$"):
        unpack(path, new(tmp_path))
    assert not (tmp_path / "outside").exists()


def test_an_archive_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_UNPACKED", 100)
    with pytest.raises(SourcesError, match="unpacks to more than"):
        unpack(write_sdist(tmp_path, "0.33.0"), new(tmp_path))


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("setup.py", None, r"has no setup\.py"),
        ("pyproject.toml", None, r"has no pyproject\.toml"),
        ("pyproject.toml", "[", r"pyproject\.toml: is not TOML"),
        ("pyproject.toml", "[project]\nname = 'numpy'\n", "has the sources of numpy, not of vllm"),
        ("pyproject.toml", "project = 1\n", "has the sources of None, not of vllm"),
        ("pyproject.toml", "\x00", "is not TOML"),
    ],
)
def test_a_folder_that_is_not_vllm(tmp_path: Path, path: str, text: str | None, said: str) -> None:
    tree = write_tree(tmp_path / "tree", more={"PKG-INFO": "Version: 0.33.0\n"})
    (tree / path).unlink()
    if text is not None:
        (tree / path).write_text(text)
    with pytest.raises(SourcesError, match=said) as caught:
        open_tree(str(tree), new(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(SourcesError, match="is not a folder"):
        open_tree(str(tmp_path / "nowhere"), new(tmp_path))


def test_without_a_tag_the_sources_or_a_person_say_the_version(tmp_path: Path, cache: Path) -> None:
    sdist = write_sdist(tmp_path, "0.33.0")
    commit = repository_of(sdist, tmp_path / "git")
    assert of_commit(tmp_path / "git", commit, cache).version == f"0.33.0+g{commit[:9]}"
    bare = write_tree(tmp_path / "bare")
    nothing = commit_all(bare)
    with pytest.raises(VersionError, match=r"state it: --version 0\.34\.0$"):
        of_commit(bare, nothing, cache)
    given_one = of_commit(bare, nothing, cache, "0.34.0")
    assert given_one.version == f"0.34.0+g{nothing[:9]}"
    assert of_commit(bare, nothing, cache, "0.34.0+mine").version == "0.34.0+mine"
    with pytest.raises(VersionError, match="--version 'new': is not a version"):
        of_commit(bare, nothing, cache, "new")


@pytest.mark.parametrize(
    ("tag", "distance", "version"),
    [
        ("v0.33.0", 0, "0.33.0+gabc"),
        ("v0.33.0", 3, "0.33.1.dev3+gabc"),
        ("v0.34.0rc1", 12, "0.34.0rc2.dev12+gabc"),
        ("v0.33.0.post1", 1, "0.33.0.post2.dev1+gabc"),
        ("v1", 1, "2.dev1+gabc"),
    ],
)
def test_versions_by_a_tag(tag: str, distance: int, version: str) -> None:
    assert version_of("x", described=Described(tag=tag, distance=distance), mark="gabc") == version


@given(
    tag=st.one_of(st.none(), st.from_regex(r"v[0-9]{1,3}(\.[0-9a-z]{1,4}){0,3}", fullmatch=True)),
    distance=st.integers(0, 5000),
    text=st.one_of(st.none(), st.text(max_size=40), st.just("Version: 0.1.dev1+g1")),
)
def test_no_version_is_a_guess_from_nothing(
    tag: str | None, distance: int, text: str | None
) -> None:
    """A version is one that PEP 440 has, and never setuptools-scm's 0.1.dev1."""
    described = Described(tag=tag, distance=distance) if tag else None
    files = {"PKG-INFO": text} if text else {}
    try:
        version = version_of("x", described=described, files=files, mark="gabc")
    except VersionError as error:
        assert "\n" not in str(error)
        return
    assert str(Version(version)) == version
    assert tag is not None or Version(version) >= Version("0.2")


@given(
    files=st.dictionaries(
        st.from_regex(r"[a-z]{1,3}|[A-Z]/[a-z]{1,3}", fullmatch=True),
        st.binary(max_size=8),
        max_size=5,
    )
)
def test_a_digest_is_of_what_a_folder_holds(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Copies have one digest; another content, name or mode has another."""
    root = tmp_path_factory.mktemp("state")
    one, other = root / "one", root / "other"
    for folder in (one, other):
        folder.mkdir()
    files = {name: data for name, data in files.items() if not name.startswith("build")}
    for name, data in files.items():
        (one / name).parent.mkdir(exist_ok=True)
        (one / name).write_bytes(data)
    assert copy_tree(one, other) == state_of(one) == state_of(other)
    (other / "zzzz").write_bytes(b"")
    states = {state_of(one), state_of(other)}
    (other / "zzzz").write_bytes(b"1")
    states.add(state_of(other))
    (other / "zzzz").chmod(0o755)
    states.add(state_of(other))
    assert len(states) == 4


def test_the_script_makes_a_repository(tmp_path: Path, cache: Path) -> None:
    sdist = write_sdist(tmp_path, "0.33.0")
    script = Path(__file__).parents[1] / "vllm_tree.py"
    command = [sys.executable, str(script), str(sdist), str(tmp_path / "git"), "--tag", "v0.33.0"]
    commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert repository(tmp_path / "git", cache).describe(commit) == Described(
        tag="v0.33.0", distance=0
    )


def test_every_fault_is_one_of_ours() -> None:
    assert all(issubclass(error, MatrixError) for error in (GitError, SourcesError, VersionError))
