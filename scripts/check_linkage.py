"""Hold `matrix linkage` against the dynamic loader: import the extensions of real pairs.

    check_linkage.py [--python 3.11] [--out docs/linkage-evidence.json] VLLM:TORCH ...

For each pair uv makes an environment in a temporary folder, with torch and all that it requires,
and vLLM alone. Each of vLLM's extensions is imported there in a process of its own, after torch.
The loader names one missing library or symbol and stops; asked as `ldd -r` asks, it names every
symbol. Both are compared with what the tables say. A machine without a driver gets a library of its
names that does nothing. It takes gcc, uv and 8 GB of disk. Exit status: 0 where
all agree, 1 where one does not, 2 where a pair cannot be tried.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder is on the path, not its repository: this must run from a bare checkout.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matrix._util.files import write_text
from matrix.checks.linkage.link import Tables, load_tables
from matrix.checks.linkage.verify import agrees, observe, run_command, write_stub
from matrix.errors import MatrixError
from matrix.report.linkage import extension_words, verdict_words

_OUT = Path("docs/linkage-evidence.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Try each pair, write the evidence and say what agrees."""
    parser = argparse.ArgumentParser(description="Hold linkage against real imports.")
    parser.add_argument("pairs", nargs="+", metavar="VLLM:TORCH")
    parser.add_argument("--python", default="3.11", metavar="VERSION")
    parser.add_argument("--out", type=Path, default=_OUT, metavar="FILE")
    options = parser.parse_args(arguments)
    status = 0
    try:
        evidence = _evidence(options.out)
        for pair in options.pairs:
            vllm, _, torch = pair.partition(":")
            try:
                row = _try_pair(vllm, torch, options.python, load_tables())
            except MatrixError as error:
                print(f"{pair}: {error}", file=sys.stderr)
                status = 2
                continue
            _print(row)
            if not row["agrees"]:
                status = status or 1
            key = ("vllm", "torch", "python")
            evidence = [item for item in evidence if any(item[name] != row[name] for name in key)]
            evidence.append(row)
            evidence.sort(key=lambda row: [str(row[name]) for name in key])
            text = json.dumps({"schema": 1, "pairs": evidence}, indent=1, ensure_ascii=True)
            write_text(options.out, text + "\n")
    except MatrixError as error:
        print(error, file=sys.stderr)
        return 2
    return status


def _evidence(path: Path) -> list[dict[str, object]]:
    if not path.is_file():
        return []
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))["pairs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MatrixError(f"{path}: does not hold evidence ({error!r}); move it away") from None
    assert isinstance(pairs, list)
    return pairs


def _try_pair(vllm: str, torch: str, python: str, tables: Tables) -> dict[str, object]:
    linkage = tables.link(vllm, torch, python)
    with tempfile.TemporaryDirectory(prefix="check-linkage-") as name:
        folder = Path(name)
        venv = folder / "venv"
        _uv("venv", "--quiet", "--python", python, str(venv))
        target = ("--quiet", "--python", str(venv / "bin" / "python"))
        _uv("pip", "install", *target, f"torch=={torch}")
        _uv("pip", "install", *target, "--no-deps", f"vllm=={vllm}")
        [packages] = venv.glob("lib/python3*/site-packages")
        stub = write_stub(tables.vllm(vllm), folder)
        rows, whole = [], True
        for linked in linkage.extensions:
            path = packages / linked.path
            found = observe(venv, packages, path, stub)
            good = agrees(linked, found)
            whole = whole and good
            rows.append(
                {
                    "extension": linked.path,
                    "predicted": extension_words(linkage, linked) or "loads",
                    "observed": found.line,
                    "undefined": list(found.symbols),
                    "agrees": good,
                }
            )
        full = run_command([str(venv / "bin" / "python"), "--version"]).stdout.split()[-1]
    return {
        "vllm": vllm,
        "torch": torch,
        "python": full,
        "glibc": platform.libc_ver()[1],
        "predicted": verdict_words(linkage),
        "agrees": whole,
        "extensions": rows,
    }


def _uv(*arguments: str) -> None:
    program = shutil.which("uv")
    if program is None:
        raise MatrixError("uv is not here, and makes the environments: install uv")
    done = run_command([program, *arguments], seconds=3600)
    if done.returncode:
        raise MatrixError(f"uv {arguments[0]}: {done.stderr.strip().splitlines()[-1:]}")


def _print(row: dict[str, object]) -> None:
    extensions = row["extensions"]
    assert isinstance(extensions, list)
    right = sum(linked["agrees"] for linked in extensions)
    print(
        f"vLLM {row['vllm']} x torch {row['torch']}, Python {row['python']}: {row['predicted']};"
        f" {right} of {len(extensions)} extensions as predicted"
    )
    for linked in extensions:
        mark = "  " if linked["agrees"] else "! "
        print(f"{mark}{linked['extension']}: {linked['observed']}")
        if not linked["agrees"]:
            print(f"    predicted: {linked['predicted']}; undefined: {linked['undefined']}")


if __name__ == "__main__":
    sys.exit(main())
