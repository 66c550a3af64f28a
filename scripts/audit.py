"""Hold the installed packages against the known vulnerabilities, by pip-audit.

    tox -e audit [-- OPTIONS OF PIP-AUDIT]

Prints a line for each vulnerability and exits with 1 where there is one. The answers are a public
service's: where it cannot be asked, or knows none of the packages, as behind a mirror, that is one
line and no failure, since nothing was found out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run pip-audit on this environment; return the exit status."""
    command = [
        *(sys.executable, "-m", "pip_audit", "--format", "json", "--skip-editable"),
        *("--progress-spinner", "off", *arguments),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    status, lines = judged(done.stdout, done.stderr)
    print("\n".join(lines))
    return status


def judged(output: str, errors: str) -> tuple[int, list[str]]:
    """Return the exit status for what pip-audit printed, and the lines that say why."""
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (errors.strip().splitlines() or ["it printed nothing"])[-1]
        return 0, [f"audit: nothing was audited, pip-audit ended without an answer: {last[:300]}"]
    known = [package for package in packages if "skip_reason" not in package]
    if not known:
        return 0, ["audit: nothing was audited, the service knows none of these packages"]
    found = [
        f"audit: {package['name']} {package['version']}: {fault['id']}, fixed in"
        f" {', '.join(fault['fix_versions']) or 'no release'}"
        for package in known
        for fault in package["vulns"]
    ]
    unknown = len(packages) - len(known)
    summary = f"audit: {len(known)} packages audited, {unknown} unknown, {len(found)} vulnerable"
    return int(bool(found)), [*found, summary]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
