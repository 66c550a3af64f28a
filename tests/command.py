"""The `matrix` command run in this process, with the streams and the exit status of a shell."""

from __future__ import annotations

import io
import os
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from matrix import cli


def matrix(here: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the folder `here`, with these variables of the environment as well."""
    encoding = environ.get("PYTHONIOENCODING", "utf-8")
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="") for _ in range(2))
    before = Path.cwd()
    os.chdir(here)
    try:
        with mock.patch.dict(os.environ, environ), redirect_stdout(out), redirect_stderr(err):
            status = _status(arguments)
    finally:
        os.chdir(before)
    return subprocess.CompletedProcess(arguments, status, _text(out), _text(err))


def _status(arguments: tuple[str, ...]) -> int:
    try:
        return cli.main(arguments)
    except SystemExit as stopped:  # argparse: help
        assert isinstance(stopped.code, int)
        return stopped.code


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(stream.encoding)
