"""The programs of a platform: how to start and probe edge, node and controller."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rescoldo.edge import certificate, config, process
from rescoldo.edge.draining import STARTS_DRAINING
from rescoldo.handover import handed_over
from rescoldo.model.settings import Settings
from rescoldo.node.output.printer import PRINTED
from rescoldo.node.processes.kept_listeners import ENDS
from rescoldo.node.sockets.fence import FENCED
from rescoldo.supervisor.child import Part
from rescoldo.supervisor.guardian import DRAINING
from rescoldo.supervisor.modules import CONTROLLER, NODE, SUPERVISOR
from rescoldo.supervisor.probes import Probe
from rescoldo.supervisor.sockets import ACCEPTED_BY, edge_environment

EDGE_GRACE = 5.0  # seconds for requests in flight when the platform stops
CONTROLLER_GRACE = 10.0
NODE_GRACE = 15.0
# sockets that the edge accepts on; "redirect" exists only with --redirect-address, "gateways_tls" only with
# --gateways-tls-address, "inside" only with a fence
FUNCTION_LINES = "function lines"  # name of the descriptor to which the node prints functions' lines
FORKS = "forks"  # name of the pair of `KeptListeners`
GATES = ("gateway", "metrics", "redirect", "gateways_tls", "inside")


SocketTable = Mapping[str, Sequence[int]]  # descriptors by name


def parts_with(settings: Settings, table: SocketTable) -> dict[str, Part]:
    """Edge, node and controller by name, with the present listening sockets of `table`."""
    gates = {name: table[name][0] for name in GATES if name in table}
    listeners = {name: table[name][0] for name in ACCEPTED_BY}
    node = listeners.pop("node")
    parts = (
        edge_part(settings, gates, draining=DRAINING in table),
        node_part(settings, node, table.get("fence", ()), table.get(FUNCTION_LINES, ()), table.get(FORKS, ())),
        controller_part(settings, listeners),
    )
    return {part.name: part for part in parts}


def edge_part(settings: Settings, gates: Mapping[str, int], *, draining: bool = False) -> Part:
    """The edge. A new process knows no routes and holds every request until the controller has sent them. `gates`: the
    sockets of GATES that exist, by name. `draining`: it says from its start on that the platform is leaving."""
    binary = process.binary_for(settings)

    def command() -> Sequence[str]:
        path = config.write(settings, config.slot_count(settings))
        certificate.restore(settings)
        return process.command(binary, path)

    probe = Probe(settings.admin_socket, b"show version\n")
    state = {STARTS_DRAINING: "1"} if draining else {}
    environment = {**process.environment(binary), **edge_environment(gates), **state}
    return Part("edge", command, environment, tuple(gates.values()), _worth_showing, probe, waits=False)


def edge_reload(settings: Settings, old_pid: int) -> list[str]:
    """The command of an edge that takes over from `old_pid`, with the configuration that the controller wrote."""
    return process.reload_command(process.binary_for(settings), config.config_file(settings), settings, old_pid)


def node_part(
    settings: Settings,
    listener: int,
    fence: Sequence[int] = (),
    printed: Sequence[int] = (),
    forks: Sequence[int] = (),
) -> Part:
    """The node. `fence`: descriptors that keep the fence around instances' ports up. The node holds them, too, so that
    the fence survives when guardian and supervisor are both killed. `printed`: one to which it prints functions' lines,
    or none. `forks`: the pair that keeps listeners for forks, or none."""
    environment = {"RESCOLDO_LISTEN_FD": str(listener), **handed_over(dict(zip(ENDS, forks, strict=False)))}
    if fence:
        environment[FENCED] = "1"
    if printed:
        environment[PRINTED] = str(printed[0])
    return Part(
        "node",
        lambda: _python(NODE, settings),
        environment,
        (listener, *fence, *printed, *forks),
        probe=Probe(settings.node_socket, b'{"id": 0, "op": "ping"}\n'),
    )


def controller_part(settings: Settings, listeners: Mapping[str, int]) -> Part:
    """The controller. `listeners`: its sockets wake, api and log."""
    return Part(
        "controller",
        lambda: _python(CONTROLLER, settings),
        handed_over(listeners),
        tuple(listeners.values()),
        probe=Probe(settings.api_socket, b"GET /healthz HTTP/1.0\r\n\r\n"),
    )


def supervisor_command(settings: Settings) -> list[str]:
    """The command that a guardian runs."""
    return _python(SUPERVISOR, settings)


def silence(settings: Settings) -> float:
    """Seconds of silence after which guardian and supervisor consider each other dead."""
    return 2 * settings.probe_timeout


def _python(module: str, settings: Settings) -> list[str]:
    # leftovers.py identifies the platform's processes by the path of the settings
    return [sys.executable, "-m", module, str(settings.settings_file)]


# HAProxy reports these as alerts, although a removed server and a held client that leaves are routine
_ROUTINE = ("has no server available", "yield not allowed")


def _worth_showing(line: str) -> bool:
    """Whether to show a line of HAProxy: it writes one for each server added or removed, and only errors matter."""
    return "[ALERT]" in line and not any(text in line for text in _ROUTINE)
