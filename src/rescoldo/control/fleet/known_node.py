"""The node's description, known without asking at each deployment."""

from __future__ import annotations

from rescoldo.control.fleet.outages import outlast
from rescoldo.node.protocol import Node, NodeDescription


class KnownNode:
    """Keeps a node's description; read at the controller's start and whenever another node process answers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._description: NodeDescription | None = None

    async def ask(self) -> None:
        """Read the description; wait out a restart of the node."""
        self._description = await outlast(self._node.describe)

    @property
    def description(self) -> NodeDescription:
        """The latest description. Call `ask` first."""
        assert self._description is not None
        return self._description

    @property
    def level(self) -> str:
        """The isolation level of its instances: "full" or "unprivileged"; empty if the node does not say."""
        return self.description.isolation.get("level", "")
