"""A fork of the zygote, from its first step to the function: it sets up its sandbox, rehearses, waits for its order,
and becomes that instance.

A spare reports on its channel when it is ready, with the listener for its forks if it asks for them; an urgent fork
reports only in that case. The channel then delivers one message, the order: {"launch", "uid", "gid", "bundle" (its
folder), "scratch", "data" (bytes for `limit_data`; 0: no such limit)}
with the descriptors [listener, standard output, standard error, status pipe, one for each secret of the launch]. The
listener is /dev/null for a program that binds its own socket. If the channel closes instead, the fork ends.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from rescoldo.isolation.identity import limit_data, limit_resources, reset_signals
from rescoldo.isolation.interpreter import CLEAN_PATH
from rescoldo.isolation.landlock import pins
from rescoldo.isolation.sandbox import Sandbox, Tenant
from rescoldo.isolation.syscalls import close_all_but, set_process_name
from rescoldo.model.instance import MAX_ORDER, Launch
from rescoldo.model.names import InstanceId, function_id, split_id
from rescoldo.runtime.starter import Starters, open_stream

PRACTICE = 20  # rounds of rehearsal before the first fork: the interpreter specialises code after about ten runs
REHEARSAL = os.path.join(os.path.dirname(__file__), "rehearsal")  # noqa: PTH118, PTH120 - a bundle to practise with
SPARE_NICE = 10  # until a wake takes it, where instances have the platform's priority: wakes and calls go first
MOST_SECRETS = 100  # of one function; the kernel passes at most 253 descriptors in a message
DEPENDENCIES = "deps"  # the bundle's folder with the packages of its requirements.txt
_DESCRIPTORS = 4 + MOST_SECRETS


@dataclass(frozen=True, slots=True)
class Nest:
    """What all forks of a zygote share."""

    sandbox: Sandbox
    starters: Starters
    null: int  # an open descriptor of /dev/null
    priority: int  # the zygote's nice value
    nice: int  # by which instances' priority is lower
    yields: bool  # the node may raise a process's priority again, so spares' may be lower than instances'
    variables: Mapping[str, str]  # of the environment; a function's own values override them


def be_spare(nest: Nest, sandbox: str, channel: socket.socket, *, urgent: bool, folder: int | None) -> int:
    """Live as a spare and then as an instance; return its exit code.

    `urgent`: a wake waits for this fork already, so it does nothing in advance. `folder` is a descriptor of the folder
    for its program's Unix socket.
    """
    lower = nest.nice or (SPARE_NICE if nest.yields else 0)
    if lower and not urgent:
        os.setpriority(os.PRIO_PROCESS, 0, nest.priority + lower)
    os.setsid()  # else Ctrl-C in the platform's terminal would end it
    os.dup2(nest.null, 0)
    reset_signals()
    listener = nest.sandbox.prepare(sandbox, folder)
    listeners = () if listener is None else (listener,)
    close_all_but({channel.fileno(), *listeners, *pins()})
    os.umask(0o077)
    set_process_name("rescoldo-spare")
    if not urgent:
        rehearse_order()
        for rehearse in nest.starters.rehearsals:
            rehearse()
    if listeners or not urgent:
        socket.send_fds(channel, [b"ready"], listeners)
        for descriptor in listeners:  # no function may answer for itself
            os.close(descriptor)
    message, descriptors, _, _ = socket.recv_fds(channel, MAX_ORDER, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    if not message:
        return 0  # the node does not need it, or has ended
    channel.close()
    for descriptor in descriptors:  # only since Python 3.14 does recv_fds pass MSG_CMSG_CLOEXEC on
        os.set_inheritable(descriptor, False)
    return _become_instance(nest, message, descriptors)


def rehearse_order() -> None:
    """Write to the pages that an order will write to, so that this process already owns its copies. Changes the
    environment."""
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
    limit_resources(launch.max_files + launch.concurrency + len(pins()))
    if order["data"]:
        limit_data(order["data"], launch.concurrency)
    if nest.nice:
        os.setpriority(os.PRIO_PROCESS, 0, nest.priority + nest.nice)
    bundle = order["bundle"]
    named = dict(zip(launch.secrets, secrets, strict=True))
    tenant = Tenant(order["uid"], order["gid"], bundle, _layer_of(bundle), order["scratch"], named, launch.port)
    place = nest.sandbox.finish(tenant)
    modules = f"{bundle}/{starter.imports}" if starter.imports else bundle
    environment = _environment(launch, bundle, modules, order["scratch"], place, nest.variables)
    os.chdir(bundle)
    return starter.start(launch, environment, listener, status)


def _layer_of(bundle: str) -> str:
    """Return the folder of a bundle's requirements if they are a layer (then the platform has linked it into the
    bundle); empty otherwise."""
    try:
        return os.path.join(bundle, os.readlink(f"{bundle}/{DEPENDENCIES}"))  # noqa: PTH115, PTH118
    except OSError:
        return ""


def _environment(
    launch: Launch, bundle: str, modules: str, scratch: str, secrets: str, variables: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables of a process; `variables` are the platform's.

    The Python on PATH is the interpreter of this process, without packages. For child processes PYTHONPATH names, in
    this order: `modules` (the folder of the function's own modules), the bundle's requirements, the function's own
    PYTHONPATH.
    """
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
