from __future__ import annotations

import ipaddress
import struct

import pytest

from rescoldo.isolation.bpf import BpfProgram
from rescoldo.isolation.fencing.addresses import FIRST_ADDRESS, GATEWAYS, STAND_INS, GatewayListener
from rescoldo.isolation.fencing.programs import programs
from rescoldo.isolation.netfence import address_of, cgroup2_root, endpoints, gateway_address, stand_in_of
from rescoldo.model.ids import BUILD_UID, EDGE_UID, INSTANCE_UIDS

FORBIDDEN = [
    (ipaddress.ip_address("127.0.0.1"), 8082),
    (ipaddress.ip_address("10.1.2.3"), 9),
    (ipaddress.ip_address("fd00::1"), 7),
    (ipaddress.ip_address("0.0.0.0"), 65535),
    (ipaddress.ip_address("::"), 65535),
]


def test_every_instance_has_a_loopback_address_of_its_own() -> None:
    assert address_of(INSTANCE_UIDS[0]) == "127.64.0.0"
    assert address_of(INSTANCE_UIDS[256]) == "127.64.1.0"
    last = ipaddress.ip_address(address_of(INSTANCE_UIDS[-1]))
    assert last in ipaddress.ip_network("127.64.0.0/15")
    assert int(last) - int(ipaddress.ip_address("127.64.0.0")) == len(INSTANCE_UIDS) - 1


@pytest.mark.parametrize("uid", [0, EDGE_UID, BUILD_UID, INSTANCE_UIDS.start - 1, INSTANCE_UIDS.stop])
def test_uids_of_other_processes_have_no_address(uid: int) -> None:
    with pytest.raises(ValueError, match="not in range"):
        address_of(uid)


def test_each_platforms_gateway_has_an_address_outside_those_of_instances() -> None:
    found = {gateway_address(f"/run/rescoldo-0/{number:08x}") for number in range(100)}
    assert len(found) > 95
    assert all(address in GATEWAYS for address in found)
    instances = ipaddress.ip_network(f"{FIRST_ADDRESS}/14")
    assert not instances.overlaps(GATEWAYS)
    assert gateway_address("/run/a") == gateway_address("/run/a")


def test_each_instances_stand_in_has_an_address_of_its_own() -> None:
    assert stand_in_of(INSTANCE_UIDS[0]) == "127.70.0.0"
    assert ipaddress.ip_address(stand_in_of(INSTANCE_UIDS[-1])) in STAND_INS
    assert not STAND_INS.overlaps(GATEWAYS)
    assert not STAND_INS.overlaps(ipaddress.ip_network(f"{FIRST_ADDRESS}/14"))


def test_a_listener_at_one_address_is_reachable_only_there() -> None:
    assert endpoints("127.0.0.1", 8080) == [(ipaddress.ip_address("127.0.0.1"), 8080)]
    everywhere = [address for address, _ in endpoints("0.0.0.0", 8080)]
    assert ipaddress.ip_address("0.0.0.0") in everywhere
    assert not any(address.is_loopback for address in everywhere)


HYBRID = r"""31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory
40 31 0:36 /below /srv/part rw,relatime - cgroup2 cgroup2 rw
41 31 0:38 / /sys/fs/cgroup/my\040tree rw,relatime shared:7 master:2 - cgroup2 cgroup2 rw
"""


def test_the_root_of_the_cgroup2_tree_is_found_beside_version_1() -> None:
    assert cgroup2_root(HYBRID) == "/sys/fs/cgroup/my tree"


def test_a_machine_without_cgroup2_raises() -> None:
    with pytest.raises(OSError, match="no cgroup2"):
        cgroup2_root("".join(HYBRID.splitlines(keepends=True)[:2]))


@pytest.mark.parametrize("gateway", [None, GatewayListener(GATEWAYS[1], 4711, (8080, 9000), FORBIDDEN)])
@pytest.mark.parametrize("forbidden", [[], FORBIDDEN])
def test_programs_only_jump_forward_and_end_with_a_verdict(
    forbidden: list[object], gateway: GatewayListener | None
) -> None:
    for code in programs(forbidden, gateway).values():  # type: ignore[arg-type]
        instructions = list(struct.iter_unpack("=BBhi", code))
        for at, (kind, _, offset, _) in enumerate(instructions):
            if kind & 7 in (5, 6) and kind not in (0x85, 0x95):
                assert offset >= 0 and at + 1 + offset < len(instructions)
        assert instructions[-1][0] == 0x95


def test_a_gateway_at_both_addresses_of_localhost_is_redirected_once() -> None:
    """`rescoldo serve --host localhost` where the name also has an IPv6 address."""
    both = [(ipaddress.ip_address(address), 8080) for address in ("127.0.0.1", "::1")]
    one, two = (programs([], GatewayListener(GATEWAYS[1], 4711, (), elsewhere)) for elsewhere in (both[:1], both))
    connect4, connect6 = 10, 11
    assert two[connect4] == one[connect4]
    comparison = 8 * (1 + 4 * 3 + 1)  # bytes: the port, four words, and the jump
    assert len(two[connect6]) == len(one[connect6]) + comparison


def test_forbidden_ports_change_only_the_connect_programs() -> None:
    none, some = programs([]), programs(FORBIDDEN)
    connect4, connect6 = 10, 11
    assert {kind for kind in none if none[kind] != some[kind]} == {connect4, connect6}


def test_a_program_is_assembled_in_the_kernels_format() -> None:
    program = BpfProgram()
    program.load(2, 1, 24)
    program.jump_if(2, "==", 0xFFFF_FFFF, "end")
    program.set(0, 7)
    program.label("end")
    program.leave(1)
    assert list(struct.iter_unpack("=BBhi", program.assemble())) == [
        (0x61, 0x12, 24, 0),
        (0x16, 0x02, 1, -1),
        (0xB4, 0x00, 0, 7),
        (0xB7, 0x00, 0, 1),
        (0x95, 0x00, 0, 0),
    ]
