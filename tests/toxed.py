"""tox on this project, run again and again, and small wheels for its environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pytest

ROOT = Path(__file__).parents[1]


# tox, with what it and toxfile.py import, is loaded once. Each run is a fork of that process, so
# that it begins as a fresh tox does; imports are three quarters of a run.
SERVER = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, os.getcwd())
import toxfile, tox.run, tox.plugin.manager, tox_uv.plugin
del sys.modules["toxfile"]  # tox loads it
for line in sys.stdin:
    run = json.loads(line)
    child = os.fork()
    if not child:
        os.environ.clear()
        os.environ.update(run["environ"])
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(run[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["tox", *run["arguments"]]
        tox.run.run()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen[str]]:
    """Give a process that runs tox on this project, again and again."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


class Tox(Protocol):
    """Run tox on this project's tox.ini, its environments in a folder; `environ` adds variables."""

    def __call__(
        self, *arguments: str, folder: Path, **environ: str
    ) -> subprocess.CompletedProcess[str]: ...


def command_of(arguments: Sequence[str], folder: Path) -> list[str]:
    # What follows -- is not tox's own.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [*arguments[:end], "--workdir", str(folder / "tox"), *arguments[end:]]


def environ_of(environ: Mapping[str, str]) -> dict[str, str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("TOX")}
    return {**outside, "NO_COLOR": "1", "PYTHONWARNINGS": "ignore", **environ}


@pytest.fixture(scope="session")
def tox(server: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Tox:
    def run(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
        outputs = tmp_path_factory.mktemp("outputs")
        asked = {
            "arguments": command_of(arguments, folder),
            "environ": environ_of(environ),
            "stdout": str(outputs / "stdout"),
            "stderr": str(outputs / "stderr"),
        }
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(f"{json.dumps(asked)}\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        texts = [(outputs / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(arguments, status, *texts)

    return run


def write_wheel(
    folder: Path, name: str, version: str, *needs: str, members: Mapping[str, str] | None = None
) -> Path:
    """Write a wheel that requires these, with these members; returns its path."""
    stem = f"{name}-{version}"
    lines = [
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {requirement}" for requirement in needs),
    ]
    files = {
        "METADATA": "\n".join(["Metadata-Version: 2.1", *lines, ""]),
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    inside = {f"{stem}.dist-info/{file}": text for file, text in files.items()}
    inside = {**(members or {}), **inside}
    record = f"{stem}.dist-info/RECORD"
    inside[record] = "".join(f"{file},,\n" for file in (*inside, record))
    folder.mkdir(exist_ok=True)
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in inside.items():
            archive.writestr(file, text)
    return path
