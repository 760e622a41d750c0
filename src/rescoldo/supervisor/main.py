"""Starts a platform: `python -m rescoldo.supervisor.main SETTINGS_FILE`, or `rescoldo serve`.

Checks everything while the user still sees the error, takes the lock, binds the listening sockets, and becomes the
guardian of a supervisor.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from rescoldo.edge import certificate, config, process
from rescoldo.isolation.landlock import DEVICES, SYSTEM, pin
from rescoldo.isolation.level import level, obstacle
from rescoldo.isolation.syscalls import become_subreaper
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.settings import Settings
from rescoldo.node.processes.kept_listeners import make_pair
from rescoldo.node.sockets.fence import gate_address, put_up
from rescoldo.supervisor import place
from rescoldo.supervisor.guardian import become_guardian
from rescoldo.supervisor.held_descriptors import SETTINGS, in_memory
from rescoldo.supervisor.parts import FORKS, FUNCTION_LINES, silence, supervisor_command
from rescoldo.supervisor.sockets import bind_address, listen_between_parts
from rescoldo.supervisor.worker import check_worker


def run(settings: Settings) -> int:
    """Serve in the foreground: this process becomes the guardian. Raises RescoldoError when the platform cannot
    start."""
    if os.geteuid() == 0 and (failure := obstacle()):
        raise InvalidInput(
            f"root cannot give functions users and roots of their own here ({failure}), and functions never run as "
            "root: start rescoldo as another user; or let it, by CAP_SYS_ADMIN, the usual capabilities of a container, "
            "profiles of seccomp and AppArmor that allow mounts and namespaces, and Linux 5.12"
        )
    if settings.join is not None:
        check_worker(settings)
    lock = place.prepare(settings)
    try:
        sockets = _listen_at_addresses(settings)
        _prepare_edge(settings)
        sockets |= listen_between_parts(settings)
        inside, fence = _put_up_fence(settings)
        sockets |= inside
        _lift_descriptor_limit()
        become_subreaper()
        settings.save(settings.record)
        kept = {"lock": [lock.fileno()], "fence": list(fence), SETTINGS: [in_memory(settings)]}
        if settings.log_functions:
            kept[FUNCTION_LINES] = [os.dup(1)]
        if level() != "full":
            kept["rules"] = pin((*SYSTEM, *DEVICES))  # those of all instances
            kept[FORKS] = [end.detach() for end in make_pair()]
        kept |= {name: [sock.fileno()] for name, sock in sockets.items()}
        sys.stdout.flush()  # exec would discard Python's buffers
        sys.stderr.flush()
        become_guardian(silence(settings), supervisor_command(settings), kept)
    except OSError as error:
        raise RescoldoError(f"the platform cannot be started: {error}") from error
    finally:
        lock.close()


def _listen_at_addresses(settings: Settings) -> dict[str, socket.socket]:
    """Listen on each address before the next one is checked: two flags may name the same address."""
    wanted = {
        "gateway": (settings.gateway, "--gateway-address"),
        "metrics": (settings.metrics, "--metrics-address"),
        "redirect": (settings.redirect, "--redirect-address"),
        "gateways_tls": (settings.gateways_tls, "--gateways-tls-address"),
    }
    sockets = {}
    for name, (address, flag) in wanted.items():
        if address is not None:
            place.check_address(address, flag)
            sockets[name] = bind_address(address)
    return sockets


def _prepare_edge(settings: Settings) -> None:
    """Write the edge's configuration and certificate, and have HAProxy check both."""
    path = config.write(settings, config.slot_count(settings))
    certificate.install(settings)
    if said := certificate.warning(settings):
        print(f"rescoldo: {said}", file=sys.stderr)
    process.check(process.binary_for(settings), path)


def _put_up_fence(settings: Settings) -> tuple[dict[str, socket.socket], Sequence[int]]:
    """The listener for instances, as "inside", and the descriptors of the fence around it. Without a fence there is no
    listener: nothing else would keep other users from it. A worker has none: its functions call their cluster's
    gateway."""
    if level() != "full":
        return {}, ()
    if settings.join is not None:
        fence = put_up(settings)
        return {}, () if fence is None else fence.descriptors
    inside = bind_address(f"{gate_address(settings)}:0")
    fence = put_up(settings, inside)
    if fence is None:
        inside.close()
        return {}, ()
    return {"inside": inside}, fence.descriptors


def _lift_descriptor_limit() -> None:
    """Raise the soft limit to the hard one: many systems start with 1,024, for programs that use select(). Instances
    get a limit of their own."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    """Serve the platform of the settings file in the first argument."""
    try:
        return run(Settings.load(Path(sys.argv[1])))
    except RescoldoError as error:
        print(f"rescoldo: {error.message}", file=sys.stderr, flush=True)
        return os.EX_CONFIG


if __name__ == "__main__":
    sys.exit(main())
