"""How long the whole grid takes from data: every torch with every vLLM on every Python, and a plan.

    python benchmarks/grid.py [--rounds N] [--most SECONDS]

The releases are the package's, and made-up ones after the newest fill them up to 15 of torch and 45
of vLLM, on 5 Pythons; what is known of rungs is the package's. Prints the CPU seconds of each part
(what else runs on the machine does not count), the best of the rounds. Exits with 1 where the table
or the plan takes more than SECONDS (default 1) from data to text. Records are not read.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

from packaging.version import Version

from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.checks.lookup import Answers, load_answers
from matrix.record.startup_tests import load_startup_tests
from matrix.report import markdown, table_json
from matrix.report import plan as plan_report
from matrix.report.model import Report
from matrix.verdict.grid import Grid, survey
from matrix.verdict.plan import Wanted, plan
from matrix.verdict.table import Table

_TORCH, _VLLM = 15, 45
_PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
_WANTED = Wanted(off_pin=True)


def main() -> int:
    """Measure and print; return 1 where the whole takes too long."""
    parser = argparse.ArgumentParser(description="The whole grid and a plan, from data.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=float, default=1.0)
    options = parser.parse_args()
    rounds = options.rounds
    releases = padded(load_releases())
    pairs = len(releases.torch) * len(releases.vllm)
    print(
        f"{len(releases.torch)} torch, {len(releases.vllm)} vLLM, {len(releases.pythons)} Pythons:"
        f" {pairs * len(releases.pythons)} cells on 2 platforms; the best of {rounds} rounds"
    )
    grid = ask(releases, load_answers(releases))
    report, tests = Report(table=Table(entries=()), grid=grid), load_startup_tests()
    planned = plan(grid, releases, [], tests, _WANTED)
    parts: list[tuple[str, Callable[[], object]]] = [
        ("read the releases", load_releases),
        ("read what is known of rungs", lambda: load_answers(releases)),
        ("climb every cell, without links", lambda: survey(releases)),
        ("the same with links, from tables", lambda: ask(releases, load_answers(releases))),
        ("the table as Markdown", lambda: markdown.render(report)),
        ("the table as JSON", lambda: table_json.render(report)),
        ("the versions of the startup tests", load_startup_tests.__wrapped__),
        ("plan every pair", lambda: plan(grid, releases, [], tests, _WANTED)),
        ("the plan as text", lambda: plan_report.lines(planned, every=True)),
    ]
    for name, function in parts:
        print(f"{name:<36}{best(function, rounds):7.3f} s", flush=True)
    print()
    slow = False
    for name, function in (
        ("table, from data to text", lambda: tell(releases)),
        ("plan, from data to text", lambda: tell_plan(releases)),
    ):
        took = best(function, rounds)
        print(f"{name:<36}{took:7.3f} s, may take {options.most:.3f} s", flush=True)
        slow |= took > options.most
    return int(slow)


def padded(releases: Releases) -> Releases:
    """Return the releases and, up to the wanted number, copies of the newest after it."""
    torch, vllm = list(releases.torch), list(releases.vllm)
    while len(torch) < _TORCH:
        torch.append(replace(torch[-1], version=after(torch[-1].version)))
    while len(vllm) < _VLLM:
        vllm.append(replace(vllm[-1], version=after(vllm[-1].version)))
    return replace(releases, torch=tuple(torch), vllm=tuple(vllm), pythons=_PYTHONS)


def after(version: str) -> str:
    """Return the next minor release."""
    parsed = Version(version)
    return f"{parsed.major}.{parsed.minor + 1}.0"


def ask(releases: Releases, answers: Answers) -> Grid:
    """Return the grid by these answers."""
    return survey(releases, resolves=answers.resolves, links=answers.links)


def tell(releases: Releases) -> int:
    """All that `matrix table` does, but for the records."""
    load_releases()
    report = Report(table=Table(entries=()), grid=ask(releases, load_answers(releases)))
    return len(markdown.render(report)) + len(table_json.render(report))


def tell_plan(releases: Releases) -> int:
    """All that `matrix plan --off-pin` does, but for the records."""
    load_releases()
    grid = ask(releases, load_answers(releases))
    planned = plan(grid, releases, [], load_startup_tests(), _WANTED)
    return len(plan_report.lines(planned))


def best(function: Callable[[], object], rounds: int) -> float:
    """Return the CPU seconds of the fastest round."""
    took = []
    for _ in range(rounds):
        began = time.process_time()
        function()
        took.append(time.process_time() - began)
    return min(took)


if __name__ == "__main__":
    raise SystemExit(main())
