"""tox plugin: environments of off-pin cells and candidates, refused names, failed installs."""

from __future__ import annotations

import argparse
import configparser
import contextlib
import itertools
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tox.config.loader.memory import MemoryLoader
from tox.execute.request import StdinSource
from tox.plugin import impl
from tox.tox_env.errors import Fail
from tox.util.path import ensure_empty_dir

sys.path.insert(0, str(Path(__file__).parent))

from matrix._util.files import write_text
from matrix._util.nearest import suggested, with_meant
from matrix.catalog.candidates.model import TORCH_COMPANIONS
from matrix.catalog.cells import CellError, factors, is_candidate
from matrix.catalog.mistyped import nearest_factor
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.catalog.tox_ini import describe
from matrix.checks.resolution.uv_output import why_install_failed
from matrix.errors import MatrixError
from matrix.run.cell import record_unstarted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tox.config.sets import ConfigSet, EnvConfigSet
    from tox.session.state import State
    from tox.tox_env.api import ToxEnv
    from tox.tox_env.installer import InstallArguments
    from tox.tox_env.python.api import Python

    from matrix.record.model import RunError
    from matrix.run.installing import Installing

_CELL = re.compile(r"py\d+-torch[a-z0-9]+(-vllm[a-z0-9]+)?")
_CELL_LIKE = re.compile(r"(^|-)(torch|vllm|py\d)")
_NO_INDEX = ("UV_OFFLINE", "UV_NO_INDEX")
_YES = ("1", "t", "true", "y", "yes", "on")  # as uv reads a variable
_OVERRIDES = "overrides.txt"
_BUILT = "built.txt"
_PINS = "as-beside.txt"
_options: dict[str, str] = {}
_overrides: dict[str, tuple[str, ...]] = {}
_built: dict[str, Path] = {}  # the file of requirements of a cell whose vLLM is built
_unbuilt: dict[str, RunError] = {}
_added: set[str] = set()
_ran: set[str] = set()
_unnoted: set[str] = set()
_installing: dict[str, Installing] = {}


@impl
def tox_extend_envs() -> Iterator[str]:
    """Add the cells that were named and tox.ini lacks. tox calls this after the core's config."""
    yield from _added


@impl
def tox_add_core_config(core_conf: ConfigSet, state: State) -> None:
    """Refuse unknown environments before anything is installed; let uv use pip's index."""
    if _names_none(state.args):
        # tox would take an empty -e for its default environments, which are not cells.
        _refuse(
            "-e names no environment: nothing is to run"
            " (`matrix plan --names` may have printed the reason)"
        )
    asked = tuple(getattr(state.conf.options, "env", None) or ())
    try:
        _seed(state, load_releases(), asked)
    except MatrixError as error:
        # Bad data must not stop the tests which show what is wrong with it.
        if any(_CELL_LIKE.search(name) for name in asked):
            _refuse(str(error))
    known = set(state.conf)
    for name in asked:
        if name not in known:
            _refuse(_why_unknown(name, known))
    factors = {factor for name in known for factor in name.split("-")}
    for group in getattr(state.conf.options, "factors", None) or ():
        for factor in (part for name in group for part in name.split("-")):
            if factor not in factors:
                unknown = f"no environment has the factor {factor!r}; tox list shows them all"
                near = nearest_factor(factor, sorted(factors))
                _refuse(with_meant(unknown, near))
    if "UV_INDEX_URL" not in os.environ and "PIP_INDEX_URL" in os.environ:
        os.environ.setdefault("UV_DEFAULT_INDEX", os.environ["PIP_INDEX_URL"])


@impl
def tox_add_env_config(env_conf: EnvConfigSet, state: State) -> None:
    """Keep the arguments after `--` that name the folder of records; let uv override pins."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option, default in (("platform", "auto"), ("records", "records"), ("model-source", "data")):
        parser.add_argument(f"--{option}", default=default)
    found, _ = parser.parse_known_args(state.conf.pos_args(None) or ())
    _options.update(vars(found))
    if env_conf.name in _overrides:
        env_conf["set_env"].update({"UV_OVERRIDE": _overrides_path(env_conf, state.conf.core)})


@impl
def tox_on_install(
    tox_env: ToxEnv, arguments: InstallArguments, section: str, of_type: str
) -> None:
    """Write the overrides for uv, and build a vLLM that is from sources.

    tox has emptied the environment's temporary folder, and reads the requirements after this.
    """
    _say_that_it_installs(tox_env)
    if tox_env.name in _built and of_type == "deps":
        _build(tox_env)
    if tox_env.name in _overrides:
        lines = "".join(f"{requirement}\n" for requirement in _overrides[tox_env.name])
        try:
            write_text(tox_env.conf["env_tmp_dir"] / _OVERRIDES, lines)
        except MatrixError as error:
            raise Fail(str(error)) from error
    if of_type == "deps" and _CELL.fullmatch(tox_env.name):
        _install_as_beside(tox_env)


@impl
def tox_before_run_commands(tox_env: ToxEnv) -> None:
    """Note that an environment was made: from here on, `matrix run` writes its record.

    What its releases are on the index is noted too, for that record.
    """
    _ran.add(tox_env.name)
    if _CELL.fullmatch(tox_env.name):
        _share_bytecode(tox_env)
    _installs_no_more(tox_env)
    asks_none = any(os.environ.get(name, "").lower() in _YES for name in _NO_INDEX)
    if _CELL.fullmatch(tox_env.name) and not asks_none:
        _note_published(cast("Python", tox_env))


@impl
def tox_env_teardown(tox_env: ToxEnv) -> None:
    """Write the record of a cell whose environment could not be made."""
    _installs_no_more(tox_env)
    if tox_env.name in _ran or not _CELL.fullmatch(tox_env.name):
        return
    error = _unbuilt.get(tox_env.name)
    if error is None and (failed := _last_failure(tox_env.env_log_dir)):
        of_candidate = is_candidate(factors(tox_env.name).torch)
        error = why_install_failed(failed, TORCH_COMPANIONS if of_candidate else ())
    if error is None:
        return
    try:
        path = record_unstarted(
            load_releases().resolve(tox_env.name),
            error,
            platform=_options["platform"],
            records=tox_env.core["tox_root"] / _options["records"],
            model_source=_options["model_source"],
        )
    except MatrixError as refusal:
        print(f"matrix: {refusal}", file=sys.stderr)
    else:
        print(f"matrix: {tox_env.name}: {error.reason} (record: {os.path.relpath(path)})")


def _seed(state: State, releases: Releases, asked: Sequence[str]) -> None:
    """Describe the cells to tox, and add the off-pin cells and those of candidates by name.

    A candidate's cell names each file by address and hash, so that tox makes it again as soon as
    one differs. A vLLM from sources has its file once it is built, so the requirements of its cell
    are read from a file. Raises CellError where the companions of an off-pin cell are unknown, or a
    candidate cannot be installed; MatrixError where a folder of sources is not what was added.
    """
    cells = {name: cell for cell in releases.on_pin() for name in releases.names(cell)}
    for name in asked:
        try:
            cell = releases.resolve(name)
        except CellError:
            continue  # another environment, or refused later with its reason
        if releases.is_off_pin(cell):
            _overrides[name] = releases.overrides(cell)
        if cell.builds or name in _overrides:
            cells[name] = cell
            _added.add(name)
    for name, cell in cells.items():
        own: dict[str, object] = {}
        if cell.builds:
            vllm = releases.candidate_of(cell, Project.VLLM)
            if vllm is not None and vllm.is_built:
                from matrix.run.built import check_sources  # few runs need what it imports

                check_sources(vllm)
                _built[name] = state.conf.core["work_dir"] / name / "tmp" / _BUILT
                requirements: Sequence[str] = (f"-r {_built[name]}",)
            else:
                requirements = releases.installs(cell)
            own = {"base": ["cell", "testenv"], "deps": _deps(state, requirements)}
        elif name in _overrides:
            own = {"base": ["off-pin", "cell", "testenv"]}
        loader = MemoryLoader(description=describe(cell, releases), **own)
        state.conf.memory_seed_loaders[name].append(loader)


def _deps(state: State, requirements: Sequence[str]) -> str:
    """Return what a cell of a candidate installs: what every cell does, and its own."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(state.conf.src_path, encoding="utf-8")
    return "\n".join([config.get("cell", "deps", fallback=""), *requirements])


def _build(tox_env: ToxEnv) -> None:
    """Build the vLLM of a cell, and write what the cell installs. Raises Fail where that fails."""
    from matrix.checks.vllm_build.candidate import build_candidate
    from matrix.run.built import NotBuiltError, built_requirements

    cell_name = tox_env.name
    at_first = signal.getsignal(signal.SIGINT)

    def say(line: str) -> None:
        # After Ctrl-C tox ignores the signal, and waits for this thread.
        if signal.getsignal(signal.SIGINT) is not at_first:
            raise SystemExit(130)
        print(f"matrix: {line}", flush=True)

    try:
        releases = load_releases()
        requirements = built_requirements(
            releases.resolve(cell_name),
            releases,
            python=cast("Python", tox_env).env_python(),
            platform=_options["platform"],
            say=say,
            build=build_candidate,
        )
        write_text(_built[cell_name], "".join(f"{line}\n" for line in requirements))
    except NotBuiltError as error:
        _unbuilt[cell_name] = error.error
        raise Fail(str(error)) from error
    except MatrixError as error:
        raise Fail(str(error)) from error
    finally:
        if not _built[cell_name].is_file():
            _remove_empty(tox_env)


def _say_that_it_installs(tox_env: ToxEnv) -> None:
    """Say what a cell's environment takes, and every ten seconds that tox is still at it."""
    if tox_env.name in _installing or not _CELL.fullmatch(tox_env.name):
        return
    from matrix.report.run_progress import installing_words, whole_install_words
    from matrix.run.environments import (
        LINKED_MIB,
        Environments,
        is_whole,
        needs_mib,
        seconds_for,
        uv_cache,
    )
    from matrix.run.installing import Installing

    def say(words: str) -> None:
        print(f"matrix: {tox_env.name}: {words}", flush=True)

    if not is_whole(tox_env.env_dir):
        environments = Environments(folder=tox_env.env_dir.parent, cache=uv_cache())
        mib = needs_mib(load_releases().resolve(tox_env.name), environments.linked())
        takes = whole_install_words(mib, seconds_for(mib), linked=mib == LINKED_MIB)
        say(f"makes its environment: {takes}")
    _installing[tox_env.name] = Installing(tox_env.env_dir, say, installing_words)


def _installs_no_more(tox_env: ToxEnv) -> None:
    if (installing := _installing.get(tox_env.name)) is not None:
        installing.end()


def _install_as_beside(tox_env: ToxEnv) -> None:
    """Install a torch candidate, and all else as an environment of the same vLLM has it.

    Without such an environment, with -r, or where uv refuses, it prints nothing: tox installs next,
    and what is there already is only compared with what is asked for.
    """
    if not is_candidate(factors(tox_env.name).torch) or tox_env.options.recreate:
        return
    from matrix.run.neighbour import CHOOSES, find_neighbour

    has_torch = (cast("Python", tox_env).env_site_package_dir() / "torch").exists()
    if has_torch or any(os.environ.get(name) for name in CHOOSES):
        return
    try:
        releases = load_releases()
        cell = releases.resolve(tox_env.name)
        candidate = releases.candidate_of(cell, Project.TORCH)
        beside = find_neighbour(cell, releases, tox_env.core["work_dir"])
        if candidate is None or beside is None:
            return
        pins = tox_env.conf["env_tmp_dir"] / _PINS
        write_text(pins, "".join(f"{pin}\n" for pin in beside.pins))
        files = candidate.requirements(cell.python)
    except MatrixError:
        return  # tox's own installation says what is wrong
    wanted = [word for line in tox_env.conf["deps"].lines() for word in _words(line)]
    steps = {
        "install_candidate": ("--no-deps", *files),
        "install_as_beside": ("--offline", "-c", str(pins), *wanted),
    }
    uv = cast("Any", tox_env.installer).uv
    for name, arguments in steps.items():
        done = tox_env.execute([uv, "pip", "install", *arguments], StdinSource.OFF, run_id=name)
        if done.exit_code:
            return
    print(
        f"matrix: {tox_env.name}: packages as in {beside.name}, which has the same vLLM;"
        " tox -r asks the index"
    )


def _share_bytecode(tox_env: ToxEnv) -> None:
    """Give an environment that was just made the bytecode which another one has of its files."""
    site = cast("Python", tox_env).env_site_package_dir()
    if (site / "vllm" / "__pycache__").exists() or not (site / "vllm").is_dir():
        return
    from matrix.run.bytecode import share_bytecode
    from matrix.run.neighbour import sites_beside

    with contextlib.suppress(MatrixError):
        releases = load_releases()
        cell = releases.resolve(tox_env.name)
        share_bytecode(site, sites_beside(cell, releases, tox_env.core["work_dir"]))


def _words(line: str) -> Sequence[str]:
    """Return a line of requirements as arguments of uv."""
    line = line.strip()
    return ("-r", line[2:].strip()) if line.startswith("-r") else ((line,) if line else ())


def _note_published(tox_env: Python) -> None:
    """Note which files of the index the releases of a cell are; say once where that fails."""
    from matrix.run.published import note_published  # it imports the client of an index

    try:
        releases = load_releases()
        cell = releases.resolve(tox_env.name)
        projects = [name for name in Project if releases.candidate_of(cell, name) is None]
        site = tox_env.env_site_package_dir()
        note_published(tox_env.env_dir, site, cell.python, projects)
    except MatrixError as error:
        if not _unnoted:
            print(f"matrix: records lack the index of torch and vLLM: {error}", file=sys.stderr)
        _unnoted.add(tox_env.name)


def _remove_empty(tox_env: ToxEnv) -> None:
    """Remove an environment whose vLLM was not built, unless it has packages of before."""
    if not any(tox_env.env_dir.glob("lib/python*/site-packages/*.dist-info")):
        # tox holds the lock until it ends.
        ensure_empty_dir(tox_env.env_dir, except_filename="file.lock")


def _overrides_path(env_conf: EnvConfigSet, core: ConfigSet) -> str:
    # Seen from where tox starts uv, which takes a space in UV_OVERRIDE for the end of a path.
    path = os.path.relpath(str(env_conf["env_tmp_dir"] / _OVERRIDES), str(core["tox_root"]))
    if " " in path:
        _refuse(
            f"{path!r} has a space, and uv reads no overrides from there; choose another --workdir"
        )
    return path


def _names_none(arguments: Sequence[str]) -> bool:
    """Return whether the command line has a -e whose value is empty."""
    own = [*itertools.takewhile(lambda argument: argument != "--", arguments), None]
    values = [value for flag, value in itertools.pairwise(own) if flag == "-e"]
    values += [argument[2:] for argument in own if argument and argument.startswith("-e=")]
    return any(value is not None and not value.strip("=, ") for value in values)


def _why_unknown(name: str, known: set[str]) -> str:
    if _CELL_LIKE.search(name):
        try:
            load_releases().resolve(name)
        except MatrixError as error:
            return str(error)
        return f"tox.ini lacks the environment {name!r} of a known cell; run `matrix sync`"
    message = f"no environment has the name {name!r}; tox list shows them all"
    return suggested(message, name, known)


def _refuse(reason: str) -> None:
    print(f"matrix: {reason}", file=sys.stderr)
    raise SystemExit(2)


def _last_failure(logs: Path) -> str | None:
    """Return the output of the last command if it failed; tox logs each command of a run."""
    numbered = {
        int(number): log
        for log in logs.glob("*.log")
        if (number := log.name.split("-")[0]).isdecimal()
    }
    if not numbered:
        return None
    last = numbered[max(numbered)].read_text(encoding="utf-8", errors="replace")
    command, _, rest = last.partition("\nexit_code: ")
    code, _, output = rest.partition("\n")
    return output.replace("\nstandard error:\n", "\n") if command and code != "0" else None
