"""Attacks that connect to servers of this machine, and sockets beyond those that a function needs."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import errno
import http.client
import os
import socket
import struct
from collections.abc import Callable

from .kit import Target, Tries, attack

_TIMEOUT = 3.0
_FAST_OPEN = 0x2000_0000  # MSG_FASTOPEN: connects while sending
_MULTIPATH = 262


def hear(family: int, address: object, sent: bytes = b"hello\n") -> str:
    """Return a server's response to a stranger."""
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(_TIMEOUT)
        client.connect(address)  # type: ignore[arg-type]
        client.sendall(sent)
        return repr(client.recv(200)) or "connected"


@attack("connects to the Unix sockets of other instances", proven=True)
def instance_sockets(target: Target, tries: Tries) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for path in target["victim"]["sockets"]:
        tries.get(f"connect to {path}", lambda path=path: hear(socket.AF_UNIX, path, request))
        tries.get(f"by its folder {path}", lambda path=path: os.listdir(os.path.dirname(path)))


@attack("connects to the sockets of controller, node and edge", proven=True)
def platform_sockets(target: Target, tries: Tries) -> None:
    for path in target["platform_sockets"]:
        tries.do(f"connect to {path}", lambda path=path: _connect(path))
    if target["level"] != "full":
        return
    run = os.path.dirname(target["platform_sockets"][0])
    for name in ("controller", "node", "edge", "supervisor"):
        for path in target["platform_sockets"]:
            there = f"/proc/{target['pids'][name]}/root{path}"
            tries.do(f"connect to {there}", lambda there=there: _connect(there))
    tries.do(f"enter {run}", lambda: os.chdir(run))


def _connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_TIMEOUT)
        client.connect(path)


@attack("makes a datagram socket speak to the platform's log")
def datagrams(target: Target, tries: Tries) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with one, other:
        for path in (*target["platform_sockets"], "/dev/log", "/run/systemd/journal/socket"):
            tries.do(f"sendto {path}", lambda path=path: one.sendto(b"forged", path))
    for path in ("/dev/log", "/run/systemd/journal/socket", "/run/dbus/system_bus_socket", "/var/run/docker.sock"):
        tries.do(f"connect to {path}", lambda path=path: _connect(path))


@attack("connects to the TCP port of another instance", unprivileged=False, proven=True)
def anothers_port(target: Target, tries: Tries) -> None:
    for port in target["victim"]["ports"]:
        for host in (target["victim"]["address"], "127.0.0.1", "0.0.0.0", "127.0.0.2"):
            tries.get(f"{host}:{port}", lambda host=host, port=port: hear(socket.AF_INET, (host, port)))


@attack("connects to the TCP port of another instance by IPv6", unprivileged=False, proven=True)
def anothers_port_by_ipv6(target: Target, tries: Tries) -> None:
    for port in target["victim"]["ports"]:
        for host in (f"::ffff:{target['victim']['address']}", "::ffff:127.0.0.1", "::1", "::"):
            tries.get(f"[{host}]:{port}", lambda host=host, port=port: hear(socket.AF_INET6, (host, port)))


@attack("connects to the TCP port of another instance by fast open, or bound to an address first",
        unprivileged=False, proven=True)  # fmt: skip
def anothers_port_by_fast_open(target: Target, tries: Tries) -> None:
    address = (target["victim"]["address"], target["victim"]["ports"][-1])

    def fast() -> bytes:
        with socket.socket() as client:
            client.settimeout(_TIMEOUT)
            client.sendto(b"hello\n", _FAST_OPEN, address)
            return client.recv(100)

    def bound() -> bytes:
        with socket.socket() as client:
            client.settimeout(_TIMEOUT)
            client.bind((address[0], 0))
            client.connect(address)
            return client.recv(100)

    tries.get("fast open", fast)
    tries.get("from its address", bound)
    tries.get("multipath TCP", lambda: _by_protocol(_MULTIPATH, address))
    tries.get("SCTP", lambda: _by_protocol(132, address))


def _by_protocol(protocol: int, address: tuple[str, int]) -> bytes:
    """Return a server's response over another protocol than plain TCP."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as client:
        client.settimeout(_TIMEOUT)
        client.connect(address)
        return client.recv(100)


@attack("listens on the port or address of another instance, to get its calls")
def port_taken(target: Target, tries: Tries) -> None:
    """Bind the ports; a bind that only affects the attacker's own address is no gain."""
    port, victim = target["victim"]["ports"][0], target["victim"]["address"]
    for host in (victim, "0.0.0.0", "127.0.0.1", ""):
        tries.get(f"{host}:{port}", lambda host=host: _bound_elsewhere((host, port), victim))


@attack("listens on the gateway's or the metrics port, to get the platform's calls")
def platform_port_taken(target: Target, tries: Tries) -> None:
    for name in ("gateway", "metrics"):
        _, _, port = target[name].rpartition(":")
        for host in ("127.0.0.1", "0.0.0.0", ""):
            tries.get(f"{host}:{port}", lambda host=host, port=port: _bound_elsewhere((host, int(port)), "127.0.0.1"))


def _bound_elsewhere(address: tuple[str, int], forbidden: str) -> str:
    with socket.socket() as server:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            server.setsockopt(socket.SOL_SOCKET, option, 1)
        server.bind(address)
        server.listen()
        host = server.getsockname()[0]
        return host if host in (forbidden, "0.0.0.0") else ""


@attack("reads the platform's metrics", unprivileged=False, proven=True)
def metrics(target: Target, tries: Tries) -> None:
    _, _, port = target["metrics"].rpartition(":")
    for host in ("127.0.0.1", "0.0.0.0", "localhost", "::ffff:127.0.0.1", "::1"):
        tries.get(f"{host}:{port}", lambda host=host: _page(host, int(port), "/metrics"))
    tries.get("through the gateway", lambda: _page(*_gateway(target), "/metrics", "/-/metrics", "/%2d/metrics"))


def _gateway(target: Target) -> tuple[str, int]:
    host, _, port = target["gateway"].rpartition(":")
    return host, int(port)


def _page(host: str, port: int, *paths: str) -> str:
    for path in paths:
        with contextlib.closing(http.client.HTTPConnection(host, port, timeout=_TIMEOUT)) as client:
            client.request("GET", path)
            text = client.getresponse().read(10_000).decode(errors="replace")
            if "gateway_" in text or "rescoldo_" in text or "process_" in text:
                return text[:100]
    return ""


@attack("uses the gateway's /system without or with guessed credentials")
def system_routes(target: Target, tries: Tries) -> None:
    guesses = [None, "admin:admin", "admin:", ":", "admin:password", f"admin:{target['gateway']}", "root:root"]
    for path in ("/system/functions", "/system/info", "/system/secrets", "/system/bundles", "/system/status",
                 "/system/logs?name=victim", "/system/namespaces", "/system/function/victim"):  # fmt: skip
        for method in ("GET", "POST", "DELETE", "PUT", "OPTIONS", "PROPFIND"):
            tries.get(f"{method} {path}", lambda m=method, p=path: _answered(target, m, p, guesses[:2]))
    for guess in guesses:
        tries.get(f"as {guess}", lambda guess=guess: _answered(target, "GET", "/system/functions", [guess]))


def _answered(target: Target, method: str, path: str, guesses: list[str | None]) -> str:
    for guess in guesses:
        fields = {} if guess is None else {"Authorization": "Basic " + base64.b64encode(guess.encode()).decode()}
        with contextlib.closing(http.client.HTTPConnection(*_gateway(target), timeout=10)) as client:
            client.request(method, path, None, fields)
            answer = client.getresponse()
            answer.read()
            if answer.status not in (401, 403):
                return f"{answer.status} as {guess}"
    return ""


@attack("opens raw and packet sockets")
def raw_sockets(target: Target, tries: Tries) -> None:
    raw: list[tuple[str, Callable[[], socket.socket]]] = [
        ("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300)),
        ("packet datagrams", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0x0300)),
        ("raw IP", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)),
        ("raw TCP", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)),
        ("raw IPv6", lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_TCP)),
    ]
    for name, make in raw:
        tries.do(name, lambda make=make: make().close(), only=(errno.EPERM, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT))


@attack("opens sockets of unusual families: vsock, netlink, AF_ALG, Bluetooth, TIPC, XDP and others")
def unusual_sockets(target: Target, tries: Tries) -> None:
    only = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
    for family in range(1, 50):
        if family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
            continue
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            tries.do(f"family {family}, kind {kind}", lambda f=family, k=kind: socket.socket(f, k).close(), only=only)
    for protocol in range(1, 23):  # all protocols except routes: firewalls, audit, crypto, others' sockets …
        netlink = lambda p=protocol: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, p).close()  # noqa: E731
        tries.do(f"netlink {protocol}", netlink, only=only)


@attack("changes addresses, routes or interfaces of the machine")
def network_settings(target: Target, tries: Tries) -> None:
    def new_address() -> None:
        message = struct.pack("=IHHII", 24, 20, 0x405, 1, 0) + struct.pack("=BBBBi", 2, 8, 0, 0, 1)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
            netlink.settimeout(_TIMEOUT)
            netlink.send(message)
            error = -struct.unpack_from("=i", netlink.recv(4096), 16)[0]
        if error:
            raise OSError(error, os.strerror(error))

    def interface_down() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            request = ctypes.create_string_buffer(struct.pack("16sh14x", b"lo", 0), 40)
            libc_ioctl(any_socket.fileno(), 0x8914, request)  # SIOCSIFFLAGS

    tries.do("add an address", new_address, only=(errno.EPERM,))
    tries.do("take loopback down", interface_down, only=(errno.EPERM,))
    with socket.socket() as any_socket:
        for name, level, option in (("mark", socket.SOL_SOCKET, 36), ("transparent", 0, 19), ("repair", 6, 19)):
            set_it = lambda level=level, option=option: any_socket.setsockopt(level, option, 1)  # noqa: E731
            tries.do(name, set_it, only=(errno.EPERM,))


def libc_ioctl(descriptor: int, number: int, argument: object) -> None:
    """Call ioctl(2) with a buffer."""
    from .kit import libc

    libc("ioctl", descriptor, ctypes.c_ulong(number), argument)
