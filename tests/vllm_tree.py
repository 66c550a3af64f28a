"""Sources of a vLLM for tests: a tree of a few files, an sdist of it, and git repositories.

The tree builds as vLLM does, as far as this project looks: its own build backend imports torch,
obeys VLLM_TARGET_DEVICE and setuptools-scm's variables, takes extensions out of another wheel, or
calls nvcc, which `write_nvcc` writes. `repository_of` makes a repository of
any sdist, also of vLLM's own.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from matrix._util.archives import unpack_member
from matrix.catalog.index import FetchError, Index

_BACKEND = """\
"Write a wheel as vLLM's setup.py does: of the version that setuptools-scm is given."
import base64, hashlib, json, os, shutil, subprocess, sys, zipfile
from pathlib import Path


def build_wheel(folder, config_settings=None, metadata_directory=None):
    import torch

    print("running bdist_wheel", flush=True)
    {fault}
    version = os.environ["SETUPTOOLS_SCM_PRETEND_VERSION"]
    node = os.environ.get("SETUPTOOLS_SCM_PRETEND_METADATA")
    rust = shutil.which("rustc")
    if {needs_rust} and (rust is None or subprocess.run([rust, "-Vv"]).returncode):
        raise RuntimeError("can't find Rust compiler")
    Path("vllm/_version.py").write_text(
        "__version__ = version = '%s'\\n__commit_id__ = commit_id = %r\\n" % (version, node)
    )
    tag, needs, suffix = "py3-none-any", "", "empty"
    if os.environ["VLLM_TARGET_DEVICE"] != "empty":
        minor = "cp3%d" % sys.version_info.minor
        tag, needs = minor + "-" + minor + "-linux_x86_64", "Requires-Dist: torch==2.14.0\\n"
        suffix = "precompiled" if precompiled() else compiled()
    if suffix:
        version += ("." if "+" in version else "+") + suffix
    name = "vllm-%s-%s.whl" % (version, tag)
    info = "vllm-%s.dist-info" % version
    with zipfile.ZipFile(Path(folder, name), "w") as archive:
        for path in sorted([*Path("vllm").rglob("*.py"), *Path("vllm").rglob("*.so")]):
            archive.write(path, path.as_posix())
        head = "Metadata-Version: 2.1\\nName: vllm\\nVersion: "
        archive.writestr(info + "/METADATA", head + version + "\\n" + needs)
        head = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n"
        archive.writestr(info + "/WHEEL", head + "Tag: " + tag + "\\n")
        archive.writestr("vllm/torch_of_the_build.py", "version = %r\\n" % torch.__version__)
        rows = [file + "," + digest(archive.read(file)) for file in archive.namelist()]
        archive.writestr(info + "/RECORD", "\\n".join([*rows, info + "/RECORD,,", ""]))
    return name


def digest(data):
    found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return "sha256=%s,%d" % (found, len(data))


def precompiled():
    # vllm/envs.py: the one variable implies the other.
    wheel = os.environ.get("VLLM_PRECOMPILED_WHEEL_LOCATION")
    if os.environ.get("VLLM_USE_PRECOMPILED") != "1" and not wheel:
        return False
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".abi3.so"):
                print("[extract]", name, flush=True)
                archive.extract(name)
    return True


def compiled():
    nvcc = os.environ["CUDA_HOME"] + "/bin/nvcc"
    release = subprocess.check_output([nvcc, "-V"], text=True).split("release ")[1].split(",")[0]
    out = "vllm/_C_stable_libtorch.abi3.so"
    for number, source in enumerate(sorted(Path("csrc").glob("*.cu")), 1):
        print("[%d/1] Building CUDA object %s" % (number, source), flush=True)
        subprocess.check_call([nvcc, str(source), "-o", out])
    return "" if release == "13.0" else "cu" + release.replace(".", "")
"""
_SETUP = """\
VLLM_MAIN_CUDA_VERSION = '13.0'
wheel_location = os.getenv("VLLM_PRECOMPILED_WHEEL_LOCATION", None)
"""
_PYPROJECT = """\
[build-system]
requires = ["cmake>=3.26.1", "ninja", "setuptools>=77.0.3,<81.0.0", "setuptools-scm>=8.0", "wheel",
            "torch == 2.14.0"]
build-backend = "backend"
backend-path = ["tools"]

[project]
name = "{name}"
requires-python = ">=3.10,<3.15"
dynamic = ["version"]
"""


def write_tree(
    folder: Path,
    *,
    name: str = "vllm",
    fault: str = "pass",
    needs_rust: bool = False,
    more: Mapping[str, str] | None = None,
) -> Path:
    """Write a tree of a vLLM and return its folder; `fault` is a statement that the build runs."""
    files = {
        "pyproject.toml": _PYPROJECT.format(name=name),
        "setup.py": _SETUP,
        "csrc/ops.cu": "__global__ void op() {}\n",
        "vllm/_custom_ops.py": "",
        "tools/backend.py": _BACKEND.replace("{fault}", fault).replace(
            "{needs_rust}", str(needs_rust)
        ),
        "vllm/__init__.py": "",
        "vllm/envs.py": '"VLLM_MAIN_CUDA_VERSION": lambda: os.getenv("X", "13.0")\n',
        "requirements/common.txt": "numpy\n",
        "requirements/cuda.txt": "-r common.txt\ntorch==2.14.0\ntorchvision==0.29.0\n",
        "requirements/build/cuda.txt": "cmake\n",
        ".gitignore": "/vllm/_version.py\n__pycache__/\n",
        **(more or {}),
    }
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return folder


def write_sdist(folder: Path, version: str, *, fault: str = "pass") -> Path:
    """Write the sdist of a tree of a version, as setuptools-scm makes it; returns its path."""
    stem = f"vllm-{version}"
    more = {
        "PKG-INFO": f"Metadata-Version: 2.4\nName: vllm\nVersion: {version}\n",
        "vllm/_version.py": f"__version__ = version = '{version}'\n",
    }
    tree = write_tree(folder / "tree" / stem, more=more, fault=fault)
    path = folder / f"{stem}.tar.gz"
    # The same bytes whenever it is written.
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        archive.add(tree, stem, filter=_timeless)
    return path


def write_nvcc(home: Path, *, release: str = "13.0", fault: str = "") -> Path:
    """Write a CUDA toolkit whose nvcc copies its source, and return its folder.

    What it writes also names the architectures. `fault` are lines of the shell before that.
    """
    nvcc = home / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True, exist_ok=True)
    nvcc.write_text(
        f"""#!/bin/sh
case "$1" in
-V|--version) echo "Cuda compilation tools, release {release}, V{release}.88"; exit 0 ;;
esac
{fault}
{{ cat "$1"; echo "for $TORCH_CUDA_ARCH_LIST"; }} > "$3"
""",
        encoding="utf-8",
    )
    nvcc.chmod(0o755)
    return home


def _timeless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = 1_772_000_000  # zip has no time before 1980
    return member


def commit_all(folder: Path, message: str = "one", tag: str | None = None) -> str:
    """Commit all that a folder has, ignored files too, and return the hash; tag the commit."""
    if not (folder / ".git").exists():
        _git(folder, "init", "--quiet", "--template=", "--initial-branch=main")
    _git(folder, "add", "--all", "--force")
    _git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    if tag is not None:
        _git(folder, "tag", tag)
    return _git(folder, "rev-parse", "HEAD").strip()


def repository_of(sdist: Path, folder: Path, tag: str | None = None) -> str:
    """Make a git repository of the tree of an sdist in a new folder; returns its one commit."""
    folder.mkdir(parents=True)
    with tarfile.open(sdist) as archive:
        # Without the folder that holds all.
        for member in archive:
            member.name = member.name.partition("/")[2]
            if member.name:
                unpack_member(archive, member, folder)
    return commit_all(folder, f"The tree of {sdist.name}", tag)


def _git(folder: Path, *arguments: str) -> str:
    # The same commit whenever and by whom a test runs.
    who = {
        f"GIT_{role}_{what}": text
        for role in ("AUTHOR", "COMMITTER")
        for what, text in (
            ("NAME", "a test"),
            ("EMAIL", "test@example.org"),
            ("DATE", "2026-03-01T10:00:00Z"),
        )
    }
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **who}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, env={**kept, **own}, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


def change(folder: Path, member: str, old: str, new: str) -> str:
    """Replace a text that a file of a repository has once, and commit it; returns the commit."""
    path = folder / member
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{member} has {old!r} {text.count(old)} times, not once"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return commit_all(folder, f"{member}: {new} for {old}")


def fetch_sdist(version: str, folder: Path) -> Path:
    """Fetch the sdist of a vLLM release, about 40 MB; raises FetchError where there is none."""
    index = Index()
    try:
        for file in index.files("vllm"):
            if file.version == version and not file.is_wheel:
                return index.fetch(file, folder)
    finally:
        index.close()
    raise FetchError(f"vllm {version}: the index has no sdist of it")


def main() -> None:
    """Make a git repository of an sdist of vLLM, and print its last commit."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("sdist", help="an sdist, or a version to fetch beside the folder")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tag", help="a tag for the commit of the sdist's tree")
    parser.add_argument("--change", nargs=3, metavar=("FILE", "OLD", "NEW"))
    options = parser.parse_args()
    sdist = Path(options.sdist)
    if not sdist.name.endswith(".tar.gz"):
        options.folder.parent.mkdir(parents=True, exist_ok=True)
        sdist = fetch_sdist(options.sdist, options.folder.parent)
    commit = repository_of(sdist, options.folder, options.tag)
    print(change(options.folder, *options.change) if options.change else commit)


if __name__ == "__main__":
    main()
