"""Servers of pools: ids, comparisons, HAProxy's answers."""

from __future__ import annotations

import zlib
from dataclasses import replace
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from rescoldo.gateway.servers import (
    MAX_ID,
    Place,
    Plan,
    PoolName,
    Present,
    Server,
    ServerKey,
    State,
    choose_id,
    choose_ids,
    plan,
    read_servers,
    read_sessions,
    remove,
)

P0, P1 = PoolName("p0"), PoolName("p1")
PLACE = Place("10.0.0.1", 8080, 8082)
AUTHORITY = "/run/authority.pem"
TWINS = ("w-3985819", "w-4420602")  # their ids collide; found by trying names


def server(pod: str, pool: PoolName = P0, *, draining: bool = False, place: Place = PLACE) -> Server:
    return Server(ServerKey(pool, pod), place, draining)


def present(wanted: Server, state: State = State.READY) -> Present:
    return Present(wanted.key, choose_id(wanted.key.pod, ()), wanted.place, state)


@given(st.text(max_size=20), st.sets(st.integers(1, 5)))
def test_an_id_is_one_that_haproxy_takes_and_nobody_else_has(pod: str, taken: set[int]) -> None:
    number = choose_id(pod, taken)
    assert 1 <= number <= MAX_ID and number not in taken
    assert number not in taken | {choose_id(pod, taken | {number})}


def test_the_id_of_a_pod_is_its_checksum() -> None:
    assert choose_id("worker-0", ()) == zlib.crc32(b"worker-0") & MAX_ID


def test_pods_that_collide_get_different_ids_the_same_in_any_order() -> None:
    first, second = TWINS
    assert choose_id(first, ()) == choose_id(second, ())
    found = [choose_ids([server(name) for name in order], ()) for order in permutations([*TWINS, "w-1"])]
    assert all(ids == found[0] for ids in found)
    assert len(set(found[0].values())) == 3


def test_a_pod_keeps_its_id_and_pools_do_not_know_each_other() -> None:
    first, second = TWINS
    ids = choose_ids([server(first), server(second, P1)], [present(server(second))])
    assert ids[ServerKey(P0, second)] == ids[ServerKey(P1, second)] == choose_id(second, ())
    assert ids[ServerKey(P0, first)] != choose_id(first, ())


def test_new_servers_come_before_others_are_drained() -> None:
    old, new = server("old"), server("new")
    made = plan([present(old)], [new], 4.0, AUTHORITY)
    assert [batch[0].partition(" 10.")[0] for batch in made.batches] == [
        "add server p0/new",
        "set server p0/old state drain",
    ]
    assert made.leaving == {old.key}


def test_a_new_server_waits_for_its_first_good_check() -> None:
    (batch,) = plan([], [server("one")], 4.0, AUTHORITY).batches
    line, *rest = batch
    assert line.startswith(
        f"add server p0/one 10.0.0.1:8080 id {choose_id('one', ())} weight 100 slowstart 4000ms check port 8082 "
    )
    assert rest == ["enable health p0/one", "set server p0/one state ready", "set server p0/one health down"]


def test_nothing_is_changed_that_is_as_it_should_be() -> None:
    there = [present(server("one")), present(server("two"), State.DRAINING)]
    assert plan(there, [server("one"), server("two", draining=True)], 4.0, AUTHORITY) == Plan((), frozenset())


def test_a_pod_that_is_being_deleted_is_drained_once_and_removed_when_it_is_gone() -> None:
    leaving = server("one", draining=True)
    drained = Plan((("set server p0/one state drain",),), frozenset())
    assert plan([present(leaving)], [leaving], 4.0, AUTHORITY) == drained
    assert plan([present(leaving, State.DRAINING)], [], 4.0, AUTHORITY) == Plan((), frozenset({leaving.key}))
    assert plan([], [leaving], 4.0, AUTHORITY) == Plan((), frozenset()), "it is not added any more"


def test_a_server_whose_pod_stays_is_made_ready_again() -> None:
    one = server("one")
    assert plan([present(one, State.DRAINING)], [one], 4.0, AUTHORITY).batches == (("set server p0/one state ready",),)
    assert plan([present(one, State.STOPPED)], [one], 4.0, AUTHORITY).batches[0][0] == "enable health p0/one"


def test_a_pod_with_another_address_waits_until_its_server_is_removed() -> None:
    one = server("one")
    moved = replace(one, place=Place("10.0.0.9", 8080, 8082))
    waits = Plan((("set server p0/one state drain",),), frozenset({one.key}))
    assert plan([present(one)], [moved], 4.0, AUTHORITY) == waits


def test_a_worker_that_speaks_tls_is_verified_by_the_name_of_its_pool() -> None:
    (batch,) = plan([], [replace(server("one"), place=replace(PLACE, port=8443, tls=True))], 4.0, AUTHORITY).batches
    assert batch[0].startswith("add server p0/one 10.0.0.1:8443 id ")
    assert f" ssl verify required ca-file {AUTHORITY} " in batch[0] and "check-ssl" not in batch[0]
    assert batch[0].endswith(",concat(.,txn.ns,.pool.rescoldo)")
    (plain,) = plan([], [server("one")], 4.0, AUTHORITY).batches
    assert "ssl" not in plain[0] and "pool.rescoldo" not in plain[0]


def test_a_server_is_removed_by_way_of_maintenance() -> None:
    assert remove(ServerKey(P0, "one")) == ("set server p0/one state maint", "del server p0/one")


STATE = """\
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight …
3 control 1 api 10.0.9.9 2 0 1 1 12 6 3 4 6 0 0 0 - 8080 - 0 0 - - 0
4 p0 1887043060 w1 127.0.9.1 2 0 100 100 0 15 3 2 6 0 0 1 - 18081 - 0 18082 - - 18081
4 p0 1768991822 w2 127.0.9.2 1 8 100 100 0 15 3 2 6 0 0 1 - 18081 - 0 18082 - - 18081
5 p1 5 w.3 fd00::3 0 5 100 100 0 15 3 2 6 0 0 1 - 18081 - 1 18082 - - 18081

"""


def test_servers_are_read_from_haproxys_answer() -> None:
    assert read_servers(STATE, ("p0", "p1")) == [
        Present(ServerKey(P0, "w1"), 1887043060, Place("127.0.9.1", 18081, 18082), State.READY),
        Present(ServerKey(P0, "w2"), 1768991822, Place("127.0.9.2", 18081, 18082), State.DRAINING, ramping=True),
        Present(ServerKey(P1, "w.3"), 5, Place("fd00::3", 18081, 18082, tls=True), State.STOPPED),
    ]


def test_sessions_are_read_from_haproxys_answer() -> None:
    answer = (
        "# bkname/svname bkid/svid addr port - purge_delay used_cur …\np0/w1 4/18 127.0.9.1 18081 - 5000 7 9 1 0 0\n\n"
    )
    assert read_sessions(answer) == {ServerKey(P0, "w1"): 7}
