"""Where a CI service is told: GitHub's summary and log, Buildkite's agent, a file, or stdout."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from matrix._util.files import write_text
from matrix.errors import MatrixError
from matrix.report import ci
from matrix.verdict.table import Table

FORMATS = ("github", "buildkite", "junit")

_AGENT = "buildkite-agent"
_PATIENCE = 60.0


class CiError(MatrixError):
    """The service is not known, or did not take what it was told."""


def service(environ: Mapping[str, str]) -> str:
    """The CI service that this process runs under, by its variables.

    Raises CiError where there is none.
    """
    for variable, name in (("GITHUB_ACTIONS", "github"), ("BUILDKITE", "buildkite")):
        if environ.get(variable) == "true":
            return name
    raise CiError(
        f"no CI service is known here; name one by --format {' or '.join(FORMATS)}, or set"
        " GITHUB_ACTIONS or BUILDKITE to true"
    )


def tell(table: Table, form: str, out: Path | None, environ: Mapping[str, str]) -> None:
    """Write the table in that form to `out`, or without one to where its service reads it.

    GitHub's annotations always go to stdout, which is where it reads them. A summary joins what
    other commands of the same step wrote to theirs. Raises CiError, RecordError and OSError.
    """
    if form == "github":
        _github(table, out, environ.get("GITHUB_STEP_SUMMARY") or None)
    elif form == "buildkite" and out is None and shutil.which(_AGENT):
        _annotate(ci.summary(table), ci.style(table))
    else:
        text = ci.junit(table) if form == "junit" else ci.summary(table)
        if out is None:
            print(text, end="")
        else:
            write_text(out, text)


def _github(table: Table, out: Path | None, step: str | None) -> None:
    if out is not None:
        write_text(out, ci.summary(table))
    elif step is not None:
        there = Path(step)
        size = there.stat().st_size if there.exists() else 0
        with open(there, "a", encoding="utf-8", newline="\n") as file:
            file.write(ci.summary(table, ci.SUMMARY_LIMIT - size))
    else:
        print(ci.summary(table))
    print(ci.commands(table), end="")


def _annotate(text: str, style: str) -> None:
    command = [_AGENT, "annotate", "--style", style, "--context", "torch-vllm-matrix"]
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CiError(f"{_AGENT}: did not answer within {_PATIENCE:.0f} s") from None
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:]
        raise CiError(f"{_AGENT}: ended with exit status {done.returncode}: {said}")
