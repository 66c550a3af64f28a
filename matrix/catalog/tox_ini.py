"""Write the block of tox.ini that names the environments and what each of them installs. Pure.

The block has a section for each torch, with the on-pin cells of that torch. One more section,
`off-pin`, has the factors of every other pair; toxfile.py makes such an environment when somebody
names it. tox configures each environment that it lists, so to list all pairs would cost seconds at
every start.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from packaging.version import Version

from matrix.catalog.candidates.update import described
from matrix.catalog.cells import Cell, factors
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases, newest
from matrix.errors import MatrixError

BEGIN = "# >>> `matrix sync` writes what follows, up to <<<, from matrix/data; change the data"
END = "# <<<"
_ON_PIN = """\
# A section a torch: its on-pin cells, each a vLLM that pins that torch, on the Pythons that both
# accept. vLLM brings the torchvision and torchaudio that it pins. A name without a vLLM is the
# newest vLLM that pins that torch."""
_OFF_PIN = """\
# Any other pair is off-pin: the newest patch of each, with the companions of that torch. tox does
# not list these; toxfile.py makes the one that is asked for, and has uv override vLLM's pins."""


class SyncError(MatrixError):
    """A tox.ini has no place for the block."""


def block(releases: Releases) -> str:
    """Return the block: a section for each torch, oldest first, and the off-pin factors."""
    by_torch: dict[str, list[Cell]] = {}
    for cell in releases.on_pin():
        by_torch.setdefault(factors(cell.name).torch, []).append(cell)
    sections = [_on_pin(releases, by_torch[torch]) for torch in sorted(by_torch, key=Version)]
    return "\n\n".join([_ON_PIN, *sections, f"{_OFF_PIN}\n{_off_pin(releases)}"]) + "\n"


def synced(text: str, releases: Releases) -> str:
    """Return the text of tox.ini with its block replaced.

    Raises SyncError unless the two marker lines are there, once each and in their order.
    """
    lines = text.split("\n")
    for mark in (BEGIN, END):
        if lines.count(mark) != 1:
            raise SyncError(
                f"tox.ini: has the line {mark!r} {lines.count(mark)} times; restore it, once"
            )
    begin, end = lines.index(BEGIN), lines.index(END)
    if end < begin:
        raise SyncError(f"tox.ini: the line {END!r} stands before {BEGIN!r}; put it after")
    return "\n".join([*lines[: begin + 1], block(releases) + lines[end], *lines[end + 1 :]])


def difference(text: str, fresh: str, most: int = 12) -> list[str]:
    """Return the lines that differ, with - or +, at most `most`; empty for equal texts."""
    every = [
        line
        for line in difflib.unified_diff(text.split("\n"), fresh.split("\n"), n=0, lineterm="")
        if not line.startswith(("---", "+++", "@@"))
    ]
    return [*every[:most], *([f"... {len(every) - most} more"] if len(every) > most else [])]


def describe(cell: Cell, releases: Releases) -> str:
    """Return what an environment is, in one line, as `tox list` shows it.

    Raises CellError if the cell's vLLM is unknown.
    """
    torch, vllm = (_called(releases, cell, project) for project in Project)
    what = f"{torch} with {vllm} on Python {cell.python}"
    if releases.is_off_pin(cell):
        named = cell.vllm_build.name if cell.vllm_build else vllm
        what = f"off-pin ({named} pins torch {releases.pin(cell)}): {what}"
    without, guessed = releases.doubts(cell)
    why = "its index has none" if cell.torch_build else "each is built for another CUDA"
    what += "".join(f", without {name} ({why})" for name in without)
    what += "".join(f", with a {name} that only its date chose" for name in guessed)
    return f"{what}: cold and warm starts, and their verdict"


def _called(releases: Releases, cell: Cell, project: Project) -> str:
    """Return what a cell's torch or vLLM is: a release, or a candidate and where it is from."""
    candidate = releases.candidate_of(cell, project)
    version = cell.torch if project is Project.TORCH else cell.vllm
    name = "torch" if project is Project.TORCH else "vLLM"
    return f"{name} {version}" if candidate is None else described(candidate)


def _on_pin(releases: Releases, cells: Sequence[Cell]) -> str:
    """Return the section of one torch: the names of its cells, and what each installs."""
    by_factor = {_factor(cell): cell for cell in sorted(cells, key=lambda cell: Version(cell.vllm))}
    short = next((name for name, cell in by_factor.items() if len(releases.names(cell)) > 1), None)
    pins = []
    for torch in sorted({cell.torch for cell in cells}, key=Version):
        chosen = [name for name, cell in by_factor.items() if cell.torch == torch]
        pins.append(f"{_when(chosen, by_factor, short)}torch=={torch}")
    for name, cell in by_factor.items():
        pins.append(f"{_when([name], by_factor, short)}vllm=={cell.vllm}")
    for name, cell in by_factor.items():
        when = _when([name], by_factor, short)
        pins += [f"{when}{constraint}" for constraint in releases.constraints(cell.vllm)]
    return f"[testenv:{_names(releases, cells)}]\nbase = cell, testenv\n{_deps(pins)}"


def _names(releases: Releases, cells: Sequence[Cell]) -> str:
    """Return the names of the cells in tox's braces: those of the same Pythons in one part."""
    pythons: dict[str, list[str]] = {}
    for cell in cells:
        for name in releases.names(cell):
            python, _, rest = name.partition("-")
            pythons.setdefault(rest, []).append(python.removeprefix("py"))
    parts: dict[tuple[str, ...], list[str]] = {}
    for rest in sorted(pythons, key=lambda rest: Version(factors(f"py311-{rest}").vllm or "0")):
        parts.setdefault(tuple(pythons[rest]), []).append(rest.partition("-")[2])
    torch = next(iter(pythons)).partition("-")[0]
    return ",".join(
        f"{_braces('py', versions)}-{_braces(torch, [vllm and f'-{vllm}' for vllm in vllms])}"
        for versions, vllms in parts.items()
    )


def _braces(prefix: str, variants: Sequence[str]) -> str:
    return prefix + (variants[0] if len(variants) == 1 else f"{{{','.join(variants)}}}")


def _when(chosen: Collection[str], every: Collection[str], short: str | None) -> str:
    """Return the condition for some of a section's factors; `short` also has no vLLM factor."""
    if len(chosen) == len(every):
        return ""
    if short in chosen:
        return "-".join(f"!{factor}" for factor in every if factor not in chosen) + ": "
    return ",".join(chosen) + ": "


def _off_pin(releases: Releases) -> str:
    pins = []
    for torch in newest(releases.torch):
        wanted = (
            ("torch", torch.version),
            ("torchvision", torch.torchvision),
            ("torchaudio", torch.torchaudio),
        )
        factor = Cell("3.11", torch.version, "0.0").short_name.partition("-")[2]
        pins += [(factor, f"{name}=={version}") for name, version in wanted if version is not None]
    for vllm in newest(releases.vllm):
        factor = _factor(Cell("3.11", vllm.torch, vllm.version))
        pins.append((factor, f"vllm=={vllm.version}"))
        pins += [(factor, constraint) for constraint in releases.constraints(vllm.version)]
    width = max((len(factor) for factor, _ in pins), default=0) + 1
    lines = [f"{factor}:".ljust(width) + f" {pin}" for factor, pin in pins]
    return f"[off-pin]\n{_deps(lines)}"


def _deps(pins: Sequence[str]) -> str:
    return "\n".join(["deps =", *(f"    {pin}" for pin in ("{[cell]deps}", *pins))])


def _factor(cell: Cell) -> str:
    return cell.name.rpartition("-")[2]
