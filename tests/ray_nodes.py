"""A cluster of Ray whose nodes are processes of this machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


class Nodes:
    """A head that runs nothing, and nodes of one core, each with a cache folder of its own."""

    def __init__(self, here: Path) -> None:
        from ray.cluster_utils import Cluster

        self.here = here
        head = {"num_cpus": 0, "include_dashboard": False}
        self.cluster = _tried(lambda: Cluster(initialize_head=True, head_node_args=head))
        self.nodes: list[Any] = []

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self, **variables: str) -> int:
        """Start a node, and return its number here."""
        number = len(self.nodes)
        own = {"MATRIX_CACHE": str(self.here / f"node{number}"), **variables}
        self.nodes.append(_tried(lambda: self.cluster.add_node(num_cpus=1, env_vars=own)))
        return number

    def number(self, machine: str) -> int:
        """Return which node a machine of the engine is: its name ends as the node's id begins."""
        start = machine.rpartition("-")[2]
        return next(n for n, node in enumerate(self.nodes) if node.node_id.startswith(start))

    def kill(self, number: int) -> None:
        """Kill the processes of a node."""
        self.cluster.remove_node(self.nodes[number], allow_graceful=False)

    def close(self) -> None:
        """End all nodes."""
        self.cluster.shutdown()


def _tried(start: Callable[[], Any]) -> Any:
    """Start a node; a machine that is busy needs longer than the half minute that Ray waits."""
    for _ in range(3):
        # Ray raises no narrower one.
        with suppress(Exception):
            return start()
    return start()
