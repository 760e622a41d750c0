"""Chooses each instance's endpoint: the only place of a node that reads a launch's `port` and `upstream` to do so."""

from __future__ import annotations

from dataclasses import dataclass

from rescoldo.isolation import netfence
from rescoldo.model.errors import StartFailed
from rescoldo.model.instance import Launch
from rescoldo.model.program import INHERITED, UNIX
from rescoldo.model.settings import Settings
from rescoldo.node.sockets.addresses import SHARED, tcp_address
from rescoldo.node.sockets.endpoint import Endpoint
from rescoldo.node.sockets.given_socket import GivenSocket
from rescoldo.node.sockets.program_port import ProgramPort
from rescoldo.node.sockets.program_socket import ProgramSocket


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Chooses the endpoints of a node's instances."""

    settings: Settings
    privileged: bool  # each instance has a uid of its own
    fenced: bool  # the network fence is up: each instance has TCP ports of its own

    def choose(self, launch: Launch, uid: int | None, adopted_at: str = "") -> Endpoint:
        """The endpoint of an instance, without any socket yet. `adopted_at`: the address of a running instance to
        adopt, which may have started when ports were shared. Raises StartFailed."""
        if launch.port:
            where = tcp_address(adopted_at) if adopted_at else None
            return ProgramPort(launch, self._host(uid) if where is None else where[0], uid if self.fenced else None)
        if launch.upstream != UNIX:
            return GivenSocket(self.settings.instances / f"{launch.instance}.sock", privileged=self.privileged)
        if uid is None:
            raise StartFailed(
                f"{launch.function}: `upstream_url: {UNIX}` needs a platform that runs as root; use "
                f"http://127.0.0.1:PORT, or {INHERITED} if the program can take over a socket"
            )
        return ProgramSocket(self.settings.program_sockets / launch.instance, uid)

    def _host(self, uid: int | None) -> str:
        """The host at which an instance binds its TCP ports."""
        return netfence.address_of(uid) if self.fenced and uid is not None else SHARED
