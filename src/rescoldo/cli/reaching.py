"""Finds the gateway of an installation from this machine, and saves its password for `rescoldo` and faas-cli."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rescoldo.cli.cluster import ClusterFlags
from rescoldo.cli.credentials import basic
from rescoldo.cli.forwarding import forwarded
from rescoldo.cli.gateway import Gateway

if TYPE_CHECKING:
    from rescoldo.install.reaching import Door
    from rescoldo.kube.protocol import Cluster

TRY_SECONDS = 3.0  # for an address that may not lead anywhere from here


@dataclass(frozen=True, slots=True)
class Access:
    """What a cluster says of the way to its gateway."""

    doors: tuple[Door, ...]
    user: str
    password: str

    @property
    def header(self) -> str:
        """The Authorization header."""
        return f"Basic {basic(self.user, self.password)}"

    def open_door(self) -> Door | None:
        """Return the first address that leads to a gateway from here; None if none does."""
        for door in self.doors:
            with Gateway(door.url, header=self.header, patience=TRY_SECONDS) as gateway:
                if gateway.answers(timeout=TRY_SECONDS):
                    return door
        return None


def find_access(cluster: ClusterFlags, system: str) -> Access:
    """Ask a cluster for the addresses and the password of its gateway. Raises RescoldoError."""
    from rescoldo.install.reaching import find_doors, read_login

    async def work(found: Cluster) -> Access:
        user, password = await read_login(found, system)
        return Access(tuple(await find_doors(found, system)), user, password)

    return cluster.run(work)


@dataclass(frozen=True, slots=True)
class Reached:
    """A gateway that this machine reaches."""

    gateway: Gateway
    lasting: bool  # it has an address of its own, and is not reached by a port that is forwarded for this command


@contextmanager
def reached(cluster: ClusterFlags, system: str, access: Access) -> Iterator[Reached]:
    """Reach the gateway at its own address, else by a forwarded port. Raises RescoldoError."""
    door = access.open_door()
    if door is not None:
        with Gateway(door.url, header=access.header) as gateway:
            yield Reached(gateway, lasting=True)
        return
    with forwarded(cluster, system) as forward, Gateway(forward.url, header=access.header) as gateway:
        yield Reached(gateway, lasting=False)
