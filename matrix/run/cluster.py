"""A cluster of Ray: joined or started here, its nodes as machines, and the project on them.

The one place, with `matrix.run.ray_engine`, that imports Ray, and only when it is used.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from matrix._util.scratch import Scratch
from matrix._util.text import clean, clip, pip_install
from matrix.errors import MatrixError
from matrix.record import provenance
from matrix.run import node_work
from matrix.run.here import Hardware
from matrix.run.limits import Limits
from matrix.run.machine import Machine
from matrix.run.task import Present

Module: TypeAlias = Any
"""Ray itself, which is imported late."""

_TREE = (
    *("matrix", "tests/startup", "pyproject.toml", "hatch_build.py", "tox.ini", "toxfile.py"),
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
    """A node of the cluster: its number in Ray, what runs may take of it, and what it has built.

    `linked`, `pythons`, `processor` and `driver` are as in `NodeInventory`.
    """

    id: str
    machine: Machine
    present: tuple[Present, ...] = ()
    linked: frozenset[tuple[str, str]] = frozenset()
    pythons: frozenset[str] | None = None
    accelerator: str | None = None
    processor: str | None = None
    driver: str | None = None

    @property
    def hardware(self) -> Hardware:
        """Return what is in the key of a record of this node."""
        gpus = frozenset(gpu.name for gpu in self.machine.gpus)
        return Hardware(machine=self.processor, gpus=gpus, driver=self.driver)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster that answers. `limits` are what runs may take of each of its nodes at most.

    `asked` are the numbers of the nodes that were asked what they have.
    """

    ray: Module
    limits: Limits = field(default_factory=Limits)
    asked: set[str] = field(default_factory=set)

    def alive(self) -> frozenset[str]:
        """Return the numbers of the live nodes."""
        return frozenset(node["NodeID"] for node in self.ray.nodes() if node["Alive"])

    def here(self) -> str:
        """Return the number of the node that this process joined by."""
        return str(self.ray.get_runtime_context().get_node_id())

    def on(self, node: str) -> object:
        """Return the strategy that has a task run on a node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node_id=node, soft=False)


def _ray() -> Module:
    """Import Ray. Raises ClusterError if it is not installed."""
    # Tasks of no GPU must not hide those of the machine: a cell's own variables say what it sees.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ClusterError(f"--engine ray: Ray is not installed; {pip_install('ray')}") from None
    return ray


@contextlib.contextmanager
def joined(root: Path, address: str | None, limits: Limits | None = None) -> Iterator[Cluster]:
    """Join the cluster at an address, or start one on this machine alone; leave it at the end.

    `root` is the checkout that its nodes get a copy of. Raises ClusterError if there is no
    cluster, or one of another Ray.
    """
    if address is not None:
        _check_answers(address)
    ray = _ray()
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
            ray.shutdown()  # one that was refused may have begun to connect
            raise ClusterError(_why_not(address, error)) from None
        try:
            yield Cluster(ray=ray, limits=limits or Limits())
        finally:
            ray.shutdown()


class NodeLook:
    """A look at nodes of a cluster: what each has. Their answers come after some seconds."""

    def __init__(self, cluster: Cluster, names: Collection[str] = ()) -> None:
        """Ask the nodes of these numbers; all live nodes if none is named."""
        self._cluster = cluster
        self._asked: dict[object, tuple[Mapping[str, Any], str]] = {}
        look = cluster.ray.remote(_look)
        for about in cluster.ray.nodes():
            if about["Alive"] and (not names or about["NodeID"] in names):
                name = f"{about['NodeManagerAddress']}-{about['NodeID'][:6]}"
                strategy = cluster.on(about["NodeID"])
                options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": strategy}
                cluster.asked.add(about["NodeID"])
                self._asked[look.options(**options).remote(name)] = (about, name)

    def answers(self, seconds: float = 0.0) -> tuple[list[Node], list[str]]:
        """Wait so long for the answers that are left; return those that came.

        They are the nodes that can run cells, and of each other why it cannot.
        """
        ray = self._cluster.ray
        asked = list(self._asked)
        if not asked:
            return [], []
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=seconds)
        found: list[Node] = []
        unfit: list[str] = []
        for ref in ready:
            about, name = self._asked.pop(ref)
            try:
                seen = node_work.NodeInventory.of(ray.get(ref))
            except ray.exceptions.RayError as error:
                unfit.append(f"{name}: {short(error)}")
                continue
            node = _node(about, seen, self._cluster.limits)
            if (why := _why_unfit(node, seen)) is None:
                found.append(node)
            else:
                unfit.append(f"{name}: {why}")
        return sorted(found, key=lambda node: node.machine.name), sorted(unfit)

    def late(self) -> list[str]:
        """Return the names of the nodes that did not answer."""
        return sorted(name for _, name in self._asked.values())


def nodes_of(cluster: Cluster) -> tuple[list[Node], list[str]]:
    """Return the nodes that can run cells, and why each other live node cannot."""
    look = NodeLook(cluster)
    found, unfit = look.answers(_LOOK)
    return found, unfit + [f"{name}: does not answer for {_LOOK:.0f} s" for name in look.late()]


def _node(about: Mapping[str, Any], seen: node_work.NodeInventory, limits: Limits) -> Node:
    return Node(
        id=about["NodeID"],
        machine=_within(seen.machine, about["Resources"], limits),
        present=seen.present,
        linked=seen.linked,
        pythons=seen.pythons,
        accelerator=_accelerator(about["Resources"]),
        processor=seen.processor,
        driver=seen.driver,
    )


def _why_unfit(node: Node, seen: node_work.NodeInventory) -> str | None:
    """Return why no cell can run on a node; None if one may."""
    if not seen.tox:
        return f"has no tox; {pip_install('ray')} there"
    if node.machine.cores < 1:
        return "offers no core"
    return None


def short(error: BaseException) -> str:
    """Return an error of Ray in one line: its last line, which names the cause."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if not line.startswith((" ", "\x1b", "The actor"))]
    text = (named or lines or [type(error).__name__])[-1]
    return clip(clean(text), _WHY)


def _look(name: str) -> str:
    """Return what a node has: this runs there."""
    return node_work.look(name).text()


def _within(machine: Machine, resources: Mapping[str, float], limits: Limits) -> Machine:
    """Return what a node has without what its Ray does not offer, within the limits."""
    gpus = machine.gpus[: int(resources.get("GPU", 0))]
    limited = (
        (machine.cores, int(resources.get("CPU", 0)), limits.cores),
        (machine.memory_mib, int(resources.get("memory", 0)) >> 20, limits.memory_mib),
        (machine.disk_mib, limits.disk_mib),
    )
    cores, memory, disk = (min(number for number in of if number is not None) for of in limited)
    return replace(machine, cores=cores, memory_mib=memory, disk_mib=disk, gpus=gpus[: limits.gpus])


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
    """Raise ClusterError if nothing listens at an address that names a host and a port.

    Ray itself would try for a minute, and say more than a line.
    """
    if address == "auto":
        return
    if "://" in address:
        raise ClusterError(
            f"--address {address}: is not the address of a cluster's head; run this on a node, and"
            " write host:port, or auto"
        )
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not host or int(port) > 65535:
        raise ClusterError(f"--address {address}: is not an address; write host:port, or auto")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT) as connection:
            why = None if _is_grpc(connection) else "the program that listens there is not Ray"
    except OSError as error:
        why = error.strerror or str(error)
    if why is not None:
        raise ClusterError(
            f"--address {address}: no cluster answers there ({why}); start one by `ray start"
            " --head`, or leave --address out"
        )


def _is_grpc(connection: socket.socket) -> bool:
    """Return whether who listens speaks gRPC, as Ray does: HTTP/2, whose first frame is SETTINGS.

    With TLS there is nothing to see before a handshake.
    """
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return True
    settings = bytes(3) + b"\x04" + bytes(5)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
    return connection.recv(9)[3:4] == b"\x04"


def _why_not(address: str | None, error: Exception) -> str:
    text = " ".join(str(error).split())
    where = f"--address {address}" if address else "--engine ray"
    if "ersion mismatch" in text:
        return f"{where}: runs another Ray or Python: {clip(clean(text), _WHY)}"
    if "No node info found" in text:
        return (
            f"{where}: this machine is not a node of that cluster; run this on one, or join it by"
            f" `ray start --address={address} --num-cpus=0`"
        )
    return f"{where}: no cluster: {clip(clean(text), _WHY)}"
