"""Hold the versions that people raise to the sources that they speak of.

    python tests/source_guards.py            what differs from what was accepted
    python tests/source_guards.py --accept   accept the sources as they are now

`source_guards.json` names, for each version, the sources that decide, and the digest of them that
was accepted for it. A change of these sources asks its author one question: does something that is
measured, or stored, change? If so the version is raised. In both cases the digest is accepted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GUARDS = Path(__file__).with_suffix(".json")
ACCEPT = "python tests/source_guards.py --accept"


def guards(path: Path = GUARDS) -> dict[str, dict[str, Any]]:
    """Return the guards by the name of their version."""
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def problem(name: str, guard: Mapping[str, Any], version: int, digest: str) -> str | None:
    """Return what is wrong and what to do about it, None where all is as it was accepted."""
    if version < guard["version"]:
        return f"{name}: is {version}, and {guard['version']} was accepted before; never lower it"
    if version > guard["version"]:
        return f"{name}: is {version} now, and {guard['version']} was accepted: run `{ACCEPT}`"
    if digest != guard["digest"]:
        return (
            f"{name}: sources that decide {guard['decides']} changed. If it changes,"
            f" {guard['raise']}, then run `{ACCEPT}`. If nothing of it changes, that is, if the"
            f" code was only moved, renamed or rewritten, run `{ACCEPT}` and say so in the commit."
        )
    return None


def accepted(guard: Mapping[str, Any], version: int, digest: str) -> dict[str, Any]:
    """Return the guard with this version and digest."""
    return {**guard, "version": version, "digest": digest}


def current() -> dict[str, int]:
    """Return the versions of this checkout by name."""
    from matrix.record.startup_tests import STARTUP_TESTS_VERSION
    from matrix.store.ingest import SUMMARY_VERSION

    return {
        "STARTUP_TESTS_VERSION": STARTUP_TESTS_VERSION,
        "SUMMARY_VERSION": SUMMARY_VERSION,
    }


def main() -> int:
    """Print what differs, or accept it; exit with 1 where something differs."""
    from source_digest import digest_of

    parser = argparse.ArgumentParser(description="Versions, and the sources that they speak of.")
    parser.add_argument("--accept", action="store_true", help="accept the sources as they are now")
    accept = parser.parse_args().accept
    found, versions = guards(), current()
    problems = []
    for name, guard in found.items():
        digest = digest_of(ROOT, guard["sources"], guard["data"])
        told = problem(name, guard, versions[name], digest)
        if told is not None and (not accept or versions[name] < guard["version"]):
            problems.append(told)
        elif told is not None:
            found[name] = accepted(guard, versions[name], digest)
            print(f"{name} {versions[name]}: accepted {digest}")
    if accept:
        GUARDS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print("\n".join(problems) or "every version speaks of the sources as they are")
    return 1 if problems else 0


if __name__ == "__main__":
    # A script's own folder is on the path, not its repository.
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
