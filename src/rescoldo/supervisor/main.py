"""The start of a platform: `python -m rescoldo.supervisor.main SETTINGS_FILE`, or `rescoldo serve`.

Checks all that may be wrong while somebody still reads the answer, takes the lock, binds the sockets between the
platform's parts, and becomes the guardian of a supervisor.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from rescoldo.edge import certificate, config, process
from rescoldo.isolation.identity import level
from rescoldo.isolation.syscalls import become_subreaper
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.settings import Settings
from rescoldo.node.sockets.fence import gate_address, put_up
from rescoldo.supervisor import place
from rescoldo.supervisor.guardian import become_guardian
from rescoldo.supervisor.held_descriptors import SETTINGS, in_memory
from rescoldo.supervisor.parts import silence, supervisor_command
from rescoldo.supervisor.sockets import bind, bind_address


def run(settings: Settings) -> int:
    """Serve in the foreground, as another program in this process; raises RescoldoError when it cannot start."""
    if os.geteuid() == 0 and level() != "full":
        raise InvalidInput(
            "root may not make namespaces here (or Linux is older than 5.12), and functions never run as root: start "
            "it as another user"
        )
    lock = place.prepare(settings)
    try:
        place.check_address(settings.gateway, "--gateway-address")
        gateway = bind_address(settings.gateway)
        place.check_address(settings.metrics, "--metrics-address")  # which may be the gateway's, too
        if settings.redirect is not None:
            place.check_address(settings.redirect, "--redirect-address")
        path = config.write(settings, config.slot_count(settings))
        certificate.install(settings)
        if said := certificate.warning(settings):
            print(f"rescoldo: {said}", file=sys.stderr)
        process.check(process.binary_for(settings), path)
        sockets = {
            "wake": bind(settings.wake_socket, for_edge=True),
            "api": bind(settings.api_socket, for_edge=True),
            "log": bind(settings.log_socket, for_edge=True),
            "node": bind(settings.node_socket, for_edge=False),
            "gateway": gateway,
            "metrics": bind_address(settings.metrics),
        }
        if settings.redirect is not None:
            sockets["redirect"] = bind_address(settings.redirect)
        become_subreaper()
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        # many systems begin with 1,024, which is for programs that use select(); instances get a limit of their own
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        inside = bind_address(f"{gate_address(settings)}:0") if level() == "full" else None
        fence = put_up(settings, inside)
        if inside is not None and fence is not None:
            sockets["inside"] = inside
        elif inside is not None:
            inside.close()  # nothing would keep others from it
        kept = {"lock": [lock.fileno()]} | {name: [sock.fileno()] for name, sock in sockets.items()}
        if fence is not None:
            kept["fence"] = list(fence.descriptors)
        settings.save(settings.record)
        kept[SETTINGS] = [in_memory(settings)]
        sys.stdout.flush()
        sys.stderr.flush()
        become_guardian(silence(settings), supervisor_command(settings), kept)
    except OSError as error:
        raise RescoldoError(f"the platform cannot be started: {error}") from error
    finally:
        lock.close()


def main() -> int:
    try:
        return run(Settings.load(Path(sys.argv[1])))
    except RescoldoError as error:
        print(f"rescoldo: {error.message}", file=sys.stderr, flush=True)
        return os.EX_CONFIG


if __name__ == "__main__":
    sys.exit(main())
