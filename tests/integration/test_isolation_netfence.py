"""The fence at work: real sockets of processes that run as instances, the edge, root and others."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 (getaddrinfo's: the uids of the tests cannot read this Python)
import contextlib
import errno
import fcntl
import ipaddress
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rescoldo.isolation import bpf, netfence
from rescoldo.isolation.fencing.addresses import GatewayListener
from rescoldo.isolation.netfence import Fence, address_of, gateway_address, stand_in_of
from rescoldo.model.ids import EDGE_UID, INSTANCE_UIDS
from support.children import told_by_child
from support.ports import free_ports

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or not netfence.available(), reason="needs root and a cgroup2 tree"),
]
ONE, TWO, LAST = INSTANCE_UIDS[-3], INSTANCE_UIDS[-2], INSTANCE_UIDS[-1]
STRANGER = 65534
OUTSIDE = (INSTANCE_UIDS.start - 1, INSTANCE_UIDS.stop)
KINDS = (8, 9, 10, 11, 14, 15, 22)  # the fence's programs
V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture(scope="module")
def host_port() -> Iterator[int]:
    """A server of the host at loopback, in IPv4 and IPv6, to be forbidden."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_server(("::1", port), family=V6):
            yield port


@pytest.fixture(scope="module")
def fence(host_port: int) -> Iterator[Fence]:
    fence = Fence.open([("127.0.0.1", host_port)])
    yield fence
    fence.close()


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Run one test of this file at a time on this machine: all use the same uids, gate and ports, and fences act on the
    whole machine. The lock is the tree that fences are attached to."""
    tree = os.open(netfence.cgroup2_root(Path("/proc/self/mountinfo").read_text()), os.O_RDONLY)
    try:
        fcntl.flock(tree, fcntl.LOCK_EX)
        yield
    finally:
        os.close(tree)


@pytest.fixture
def port() -> int:
    """A free port, which is not the local end of a connection by chance either."""
    return free_ports(1)[0]


def as_uid(uid: int, action: Callable[[], object]) -> str:
    """Call `action` in a process of `uid`; return its result as text, or the name of the error."""

    def attempt() -> object:
        os.setresuid(uid, uid, uid)
        return action()

    return told_by_child(attempt)


@contextmanager
def listener(uid: int, host: str, port: int, family: int = V4) -> Iterator[tuple[str, int]]:
    """Run a server of `uid` that answers with its uid; yield its socket's address."""
    ready_read, ready = os.pipe()
    stop, stop_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(stop_write)
            os.setresuid(uid, uid, uid)
            with socket.socket(family) as server:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if host == "v6only":
                    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                server.bind(("::" if host == "v6only" else host, port))
                server.listen()
                os.write(ready, repr(server.getsockname()[:2]).encode())
                os.close(ready)
                _answer(server, stop, uid)
        except OSError as error:
            os.write(ready, f"({error.errno}, {errno.errorcode[error.errno or 0]!r})".encode())
        finally:
            os._exit(0)
    os.close(ready)
    try:
        with os.fdopen(ready_read) as where:
            answer = eval(where.read())
        yield answer
    finally:
        os.close(stop_write)
        os.waitpid(child, 0)
        os.close(stop)


def _answer(server: socket.socket, stop: int, uid: int) -> None:
    import selectors

    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        selector.register(stop, selectors.EVENT_READ)
        while all(key.fd != stop for key, _ in selector.select()):
            connection, _ = server.accept()
            with connection:
                connection.sendall(str(uid).encode())


def ask(host: str, port: int, family: int = V4) -> Callable[[], str]:
    def connect() -> str:
        with socket.socket(family) as client:
            client.settimeout(5)
            client.connect((host, port))
            return client.recv(100).decode()

    return connect


@pytest.mark.parametrize(
    ("host", "family"), [("0.0.0.0", V4), ("127.0.0.1", V4), ("127.64.0.9", V4), ("::", V6), ("::1", V6)]
)
def test_two_instances_use_one_port_and_each_is_reached_at_its_own_address(
    fence: Fence, port: int, host: str, family: int
) -> None:
    mapped = "::ffff:" if family == V6 else ""
    with listener(ONE, host, port, family) as one, listener(TWO, host, port, family) as two:
        assert (one, two) == ((mapped + address_of(ONE), port), (mapped + address_of(TWO), port))
        for caller in (EDGE_UID, 0):
            assert as_uid(caller, ask(address_of(ONE), port)) == str(ONE)
            assert as_uid(caller, ask(address_of(TWO), port)) == str(TWO)
            assert as_uid(caller, ask("127.0.0.1", port)) == "ECONNREFUSED"


def test_the_port_is_free_for_the_host_and_the_host_keeps_its_own(fence: Fence, host_port: int) -> None:
    with listener(ONE, "127.0.0.1", host_port) as where:
        assert where == (address_of(ONE), host_port)
        assert as_uid(0, ask(address_of(ONE), host_port)) == str(ONE)


def test_an_instance_may_bind_a_port_below_1024(fence: Fence) -> None:
    with listener(ONE, "0.0.0.0", 80) as where:
        assert where == (address_of(ONE), 80)


@pytest.mark.parametrize("uid", [*OUTSIDE, STRANGER, EDGE_UID])
def test_the_fence_does_not_change_binds_of_others(fence: Fence, port: int, uid: int) -> None:
    with listener(uid, "0.0.0.0", port) as where:
        assert where == ("0.0.0.0", port)
    with listener(uid, "::1", port, V6) as where:
        assert where == ("::1", port)
    assert as_uid(uid, lambda: socket.create_server(("127.0.0.1", 80))) == "EACCES"


@pytest.mark.parametrize("uid", [INSTANCE_UIDS.start, LAST])
def test_the_first_and_the_last_instance_uid_are_fenced(fence: Fence, port: int, uid: int) -> None:
    with listener(uid, "0.0.0.0", port) as where:
        assert where == (address_of(uid), port)
        assert as_uid(0, ask(*where)) == str(uid)
        assert as_uid(uid, ask(*where)) == str(uid)


@pytest.mark.parametrize("host", [None, "::", "127.0.0.1", ("127.0.0.1", "::1")])
def test_an_asyncio_server_with_an_ipv6_only_socket_listens(fence: Fence, port: int, host: str | None) -> None:
    async def serve_and_ask() -> bytes:
        server = await asyncio.start_server(answer, host, port)
        async with server:
            replies = [await _ask(address) for address in ({"::": "::1"}.get(str(host), "127.0.0.1"),)]
        return b"".join(replies)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here")
        writer.close()

    async def _ask(address: str) -> bytes:
        reader, writer = await asyncio.open_connection(address, port)
        try:
            return await reader.read()
        finally:
            writer.close()

    for uid in (ONE, STRANGER):
        assert as_uid(uid, lambda: asyncio.run(serve_and_ask())) == "b'here'"


def test_the_fence_drops_ipv6_only_for_instances_alone_and_no_other_option(fence: Fence) -> None:
    def options() -> tuple[int, int, int]:
        one = socket.socket(V6)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 6)
        return (
            one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
            one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
            one.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY),
        )

    assert (as_uid(ONE, options), as_uid(STRANGER, options)) == ("(0, 1, 6)", "(1, 1, 6)")


def test_an_option_larger_than_a_programs_buffer_arrives_whole(fence: Fence) -> None:
    # TCP_MD5SIG and others are small; a list of multicast sources (MCAST_MSFILTER) may have any length
    mcast_msfilter, header, entry, count = 48, 144, 128, 60
    group = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton("224.0.0.1")).ljust(128, b"\0")
    source = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton("192.0.2.1")).ljust(128, b"\0")
    value = struct.pack("=I4x", 0) + group + struct.pack("=II", 1, count) + source * count
    assert len(value) == header + entry * count > 4096

    def set_it() -> None:
        socket.socket(V4, socket.SOCK_DGRAM).setsockopt(socket.IPPROTO_IP, mcast_msfilter, value)

    # the kernel's own errors for too many sources, for no interface, for no membership
    assert as_uid(STRANGER, set_it) in ("ENOBUFS", "ENODEV", "EADDRNOTAVAIL", "EINVAL")


# -- no other uid gets through, whatever the call


def fast_open(host: str, port: int) -> Callable[[], object]:
    msg_fastopen = 0x2000_0000
    return lambda: socket.socket(V4).sendto(b"x", msg_fastopen, (host, port))


def non_blocking(host: str, port: int) -> Callable[[], object]:
    def connect() -> None:
        client = socket.socket(V4)
        client.setblocking(False)
        client.connect((host, port))

    return connect


def bound_first(host: str, port: int) -> Callable[[], object]:
    def connect() -> None:
        client = socket.socket(V4)
        client.bind(("127.0.0.1", 0))
        client.connect((host, port))

    return connect


def mapped(host: str, port: int) -> Callable[[], object]:
    return ask(f"::ffff:{host}", port, V6)


def datagram(host: str, port: int) -> Callable[[], object]:
    return lambda: socket.socket(V4, socket.SOCK_DGRAM).sendto(b"x", (host, port))


def mapped_datagram(host: str, port: int) -> Callable[[], object]:
    return lambda: socket.socket(V6, socket.SOCK_DGRAM).sendto(b"x", (f"::ffff:{host}", port))


def connected_datagram(host: str, port: int) -> Callable[[], object]:
    return lambda: socket.socket(V4, socket.SOCK_DGRAM).connect((host, port))


WAYS = [ask, fast_open, non_blocking, bound_first, mapped, datagram, mapped_datagram, connected_datagram]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_other_uid_reaches_an_instance(fence: Fence, port: int, way: Callable[..., Callable[[], object]]) -> None:
    with listener(ONE, "0.0.0.0", port) as first, listener(ONE, "v6only", port, V6) as second:
        for where in (first, (second[0].removeprefix("::ffff:"), port)):
            for uid in (TWO, STRANGER, *OUTSIDE):
                assert as_uid(uid, way(*where)) == "EPERM"
            for uid in (ONE, EDGE_UID, 0):
                assert as_uid(uid, way(*where)) != "EPERM"


# -- stand-ins


@pytest.mark.parametrize("way", [ask, mapped], ids=lambda way: way.__name__)
@pytest.mark.parametrize("fences", [1, 2])
def test_the_edge_reaches_the_stand_in_of_an_instance_that_does_not_listen(
    fence: Fence, port: int, way: Callable[..., Callable[[], object]], fences: int
) -> None:
    more = [Fence.open(()) for _ in range(fences - 1)]
    with listener(0, stand_in_of(ONE), port):
        assert as_uid(EDGE_UID, way(address_of(ONE), port)) == "0"
        for uid in (0, ONE):  # they check whether the instance listens
            assert as_uid(uid, way(address_of(ONE), port)) == "ECONNREFUSED"
        with listener(ONE, "0.0.0.0", port):
            assert as_uid(EDGE_UID, way(address_of(ONE), port)) == str(ONE)
        assert as_uid(EDGE_UID, way(address_of(ONE), port)) == "0"
        assert as_uid(EDGE_UID, way(address_of(TWO), port)) == "ECONNREFUSED"
    assert as_uid(EDGE_UID, way(address_of(ONE), port)) == "ECONNREFUSED"
    for one in more:
        one.close()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_only_the_edge_and_root_reach_a_stand_in(
    fence: Fence, port: int, way: Callable[..., Callable[[], object]]
) -> None:
    with listener(0, stand_in_of(ONE), port) as where:
        for uid in (ONE, TWO, STRANGER, *OUTSIDE):
            assert as_uid(uid, way(*where)) == "EPERM"
        for uid in (EDGE_UID, 0):
            assert as_uid(uid, way(*where)) != "EPERM"


def test_other_loopback_addresses_stay_open(fence: Fence, port: int) -> None:
    for host in ("127.63.255.255", "127.69.0.0", "127.1.2.3"):
        with listener(0, host, port) as where:
            assert as_uid(STRANGER, ask(*where)) == as_uid(ONE, ask(*where)) == "0"


# -- servers that an instance reaches at loopback


@pytest.mark.parametrize(
    ("bound", "family", "asked", "by"),
    [
        ("127.0.0.1", V4, "127.0.0.1", V4),
        ("0.0.0.0", V4, "0.0.0.0", V4),
        ("::1", V6, "::1", V6),
        ("::", V6, "127.0.0.1", V4),
        ("127.0.0.1", V4, "::1", V6),
        ("127.0.0.1", V4, "::ffff:127.0.0.1", V6),
        ("127.0.0.1", V4, "::", V6),
        ("v6only", V6, "::1", V6),
        ("v6only", V6, "127.0.0.1", V4),
    ],
)
def test_an_instance_reaches_its_own_server_at_loopback(
    fence: Fence, port: int, bound: str, family: int, asked: str, by: int
) -> None:
    with listener(ONE, bound, port, family), listener(TWO, bound, port, family):
        assert as_uid(ONE, ask(asked, port, by)) == str(ONE)
        assert as_uid(TWO, ask(asked, port, by)) == str(TWO)
        assert as_uid(LAST, ask(asked, port, by)) == "ECONNREFUSED"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_an_instance_without_its_own_server_reaches_the_hosts(fence: Fence, port: int, host: str) -> None:
    with listener(STRANGER, host, port):
        assert as_uid(ONE, ask("127.0.0.1", port)) == str(STRANGER)


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", V4), ("::1", V6)])
def test_a_port_of_the_kernels_choice_at_loopback_is_private_too(fence: Fence, host: str, family: int) -> None:
    with listener(ONE, host, 0, family) as (address, chosen):
        assert address.endswith(address_of(ONE))
        assert as_uid(ONE, ask(host, chosen, family)) == str(ONE)
        assert as_uid(TWO, ask(address_of(ONE), chosen)) == "EPERM"
        assert as_uid(TWO, ask(host, chosen, family)) == "ECONNREFUSED"


def test_an_instance_reaches_its_own_server_even_at_a_forbidden_port(fence: Fence, host_port: int) -> None:
    assert as_uid(ONE, ask("127.0.0.1", host_port)) == "EPERM"
    with listener(ONE, "127.0.0.1", host_port):
        assert as_uid(ONE, ask("127.0.0.1", host_port)) == str(ONE)
        assert as_uid(TWO, ask("127.0.0.1", host_port)) == "EPERM"


# -- the platform's own ports


def test_a_forbidden_port_is_closed_to_instances_at_every_loopback_address(fence: Fence, host_port: int) -> None:
    reachable = ask_and_hang_up
    for host, family in (("127.0.0.1", V4), ("127.9.9.9", V4), ("0.0.0.0", V4), ("::1", V6), ("::", V6)):
        assert as_uid(ONE, reachable(host, host_port, family)) == "EPERM"
        assert as_uid(STRANGER, reachable(host, host_port, family)) != "EPERM"
    assert as_uid(ONE, reachable("::ffff:127.0.0.1", host_port, V6)) == "EPERM"


def ask_and_hang_up(host: str, port: int, family: int = V4) -> Callable[[], object]:
    return lambda: socket.socket(family).connect((host, port))


def test_a_forbidden_address_is_closed_at_its_port_alone() -> None:
    documentation = ("192.0.2.7", "2001:db8::7")  # no machine has them: refused by the fence, or else unreachable
    fence = Fence.open([(host, 4711) for host in documentation])
    try:
        for host, other, family in ((documentation[0], "192.0.2.8", V4), (documentation[1], "2001:db8::8", V6)):
            assert as_uid(ONE, non_blocking_to(host, 4711, family)) == "EPERM"
            assert as_uid(ONE, non_blocking_to(host, 4712, family)) != "EPERM"
            assert as_uid(ONE, non_blocking_to(other, 4711, family)) != "EPERM"
            assert as_uid(STRANGER, non_blocking_to(host, 4711, family)) != "EPERM"
    finally:
        fence.close()


def test_a_port_forbidden_at_all_addresses_is_closed_everywhere() -> None:
    fence = Fence.open([("0.0.0.0", 4711)])
    try:
        for host, family in (("192.0.2.7", V4), ("2001:db8::7", V6), ("127.0.0.1", V4), ("::1", V6)):
            assert as_uid(ONE, non_blocking_to(host, 4711, family)) == "EPERM"
            assert as_uid(ONE, non_blocking_to(host, 4712, family)) != "EPERM"
    finally:
        fence.close()


def non_blocking_to(host: str, port: int, family: int) -> Callable[[], object]:
    def connect() -> None:
        client = socket.socket(family)
        client.setblocking(False)
        client.connect((host, port))

    return connect


def test_a_host_without_an_address_is_an_error_that_names_it() -> None:
    with pytest.raises(OSError, match=r"metrics\.invalid"):
        Fence.open([("metrics.invalid", 8082)])


# -- the platform's gateway


GATE = gateway_address("a test's")
GATEWAY_PORT = 4713


@contextmanager
def gated(*hosts: str) -> Iterator[Fence]:
    """Open a fence that leads instances from the gateway at `hosts` to their own listener, which answers "gate" and
    the caller's address."""
    with socket.create_server((str(GATE), 0)) as server:
        elsewhere = [one for host in hosts for one in netfence.endpoints(host, GATEWAY_PORT)]
        fence = Fence.open((), GatewayListener(GATE, server.getsockname()[1], (8080, GATEWAY_PORT), elsewhere))
        stop, stop_write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(stop_write)
                _tell_callers(server, stop)
            finally:
                os._exit(0)
        try:
            yield fence
        finally:
            os.close(stop_write)
            os.waitpid(child, 0)
            os.close(stop)
            fence.close()


def _tell_callers(server: socket.socket, stop: int) -> None:
    import select

    while stop not in select.select([server, stop], [], [])[0]:
        connection, (caller, _) = server.accept()
        with connection:
            connection.sendall(f"gate {caller}".encode())


def at_the_gate(uid: int) -> str:
    return f"gate {address_of(uid)}"


@pytest.mark.parametrize("other_fence", [False, True])
@pytest.mark.parametrize("own_server", [False, True])
def test_instances_reach_the_gateway_at_its_address_whatever_they_serve(own_server: bool, other_fence: bool) -> None:
    if own_server and attached():
        pytest.skip("a platform runs here: before there were gates, its fence led instances to their own servers first")
    with contextlib.ExitStack() as stack:
        before = Fence.open(()) if other_fence else None
        stack.enter_context(gated("127.0.0.1"))
        after = Fence.open(()) if other_fence else None
        if own_server:
            stack.enter_context(listener(ONE, "127.0.0.1", 8080))
        for port in (8080, GATEWAY_PORT):
            for uid in (ONE, LAST):
                assert as_uid(uid, ask(str(GATE), port)) == at_the_gate(uid)
                assert as_uid(uid, ask(f"::ffff:{GATE}", port, V6)) == at_the_gate(uid)
        assert as_uid(ONE, ask(str(GATE), 8081)) == "ECONNREFUSED"
        for one in (before, after):
            if one is not None:
                one.close()


def test_only_instances_and_root_connect_to_the_gate() -> None:
    with gated("127.0.0.1"):
        for uid in (STRANGER, EDGE_UID, *OUTSIDE):
            assert as_uid(uid, ask(str(GATE), 8080)) == "EPERM"
            assert as_uid(uid, ask(f"::ffff:{GATE}", 8080, V6)) == "EPERM"
        # only for instances does the gate have other ports than its own
        assert as_uid(0, ask(str(GATE), 8080)) == "ECONNREFUSED"


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("127.0.0.1", [("127.0.0.1", V4), ("::ffff:127.0.0.1", V6), ("0.0.0.0", V4)]),
        ("::1", [("::1", V6)]),
        ("0.0.0.0", [("127.0.0.1", V4), ("127.9.9.9", V4), ("::1", V6)]),
        ("::", [("127.0.0.1", V4), ("::1", V6)]),
        ("192.0.2.7", [("192.0.2.7", V4), ("::ffff:192.0.2.7", V6)]),
        ("2001:db8::7", [("2001:db8::7", V6)]),
    ],
)
def test_the_fence_leads_instances_from_the_gateway_to_the_gate(host: str, asked: list[tuple[str, int]]) -> None:
    with gated(host):
        for address, family in asked:
            assert as_uid(ONE, ask(address, GATEWAY_PORT, family)) == at_the_gate(ONE), address
            assert as_uid(STRANGER, non_blocking_to(address, GATEWAY_PORT, family)) != "EPERM"
            assert as_uid(ONE, non_blocking_to(address, GATEWAY_PORT + 1, family)) != "EPERM"


def test_a_gateway_at_all_addresses_has_its_gate_at_every_address_of_this_machine() -> None:
    found = [address for address, _ in netfence.endpoints("::", GATEWAY_PORT) if not address.is_unspecified]
    with gated("::"):
        for address in found:
            family = V4 if address.version == 4 else V6
            assert as_uid(ONE, ask(str(address), GATEWAY_PORT, family)) == at_the_gate(ONE), address


def test_an_instances_own_server_at_the_gateways_port_comes_first_at_loopback() -> None:
    with gated("127.0.0.1"), listener(ONE, "127.0.0.1", GATEWAY_PORT):
        assert as_uid(ONE, ask("127.0.0.1", GATEWAY_PORT)) == str(ONE)
        assert as_uid(TWO, ask("127.0.0.1", GATEWAY_PORT)) == at_the_gate(TWO)


def test_an_instance_reaches_the_gate_from_a_socket_that_is_already_bound() -> None:
    def bound() -> str:
        with socket.socket() as client:
            client.bind(("0.0.0.0", 0))
            client.connect((str(GATE), 8080))
            return client.recv(100).decode()

    with gated("127.0.0.1"):
        assert as_uid(ONE, bound) == "gate 127.0.0.1"


# -- the life of a fence


def attached() -> set[int]:
    """Return all programs at the root of the tree, including those of other fences on this machine."""
    where = netfence.cgroup2_root(Path("/proc/self/mountinfo").read_text())
    tree = os.open(where, os.O_RDONLY)
    try:
        return {program for kind in KINDS for program in bpf.attached(tree, kind)}
    finally:
        os.close(tree)


def programs_of(links: Iterable[int]) -> set[int]:
    notes = [Path(f"/proc/self/fdinfo/{link}").read_text() for link in links]
    return {int(note.split("prog_id:")[1].split()[0]) for note in notes}


def test_nothing_is_attached_after_the_last_holder_let_go(port: int) -> None:
    def private() -> bool:
        with listener(ONE, "127.0.0.1", port) as where:
            return where == (address_of(ONE), port)

    fence = Fence.open(())
    ours = programs_of(fence.descriptors)
    assert len(ours) == len(KINDS) and ours <= attached()
    holder = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=fence.descriptors, text=True
    )
    fence.close()
    assert ours <= attached() and private()
    holder.communicate("\n")
    assert not ours & attached()


def test_two_fences_at_once_act_as_one(fence: Fence, port: int) -> None:
    second = Fence.open(())
    try:
        with listener(ONE, "0.0.0.0", port) as where:
            assert where == (address_of(ONE), port)
            assert as_uid(ONE, ask("127.0.0.1", port)) == str(ONE)
            assert as_uid(TWO, ask(*where)) == "EPERM"
            with listener(ONE, "v6only", port, V6) as (address, _):
                assert address == "::ffff:" + str(ipaddress.ip_address(address_of(ONE)) + 0x20000)
    finally:
        second.close()


def test_a_fence_that_cannot_be_opened_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_descriptors() -> list[str]:
        return [file.name for file in Path("/proc/self/fd").iterdir()]

    good, ours = bpf.attach, set()

    def fail_at_the_third(program: int, target: int, attach_type: int) -> int:
        if attach_type == KINDS[2]:
            raise OSError(errno.EBUSY, "no")
        link = good(program, target, attach_type)
        ours.update(programs_of([link]))
        return link

    before = open_descriptors()
    monkeypatch.setattr(bpf, "attach", fail_at_the_third)
    with pytest.raises(OSError, match="no"):
        Fence.open(())
    assert len(ours) == 2 and not ours & attached()
    assert len(open_descriptors()) == len(before)


def test_the_error_for_a_refused_program_quotes_the_verifier() -> None:
    program = bpf.BpfProgram()
    program.load(2, 5, 0)  # register 5 holds nothing
    program.leave(1)
    with pytest.raises(OSError, match="R5 !read_ok"):
        bpf.load(18, 10, "broken", program.assemble())


def test_opening_a_fence_without_rights_fails() -> None:
    assert as_uid(STRANGER, lambda: Fence.open(())) == "EPERM"
