"""What tox.ini cannot say: refuse a name that is no cell, record a cell that does not install."""

from __future__ import annotations

import argparse
import os
import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from tox.plugin import impl

sys.path.insert(0, str(Path(__file__).parent))

from matrix.engines.installs import why_install_failed
from matrix.engines.local import record_unstarted
from matrix.errors import MatrixError
from matrix.releases import load_releases

if TYPE_CHECKING:
    from tox.config.sets import ConfigSet, EnvConfigSet
    from tox.session.state import State
    from tox.tox_env.api import ToxEnv

_CELL = re.compile(r"py\d+-torch\d+(-vllm\d+)?")
_CELL_LIKE = re.compile(r"(^|-)(torch|vllm|py\d)")
_options: dict[str, str] = {}
_ran: set[str] = set()


@impl
def tox_add_core_config(core_conf: ConfigSet, state: State) -> None:
    """Refuse, before anything is installed, what is no environment; and let uv use pip's index."""
    known = set(state.conf)
    asked = getattr(state.conf.options, "env", None) or ()
    for name in asked:
        if name not in known:
            _refuse(_why_unknown(name, known))
    factors = {factor for name in known for factor in name.split("-")}
    for group in getattr(state.conf.options, "factors", None) or ():
        for factor in (part for each in group for part in each.split("-")):
            if factor not in factors:
                _refuse(f"no environment has the factor {factor!r}; tox list shows them all")
    if "UV_INDEX_URL" not in os.environ and "PIP_INDEX_URL" in os.environ:
        os.environ.setdefault("UV_DEFAULT_INDEX", os.environ["PIP_INDEX_URL"])


@impl
def tox_add_env_config(env_conf: EnvConfigSet, state: State) -> None:
    """Keep the arguments after `--` that say where a record goes."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option, default in (("platform", "auto"), ("records", "records"), ("model-source", "data")):
        parser.add_argument(f"--{option}", default=default)
    found, _ = parser.parse_known_args(state.conf.pos_args(None) or ())
    _options.update(vars(found))


@impl
def tox_before_run_commands(tox_env: ToxEnv) -> None:
    """Note that an environment was made: from here on `matrix run` writes its record."""
    _ran.add(tox_env.name)


@impl
def tox_env_teardown(tox_env: ToxEnv) -> None:
    """Write the record of a cell whose environment could not be made."""
    if tox_env.name in _ran or not _CELL.fullmatch(tox_env.name):
        return
    failed = _last_failure(tox_env.env_log_dir)
    if failed is None:
        return
    try:
        path = record_unstarted(
            load_releases().resolve(tox_env.name),
            _options["platform"],
            tox_env.core["tox_root"] / _options["records"],
            error := why_install_failed(failed),
            _options["model_source"],
        )
    except MatrixError as refusal:
        print(f"matrix: {refusal}", file=sys.stderr)
    else:
        print(f"matrix: {tox_env.name}: {error.reason} (record: {os.path.relpath(path)})")


def _why_unknown(name: str, known: set[str]) -> str:
    if _CELL_LIKE.search(name):
        try:
            releases = load_releases()
            cell = releases.resolve(name)
        except MatrixError as error:
            return str(error)
        if cell in releases.cells():
            return f"tox.ini lacks the environment {name!r} of a known cell; add its factors"
        return f"the matrix has no cell {cell.name} yet; CONTRIBUTING.md says how to add one"
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"there is no environment {name!r}; {hint}tox list shows them all"


def _refuse(reason: str) -> None:
    print(f"matrix: {reason}", file=sys.stderr)
    raise SystemExit(2)


def _last_failure(logs: Path) -> str | None:
    """What the last command said, where it failed; tox keeps a log of each command of this run."""
    numbered = [each for each in logs.glob("*.log") if each.name.split("-")[0].isdecimal()]
    if not numbered:
        return None
    last = max(numbered, key=lambda each: int(each.name.split("-")[0]))
    head, _, said = last.read_text(encoding="utf-8", errors="replace").partition("\nexit_code: ")
    code, _, said = said.partition("\n")
    return said.replace("\nstandard error:\n", "\n") if head and code != "0" else None
