"""Write the table where a CI service reads it: GitHub's summary and log, or Buildkite's agent."""

from __future__ import annotations

import shutil
import subprocess
import sys
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
    """The service is not known, or refused the report."""


def service(environ: Mapping[str, str]) -> str:
    """Return the CI service that this process runs under, by its variables.

    Raises CiError if there is none.
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
            sys.stdout.write(text)
        else:
            write_text(out, text)


def hand_over(outputs: str, environ: Mapping[str, str]) -> None:
    """Append the outputs of a step, a line each, to where GitHub reads them; elsewhere nowhere.

    Raises OSError.
    """
    there = environ.get("GITHUB_OUTPUT")
    if there:
        with Path(there).open("a", encoding="utf-8", newline="\n") as file:
            file.write(outputs)


def _github(table: Table, out: Path | None, step: str | None) -> None:
    if out is not None:
        write_text(out, ci.summary(table))
    elif step is not None:
        there = Path(step)
        size = there.stat().st_size if there.exists() else 0
        with there.open("a", encoding="utf-8", newline="\n") as file:
            file.write(ci.summary(table, ci.SUMMARY_LIMIT - size))
    else:
        sys.stdout.write(ci.summary(table) + "\n")
    sys.stdout.write(ci.commands(table))


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
        output = " ".join(done.stderr.split())[-300:]
        raise CiError(f"{_AGENT}: ended with exit status {done.returncode}: {output}")
