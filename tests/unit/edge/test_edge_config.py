from __future__ import annotations

import re
import resource
from pathlib import Path
from resource import RLIM_INFINITY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.api.server import MAX_CONNECTIONS
from rescoldo.edge import process
from rescoldo.edge.accesslog import tally
from rescoldo.edge.config import connection_limits, inside_limits, map_text, render, slot_count, write
from rescoldo.edge.haproxy import OWN_BACKENDS
from rescoldo.edge.protocol import LiveServer, Route, Share
from rescoldo.model.calls import FailedCall
from rescoldo.model.limits import Limits
from rescoldo.model.names import InstanceId, SlotName, function_id, revision_key
from rescoldo.model.settings import Settings

LINE = b"fn.openfaas-fn 200 - 1795413920 12 0 2 55 52"


def test_a_configuration_has_the_requested_slots_and_servers_in_their_slots() -> None:
    server = LiveServer(SlotName("s1"), InstanceId("one"), "unix@/run/x.sock", 3)
    text = render(Settings("/d", "/r"), 3, [server])
    slots = text[text.index("\nbackend s0") :]
    assert [line for line in slots.splitlines() if line.startswith("backend")] == [
        f"backend {name} from slots" for name in ("s0", "s1", "s2", "t0", "t1")
    ]
    assert slots.count("  retries 2\n") == 2, "the two slots for programs at TCP ports"
    after = slots[slots.index("backend s1") : slots.index("backend s2")]
    assert "  server one unix@/run/x.sock maxconn 3" in after


def test_the_backends_that_are_not_slots_are_listed() -> None:
    # else the controller would take their servers for strays and remove them
    text = render(Settings("/d", "/r"), 0)
    assert sorted(OWN_BACKENDS) == sorted(re.findall(r"^backend (\S+)", text, re.MULTILINE))


def test_the_edge_opens_fewer_connections_to_the_api_than_the_api_takes() -> None:
    # at its limit the API answers 503 to every request, and to health checks, too
    servers = re.findall(r"^  server \S+ unix@\S*/api\.sock\b.*", render(Settings("/d", "/r"), 0), re.MULTILINE)
    most = [int(found[1]) for line in servers if (found := re.search(r" maxconn (\d+)", line))]
    assert len(most) == len(servers) == 3, servers
    assert sum(most) < MAX_CONNECTIONS


@pytest.mark.parametrize(
    ("descriptors", "wanted", "limits"),
    [
        (RLIM_INFINITY, 10_000, (12_000, 10_000)),
        (1_000_000, 10_000, (12_000, 10_000)),
        (1_000_000, 100, (2_100, 100)),
        (4_096, 10_000, (1_798, 1_349)),
        (64, 10_000, (100, 75)),
    ],
)
def test_held_requests_get_connections_of_the_edge_to_itself_besides_the_clients(
    descriptors: int, wanted: int, limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (0, descriptors))
    assert connection_limits(Settings("/d", "/r", max_connections=wanted, max_holds=2_000)) == limits


@pytest.mark.parametrize(("clients", "limits"), [(10_000, (2_500, 625)), (75, (18, 4)), (1, (1, 1))])
def test_all_instances_get_a_quarter_of_the_connections_and_each_at_most_a_quarter_of_these(
    clients: int, limits: tuple[int, int]
) -> None:
    assert inside_limits(clients) == limits


def test_the_maps_hold_only_settings_that_differ_from_the_defaults() -> None:
    limits = Limits(max_queue=7)
    one = Route(function_id("a"), None, limits.max_body, 35.0, limits.max_queue, limits.max_response)
    fn = function_id("b")
    old = revision_key(fn, 3)
    pages = ("https://a", "http://b:1")
    two = Route(fn, SlotName("s1"), 5, 1.5, 0, 0, 3, split=(Share(90, 4, fn), Share(10, 3, old)), cors=pages)
    idle = [Route(function_id("c")), Route(function_id("d"), SlotName("s3"), paused=True), Route(old, SlotName("s2"))]
    assert map_text([one, two, *idle], limits) == {
        "routes": "a.openfaas-fn -\nb.openfaas-fn s1:own\nc.openfaas-fn -\nd.openfaas-fn -:paused\n"
        "b.openfaas-fn/3 s2\n* 1\n",
        "splits": "b.openfaas-fn 90:4:b.openfaas-fn,10:3:b.openfaas-fn/3\n",
        "bodies": "b.openfaas-fn 5\n",
        "timeouts": "b.openfaas-fn 1500\n",
        "queues": "b.openfaas-fn 0\n",
        "answers": "b.openfaas-fn 0\n",
        "inflight": "b.openfaas-fn 3\n",
        "cors": "b.openfaas-fn https://a,http://b:1\n",
    }


def test_haproxy_accepts_the_configuration(tmp_path: Path) -> None:
    settings = Settings(str(tmp_path / "d"), str(tmp_path / "r"), slots=5)
    (tmp_path / "r" / "s").mkdir(parents=True)
    process.check(process.binary(), write(settings, 5))


def test_haproxy_accepts_a_listener_for_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESCOLDO_INSIDE", "127.0.0.1:4714")
    test_haproxy_accepts_the_configuration(tmp_path)


def test_the_number_of_slots_never_shrinks(tmp_path: Path) -> None:
    settings = Settings(str(tmp_path), str(tmp_path), slots=10)
    assert slot_count(settings) == 10
    settings.slots_file.write_text("40")
    assert slot_count(settings) == 40
    settings.slots_file.write_text("")
    assert slot_count(settings) == 10


def test_a_function_whose_own_limits_only_matter_when_full_is_not_marked() -> None:
    route = Route(function_id("a"), SlotName("s1"), max_queue=0, max_inflight=3)
    assert map_text([route], Limits(max_queue=7))["routes"] == "a.openfaas-fn s1\n* 1\n"


def test_equal_lines_count_as_separate_calls() -> None:
    late = LINE.replace(b" 12 0 2 ", b" 40000 0 2 ")
    cold = LINE.replace(b" - ", b" cold:900:500:100:100:100:100 ")
    calls, colds, _ = tally([LINE, late, cold, LINE, cold, LINE])
    assert len(colds) == 2
    # the three of LINE, then `late`, which ended in the next minute, then `cold`
    assert [(sums.calls, sums.queue_ms, sums.run_ms, sums.bytes_in, sums.bytes_out) for sums in calls.values()] == [
        (3, 6, 30, 165, 156),
        (1, 2, 39998, 55, 52),
        (2, 4, 20, 110, 104),
    ]
    assert [sum(sums.buckets) for sums in calls.values()] == [3, 1, 2]
    assert [key.minute for key in calls] == [29923565, 29923566, 29923565]


def test_a_failed_call_is_counted_like_any_and_reported_with_its_id() -> None:
    told = LINE.replace(b" 200 - ", b" 502 -:failed:1795412345678901:fn-1:a%20b%0A%1B ")
    calls, colds, failed = tally([LINE, told, told.replace(b" -:", b" cold:"), told.replace(b":fn-1:", b"::")])
    assert (sorted((key.status, key.cold) for key in calls), colds) == ([(200, False), (502, False), (502, True)], [])
    call = FailedCall(function_id("fn"), InstanceId("fn-1"), r"a b\n\x1b", 1795412345.678901, 502)
    assert failed == [call, call]


@given(st.lists(st.binary(max_size=120)))
def test_no_line_can_break_the_counting_of_the_others(noise: list[bytes]) -> None:
    lines = [line for line in noise if b"fn.openfaas-fn" not in line]
    counted, *_ = tally([LINE, *lines, LINE])
    mine = {key: sums for key, sums in counted.items() if key.function == function_id("fn")}
    assert [sums.calls for sums in mine.values()] == [2]


FIELDS = [b"", b" ", b"-", b"-1", b"7", b"x.y", b"\xff", b"1e9", b"cold", b"cold:9:7:1:1:1:1", b"cold:3:7:9:-1:::"]
FIELDS += [b"-:failed:1:i:%0a%ff", b"cold:failed:1:i:c", b"-:failed:::", b"-:failed:" + b"9" * 400 + b":i:c"]


@given(st.lists(st.sampled_from(FIELDS), max_size=11))
def test_no_combination_of_fields_raises_or_gives_negative_counts(fields: list[bytes]) -> None:
    calls, colds, _ = tally([b" ".join(fields)])
    assert all(min(cold[1:]) >= 0 for cold in colds)
    for sums in calls.values():
        assert min(sums.calls, sums.queue_ms, sums.run_ms, sums.bytes_in, sums.bytes_out) >= 0
