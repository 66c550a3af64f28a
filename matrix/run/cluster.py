"""A cluster of Ray: joined or started here, its nodes as machines, and the project on them.

The one place, with `matrix.run.ray_engine`, that imports Ray, and only when it is used.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from matrix._util.scratch import Scratch
from matrix._util.text import clean, clip
from matrix.errors import MatrixError
from matrix.record import provenance
from matrix.run import node_work
from matrix.run.machine import Machine
from matrix.run.task import Present

Module: TypeAlias = Any
"""Ray itself, which is imported late."""

_TREE = (
    *("matrix", "tests/startup", "pyproject.toml", "tox.ini", "toxfile.py"),
    *("README.md", "LICENSE"),
)
_CANDIDATES = "candidates.toml"
_CONNECT = 5.0  # seconds for a port to answer
_LOOK = 120.0  # seconds for a node to say what it has: its first worker imports the project
_WHY = 300  # characters of an error of Ray


class ClusterError(MatrixError):
    """A cluster that cannot be used: it does not answer, or no node of it can run a cell."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of the cluster: its number in Ray, what runs may take of it, and what it has built."""

    id: str
    machine: Machine
    present: tuple[Present, ...]
    accelerator: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster that answers. `environment` is what workers of Ray get: the project, variables."""

    ray: Module
    environment: dict[str, object]

    def alive(self) -> frozenset[str]:
        """Return the numbers of the nodes that live."""
        return frozenset(node["NodeID"] for node in self.ray.nodes() if node["Alive"])

    def on(self, node: str) -> object:
        """Return the strategy that has a task run on a node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node_id=node, soft=False)


def _ray() -> Module:
    """Import Ray. Raises ClusterError where it is not installed."""
    # Tasks of no GPU must not hide those of the machine: a cell's own variables say what it sees.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ClusterError(
            "--engine ray: Ray is not installed; pip install 'torch-vllm-matrix[ray]'"
        ) from None
    return ray


@contextlib.contextmanager
def joined(root: Path, address: str | None) -> Iterator[Cluster]:
    """Join the cluster at an address, or start one on this machine alone; leave it at the end.

    `root` is the checkout that its nodes get a copy of. Raises ClusterError where there is no
    cluster, or one of another Ray.
    """
    ray = _ray()
    if address is not None:
        _check_answers(address)
    with Scratch("project") as folder:
        environment = _environment(root, folder / "project")
        try:
            ray.init(
                address=address or "local",
                runtime_env=environment,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level="error",
                configure_logging=True,
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ClusterError(_why_not(address, error)) from None
        try:
            yield Cluster(ray=ray, environment=environment)
        finally:
            ray.shutdown()


def nodes_of(cluster: Cluster, names: Sequence[str] = ()) -> tuple[list[Node], list[str]]:
    """Return the nodes that can run cells, and of each other that lives why it cannot.

    `names` has the numbers of the nodes that are asked; empty for all.
    """
    ray = cluster.ray
    look = ray.remote(_look)
    asked = {}
    for about in ray.nodes():
        if about["Alive"] and (not names or about["NodeID"] in names):
            name = f"{about['NodeManagerAddress']}-{about['NodeID'][:6]}"
            strategy = cluster.on(about["NodeID"])
            options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": strategy}
            asked[look.options(**options).remote(name)] = (about, name)
    ready, late = (
        ray.wait(list(asked), num_returns=len(asked), timeout=_LOOK) if asked else ([], [])
    )
    found, unfit = [], [f"{asked[ref][1]}: does not answer" for ref in late]
    for ref in ready:
        about, name = asked[ref]
        try:
            seen = node_work.Seen.of(ray.get(ref))
        except ray.exceptions.RayError as error:
            unfit.append(f"{name}: {short(error)}")
            continue
        machine = _within(seen.machine, about["Resources"])
        if not seen.tox:
            unfit.append(f"{name}: has no tox; pip install 'torch-vllm-matrix[ray]' there")
        elif machine.cores < 1:
            unfit.append(f"{name}: offers no core to Ray")
        else:
            found.append(
                Node(
                    id=about["NodeID"],
                    machine=machine,
                    present=seen.present,
                    accelerator=_accelerator(about["Resources"]),
                )
            )
    return sorted(found, key=lambda node: node.machine.name), sorted(unfit)


def short(error: BaseException) -> str:
    """Return an error of Ray in one line: its last line, which names the cause."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if not line.startswith((" ", "\x1b", "The actor"))]
    text = (named or lines or [type(error).__name__])[-1]
    return clip(clean(text), _WHY)


def _look(name: str) -> str:
    """Return what a node has: this runs there."""
    return node_work.look(name).text()


def _within(machine: Machine, resources: dict[str, float]) -> Machine:
    """Return what a node has without what its Ray does not offer."""
    gpus = int(resources.get("GPU", 0))
    return replace(
        machine,
        cores=min(machine.cores, int(resources.get("CPU", 0))),
        memory_mib=min(machine.memory_mib, int(resources.get("memory", 0)) >> 20),
        gpus=machine.gpus[:gpus],
    )


def _accelerator(resources: dict[str, float]) -> str | None:
    """Return the kind of a node's GPUs, as Ray calls it."""
    mark = "accelerator_type:"
    return next((name.removeprefix(mark) for name in resources if name.startswith(mark)), None)


def _environment(root: Path, tree: Path) -> dict[str, object]:
    """Copy of the checkout what cells need, and return what workers of Ray get."""
    tree.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
    for name in _TREE:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=ignored)
        elif source.is_file():
            shutil.copyfile(source, tree / name)
    provenance.note_commit(tree, provenance.commit(root))
    variables = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    candidates = os.environ.get("MATRIX_CANDIDATES")
    own = Path(candidates) if candidates else root / _CANDIDATES
    if own.is_file():
        shutil.copyfile(own, tree / _CANDIDATES)
    return {"working_dir": str(tree), "env_vars": variables}


def _check_answers(address: str) -> None:
    """Raise ClusterError where nothing listens at an address that names a host and a port.

    Ray itself would try for a minute, and say more than a line.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdecimal() or not host or int(port) > 65535:
        raise ClusterError(f"--address {address}: is no address; write host:port, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT).close()
    except OSError as error:
        raise ClusterError(
            f"--address {address}: no cluster answers there ({error.strerror or error}); start one"
            " by `ray start --head`, or leave --address out"
        ) from None


def _why_not(address: str | None, error: Exception) -> str:
    text = " ".join(str(error).split())
    where = f"--address {address}" if address else "--engine ray"
    if "ersion mismatch" in text:
        return f"{where}: runs another Ray or Python: {clip(clean(text), _WHY)}"
    return f"{where}: no cluster: {clip(clean(text), _WHY)}"
