"""How large the page is and how long it takes: to make, to its first paint, and to filter.

    python benchmarks/page.py [--rounds N] [--chromium PATH] [--keep DIR]

Three pages. `grid`: 15 torch by 45 vLLM on 5 Pythons and 2 platforms, of the package's releases
and made-up ones after the newest. `full`: the same, and every pair has a record of nine cases, one
in fifty failing. `results`: 500 cells of 20 cases, one in ten failing with a trace of 40 lines;
junit2html makes its page of the same results in the same run: from their JSON, of which JUnit XML
is made first, and from that XML alone, which holds their times and failures and no counters. Whose
change it is what fails is reported in `full`, and measured by itself in `results`. The records are
made up from a fixed seed and are written nowhere but to --keep. Seconds of making a page are of
the CPU (what else runs on the machine does not count), the best of the rounds; milliseconds in
Chromium are of the clock, and left out where playwright or a Chromium is missing.
"""

import argparse
import functools
import importlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from grid import ask, padded

from matrix._util.gc import gc_paused
from matrix.advice.install import installs_of
from matrix.advice.tables_file import load_tables
from matrix.attribution.attribute import attribute
from matrix.attribution.known import KnownPairs
from matrix.catalog.cells import Cell
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.checks.lookup import load_answers
from matrix.record.model import Case, Record, Start
from matrix.record.reader import parse, read
from matrix.record.writer import to_json
from matrix.report import page
from matrix.report.model import Report
from matrix.rules.expectations import Expectations
from matrix.rules.expectations_file import load_expectations
from matrix.verdict.answer import answers
from matrix.verdict.grid import environments, runs, survey
from matrix.verdict.table import Table, tabulate

_PARTS = ("total", "dynamo", "inductor", "inspect", "compilation")
_COUNTERS = (
    *("num_compiled_artifacts_saved", "num_compiled_artifacts_loaded", "num_graphs_seen"),
    *("aot_autograd.total", "aot_autograd.autograd_cache_miss", "aot_autograd.autograd_cache_hit"),
    *("inductor.fxgraph_cache_hit", "inductor.fxgraph_cache_miss", "num_inductor_compiles"),
    *("num_backend_compilations", "num_cache_entries_updated", "num_piecewise_graphs_seen"),
)
_FRAMES = 19
_LIMITS = {"kB": 500, "paint": 200, "filter": 50}


def main() -> int:
    """Measure and print; nothing here fails for being slow."""
    parser = argparse.ArgumentParser(description="The page's size and speed.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "")
    parser.add_argument("--keep", type=Path, help="write the pages and junit2html's here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        pages = [grid_pages(folder, options.rounds), results_page(folder, options.rounds)]
        in_chromium([file for files in pages for file in files], options.chromium, options.rounds)
    return 0


def grid_pages(folder: Path, rounds: int) -> list[Path]:
    """Measure the pages of the whole grid, without a record and with one a pair and platform."""
    releases = minors(load_releases())
    grid = ask(releases, load_answers(releases))
    shown = f"{len(grid.columns)} torch x {len(grid.rows)} vLLM shown"
    every = (
        made(Cell("3.12", torch.version, vllm.version), "cuda", 9, failing=0.02)
        for torch in grid.columns
        for vllm in grid.rows
    )
    named = environments(releases)
    judged = tabulate(every, load_expectations(), releases=releases)
    full = blamed(surveyed(judged, releases), releases)
    found = []
    for name, report in (("grid", Report(table=Table(entries=()), grid=grid)), ("full", full)):
        took = best(lambda report=report: page.render(report, named), rounds)  # type: ignore[misc]
        path = folder / f"{name}.html"
        path.write_text(page.render(report, named), encoding="utf-8")
        size = path.stat().st_size / 1000
        of = f", {len(report.table.entries)} records" if report.table.entries else ""
        of += f", {len(report.attributions)} attributions" if report.attributions else ""
        print(f"{name:<10}{shown}{of}: {size:.0f} kB of {_LIMITS['kB']}, made in {took:.2f} s")
        found.append(path)
    return found


def minors(releases: Releases) -> Releases:
    """As many releases as `padded` makes, each of a minor release of its own: all are shown."""
    newest = {
        name: tuple({release.version.split(".")[1]: release for release in published}.values())
        for name, published in (("torch", releases.torch), ("vllm", releases.vllm))
    }
    return padded(replace(releases, **newest))  # type: ignore[arg-type]


def results_page(folder: Path, rounds: int) -> list[Path]:
    """Compare the page of 10,000 results with junit2html's of the same."""
    releases = load_releases()
    some = minors(releases)
    some = replace(some, torch=some.torch[-10:], vllm=some.vllm[-10:])
    cells = [
        Cell(python, torch.version, vllm.version)
        for torch in some.torch
        for vllm in some.vllm
        for python in some.pythons
    ]
    records = [made(cell, "cuda", 20, failing=0.1) for cell in cells]
    junit = folder / "results.xml"
    junit.write_bytes(as_junit(record for _, record in records))
    texts = [(path, to_json(record)) for path, record in records]
    rules, path, other = load_expectations(), folder / "results.html", folder / "junit2html.html"

    @gc_paused()  # as `matrix table` makes it
    def of_records(*, whose: bool = False) -> None:
        path.write_text(page_of(records, rules, some, whose=whose), encoding="utf-8")

    @gc_paused()
    def of_json(*, whose: bool = False) -> None:
        parsed = [(name, parse(text, name.name)) for name, text in texts]
        path.write_text(page_of(parsed, rules, some, whose=whose), encoding="utf-8")

    @gc_paused()
    def junit_of_json() -> None:
        xml = folder / "same.xml"
        xml.write_bytes(as_junit(parse(text, name.name) for name, text in texts))
        in_process(xml, other)

    took = {
        "this page, of records": best(of_records, rounds),
        "this page, of their JSON": best(of_json, rounds),
        "junit2html, of their JSON": best(junit_of_json, rounds),
        "junit2html, of the XML": best(lambda: in_process(junit, other), rounds),
        "junit2html, as a command": best(lambda: command(junit, other), rounds),
    }
    sizes = path.stat().st_size, other.stat().st_size
    cases = sum(len(record.cases) for _, record in records)
    failing = sum(case.outcome == "failed" for _, record in records for case in record.cases)
    print(f"\n{cases} results of {len(records)} cells, {failing} failing:")
    for name, seconds in took.items():
        print(f"  {name:<28}{seconds:6.2f} s")
    print(f"  {'this page':<28}{sizes[0] / 1000:6.0f} kB")
    print(f"  {'junit2html':<28}{sizes[1] / 1000:6.0f} kB; ours is {sizes[0] / sizes[1]:.1%}")
    more = {
        "of records, with whose change": best(lambda: of_records(whose=True), rounds),
        "of JSON, with whose change": best(lambda: of_json(whose=True), rounds),
    }
    print("and what junit2html does not report:")
    for name, seconds in more.items():
        print(f"  {name:<28}{seconds:6.2f} s")
    return [path]


def page_of(
    records: Iterable[tuple[Path, Record]],
    rules: Expectations,
    releases: Releases,
    *,
    whose: bool = False,
) -> str:
    """Judge the records and make their page; `whose` is whether it says whose change it is."""
    report = surveyed(tabulate(records, rules, releases=releases), releases)
    return page.render(blamed(report, releases) if whose else report, environments(releases))


def surveyed(table: Table, releases: Releases) -> Report:
    """Return the table with its grid."""
    seen = runs(((entry.record, entry.verdict) for entry in table.entries), releases)
    grid = survey(releases, seen=seen)
    first = answers(grid, table.entries, releases)
    installs = installs_of(grid, releases, load_tables())
    return Report(table=table, grid=grid, answers=first, installs=installs)


def blamed(report: Report, releases: Releases) -> Report:
    """Return the report with whose change it is what fails and drifts in it."""
    judged = [(entry.record, entry.verdict) for entry in report.table.entries]
    return replace(report, attributions=attribute(judged, releases, KnownPairs(grid=report.grid)))


def made(cell: Cell, platform: str, cases: int, failing: float) -> tuple[Path, Record]:
    """Return a made-up record; the same cell gives the same one."""
    chance = random.Random(f"{cell.name} {cell} {platform}")
    provenance = {
        **_published().provenance,
        "started": f"2026-{chance.randrange(1, 11):02}-{chance.randrange(1, 29):02}T18:00:00Z",
        "seconds": 300.0 + chance.random(),
        "python": f"{cell.python}.7",
        "torch": cell.torch,
        "vllm": cell.vllm,
        "gpu": {"name": "made up", "memory_mib": 81559},
    }
    cases_of_record = tuple(_case(chance, cell, number, failing) for number in range(cases))
    record = Record(
        cell=cell.name,
        platform=platform,
        finished=True,
        provenance=provenance,
        cases=cases_of_record,
    )
    return Path(f"{cell.name}.json"), record


@functools.cache
def _published() -> Record:
    """Return a real record, for what the made-up ones lack."""
    root = Path(__file__).resolve().parents[1]
    return read(min((root / "results" / "cuda").glob("*.json")))


def _case(chance: random.Random, cell: Cell, number: int, failing: float) -> Case:
    name = f"model_startup[model_{number}]"
    starts = []
    # What is counted depends on the pair and the case, as it does in real records.
    pair = random.Random(f"{cell.torch} {cell.vllm} {number // 4}")
    for start, scale in (("cold", 60.0), ("warm", 15.0)):
        parts = {part: scale * (0.5 + chance.random()) for part in _PARTS}
        counters = {counter: pair.randrange(34) for counter in _COUNTERS}
        starts.append(Start(start=start, seconds=parts, counters=counters))
    if chance.random() >= failing:
        return Case(case=name, outcome="passed", seconds=80.0, starts=tuple(starts))
    trace = list(_trace(chance))
    return Case(
        case=name,
        outcome="failed",
        reason=trace[-1],
        signature=f"RuntimeError: shape mismatch in layer at model.py:{number}",
        seconds=40.0,
        failure="\n".join(trace),
        starts=tuple(starts[: chance.randrange(2)]),
    )


def _trace(chance: random.Random) -> Iterable[str]:
    """Return a trace of 40 lines; its frames and its address differ between failures."""
    yield "Traceback (most recent call last):"
    for depth in range(_FRAMES):
        module = chance.choice(("worker", "model_runner", "backends", "compile_fx", "graph"))
        line = chance.randrange(100, 160)
        yield f'  File "/site-packages/vllm/v1/{module}_{depth}.py", line {line}, in step_{depth}'
        yield f"    return self.{module}.step_{depth}(*args, **kwargs)"
    yield f"RuntimeError: shape mismatch in layer at 0x{chance.randrange(16**12):012x}"


def as_junit(records: Iterable[Record]) -> bytes:
    """Return the same results as JUnit XML, a suite a cell."""
    suites = ET.Element("testsuites")
    for record in records:
        suite = ET.SubElement(suites, "testsuite", name=record.cell, tests=str(len(record.cases)))
        for case in record.cases:
            attributes = {
                "classname": record.cell,
                "name": case.case,
                "time": f"{case.seconds:.3f}",
            }
            element = ET.SubElement(suite, "testcase", attributes)
            if case.failure is not None:
                ET.SubElement(element, "failure", message=case.reason or "").text = case.failure
    return ET.tostring(suites, encoding="utf-8", xml_declaration=True)


def in_process(junit: Path, out: Path) -> None:
    """junit2html without the start of a process."""
    parser = importlib.import_module("junit2htmlreport.parser")
    out.write_text(parser.Junit(str(junit)).html(), encoding="utf-8")


def command(junit: Path, out: Path) -> None:
    """Run junit2html as a person does."""
    subprocess.run([sys.executable, "-m", "junit2htmlreport", str(junit), str(out)], check=True)


def in_chromium(pages: Sequence[Path], chromium: str, rounds: int) -> None:
    """Measure the first paint of each page, and its slowest filter with the layout after it."""
    try:
        playwright = importlib.import_module("playwright.sync_api")
    except ImportError:
        print("\nno playwright: nothing was measured in Chromium")
        return
    print(f"\n{'in Chromium':<12}{'first paint':>12}{'of':>6}{'filter':>10}{'of':>6}  milliseconds")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium or None)
        for path in pages:
            paints, filters = [], []
            for _ in range(rounds):
                opened = browser.new_page()
                opened.goto(path.as_uri())
                opened.wait_for_function(_PAINT)
                opened.wait_for_selector("html[data-ready]")
                paints.append(opened.evaluate(_PAINT))
                filters.append(opened.evaluate(_FILTER))
                opened.close()
            print(
                f"{path.stem:<12}{min(paints):>12.0f}{_LIMITS['paint']:>6}"
                f"{max(min(took) for took in zip(*filters, strict=True)):>10.1f}"
                f"{_LIMITS['filter']:>6}  worst of the rounds: {max(paints):.0f},"
                f" {max(map(max, filters)):.1f}"
            )
        browser.close()


_PAINT = """() => (performance.getEntriesByName("first-contentful-paint")[0] || {}).startTime"""
_FILTER = """() => {
  const form = document.getElementById("filters"), took = [];
  const set = (name, value) => {
    const field = form.elements[name];
    const began = performance.now();
    field.value = value;
    const radio = [...form.querySelectorAll(`[name=${name}]`)].find((button) => button.checked);
    (radio || field).dispatchEvent(new Event("input", { bubbles: true }));
    document.body.getBoundingClientRect();
    took.push(performance.now() - began);
  };
  for (const [name, value] of [["q", "torch"], ["q", "shape mismatch"], ["q", ""],
    ["torch", ">=2.10"], ["torch", ""], ["vllm", "0.19, 0.20"], ["vllm", ""], ["pin", "on"],
    ["pin", ""], ["platform", "cpu"], ["python", "3.12"], ["python", ""]]) set(name, value);
  return took;
}"""


def best(function: Callable[[], object], rounds: int) -> float:
    """Return the CPU seconds of the fastest round, with those of commands that it ran."""
    took = []
    for _ in range(rounds):
        began = cpu_seconds()
        function()
        took.append(cpu_seconds() - began)
    return min(took)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of the commands that it waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


if __name__ == "__main__":
    raise SystemExit(main())
