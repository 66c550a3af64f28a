"""A cluster of Ray whose nodes are processes of this machine.

As a program (`tests/ray_nodes.py FOLDER NUMBER`) it prints the address, and kills each node that a
line of its input names; it ends with its input.
"""

from __future__ import annotations

import signal
import sys
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


def main(here: str, number: str) -> None:
    """Start the nodes, and kill those that are named."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    nodes = Nodes(Path(here))
    try:
        for _ in range(int(number)):
            nodes.add()
        print(nodes.address, flush=True)
        for line in sys.stdin:
            nodes.kill(nodes.number(line.strip()))
    finally:
        nodes.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
