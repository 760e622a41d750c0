"""A fork of the zygote, from its first step to the function: it sets its sandbox up, rehearses, waits to be told which
instance it is, and becomes it.

One that is not waited for yet says so on its channel when it is ready. Over the channel it gets one message:
{"launch", "uid", "gid", "bundle" (its folder), "scratch"} with the descriptors [listener, standard output, standard
error, status pipe, one for each secret of the launch]. A program that binds its own socket has /dev/null for a
listener. The channel closing instead is its end.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from rescoldo.isolation.identity import limit_resources, reset_signals
from rescoldo.isolation.interpreter import CLEAN_PATH
from rescoldo.isolation.sandbox import Sandbox, Tenant
from rescoldo.isolation.syscalls import close_all_but, set_process_name
from rescoldo.model.instance import MAX_ORDER, Launch
from rescoldo.model.names import InstanceId, function_id, split_id
from rescoldo.runtime.starter import Starters, open_stream

PRACTICE = 20  # rounds of what forks do, before the fork: the interpreter specialises code that has run about ten times
REHEARSAL = os.path.join(os.path.dirname(__file__), "rehearsal")  # noqa: PTH118, PTH120 - a bundle to practise with
SPARE_NICE = 10  # until it is needed: wakes and calls go first
MOST_SECRETS = 100  # of one function; the kernel passes 253 descriptors in a message
DEPENDENCIES = "deps"  # folder of a bundle: what its requirements.txt asks for
_DESCRIPTORS = 4 + MOST_SECRETS


@dataclass(frozen=True, slots=True)
class Nest:
    """What every fork of a zygote has in common."""

    sandbox: Sandbox
    starters: Starters
    null: int  # /dev/null, open
    privileged: bool
    variables: Mapping[str, str]  # of the environment, where a function does not set its own


def be_spare(nest: Nest, sandbox: str, channel: socket.socket, *, urgent: bool, folder: int | None) -> int:
    """Live as a spare and then as an instance; return its exit code. `urgent`: it is waited for already, so nothing
    is done in advance. `folder`: descriptor of the folder for its program's Unix socket."""
    if nest.privileged and not urgent:  # the node takes it back; it could not from others
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + SPARE_NICE)
    os.setsid()
    os.dup2(nest.null, 0)
    reset_signals()
    nest.sandbox.prepare(sandbox, folder)
    close_all_but({channel.fileno()})
    os.umask(0o077)
    set_process_name("rescoldo-spare")
    if not urgent:
        rehearse_order()
        for rehearse in nest.starters.rehearsals:
            rehearse()
        channel.send(b"ready")
    message, descriptors, _, _ = socket.recv_fds(channel, MAX_ORDER, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    if not message:
        return 0  # the node has no use for it, or has ended
    channel.close()
    for descriptor in descriptors:  # recv_fds passes MSG_CMSG_CLOEXEC on only since Python 3.14
        os.set_inheritable(descriptor, False)
    return _become_instance(nest, message, descriptors)


def rehearse_order() -> None:
    """Write to what an order will write to, so that the pages are this process's own by then. The environment is
    changed."""
    launch = Launch(InstanceId("rehearsal"), function_id("rehearsal", "here"), "", env={"a": "b"})
    order = json.dumps({"launch": launch.to_json(), "uid": 1, "gid": 1, "bundle": "/", "scratch": "/tmp"})
    _environment(Launch.from_json(json.loads(order)["launch"]), "/", "/", "/tmp", "/tmp", {})
    limit_resources(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    open_stream(1)


def _become_instance(nest: Nest, message: bytes, descriptors: list[int]) -> int:
    listener, out, err, status, *secrets = descriptors
    for descriptor, number in ((out, 1), (err, 2)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    order = json.loads(message)
    launch = Launch.from_json(order["launch"])
    starter = nest.starters.by_kind[launch.kind]
    limit_resources(launch.max_files + launch.concurrency)
    bundle = order["bundle"]
    named = dict(zip(launch.secrets, secrets, strict=True))
    tenant = Tenant(order["uid"], order["gid"], bundle, _layer_of(bundle), order["scratch"], named, launch.port)
    place = nest.sandbox.finish(tenant)
    modules = f"{bundle}/{starter.imports}" if starter.imports else bundle
    environment = _environment(launch, bundle, modules, order["scratch"], place, nest.variables)
    os.chdir(bundle)
    return starter.start(launch, environment, listener, status)


def _layer_of(bundle: str) -> str:
    """Where the requirements of a bundle are, if they are a layer: the platform has linked it into the bundle."""
    try:
        return os.path.join(bundle, os.readlink(f"{bundle}/{DEPENDENCIES}"))  # noqa: PTH115, PTH118
    except OSError:
        return ""


def _environment(
    launch: Launch, bundle: str, modules: str, scratch: str, secrets: str, variables: Mapping[str, str]
) -> dict[str, str]:
    """The variables of a process; `variables` are the platform's. The Python on PATH is the one that this process is,
    without packages; PYTHONPATH names `modules`, the folder of the function's own, and those of the bundle, before what
    the function itself wants there, to all that is started."""
    name, namespace = split_id(launch.function)
    more = launch.env.get("PYTHONPATH")
    return {
        "PATH": f"{bundle}/{DEPENDENCIES}/bin:{os.path.dirname(sys.executable)}:{CLEAN_PATH}",  # noqa: PTH120
        "LANG": "C.UTF-8",
        "HOME": scratch,
        "TMPDIR": scratch,
        "secret_mount_path": secrets,
        **variables,
        **launch.env,
        "PYTHONPATH": f"{modules}:{bundle}/{DEPENDENCIES}" + (f":{more}" if more else ""),
        "OPENFAAS_NAME": name,
        "OPENFAAS_NAMESPACE": namespace,
    }
