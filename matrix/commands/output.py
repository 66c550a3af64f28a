"""How a command prints a report for people: in as many columns as the terminal has."""

from __future__ import annotations

import sys

from matrix._util.console import report_width


def show(report: str, *, fit: bool = True) -> None:
    """Print a report, with the end of its last line, in lines that fit; else as it is.

    On a terminal a long command goes on after a backslash; what reads a pipe gets it on one line.
    """
    if fit:
        from matrix.report.fitting.text import fitted

        report = fitted(report, report_width(sys.stdout), shell=sys.stdout.isatty())
    print(report, end="", flush=True)
