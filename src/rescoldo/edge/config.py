"""Writes HAProxy's configuration: `render` makes its text, `write` this file and those that it names."""

from __future__ import annotations

import os
import resource
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from string import Template

from rescoldo import __version__
from rescoldo.edge.pages import SLOT_ERRORS, error_pages, slot_error
from rescoldo.edge.pool import write_pool
from rescoldo.edge.protocol import LiveServer, Route
from rescoldo.model.access import BUILD_PATH, OPEN_PATHS, OPEN_PREFIXES, REALM, UNAUTHORIZED, UNPROVEN
from rescoldo.model.ids import EDGE_UID
from rescoldo.model.limits import Limits
from rescoldo.model.names import DEFAULT_NAMESPACE, SlotName
from rescoldo.model.settings import Settings

HOLD_SECONDS = 120  # how long a request may be held; no ready timeout is longer
MAX_BUILDS = 16  # clients at once that send or follow a build: they need no login
TIMEOUT_MARGIN = 5.0  # seconds that the edge waits beyond a function's own limit, so that its 504 comes first
GATEWAYS_TLS = 3  # number of the listener for gateways that speak TLS to a worker
INSIDE = 2  # number of the listener for instances in the gateway's frontend
INSIDE_SHARE = 4  # divisor: all instances together may have a fourth of the clients' connections
INSTANCE_SHARE = 4  # divisor: one instance may have a fourth of those
LOG_FORMAT = "%[var(txn.fn)] %ST %[var(txn.cold)] %Ts %Ta %TR %Tw %U %B"  # as accesslog.py reads it
HTTPS_PORT = "443"
LOGIN_KEY = "req.hdr(authorization),word(2,' '),b64dec,sha2(256),hex"  # of a request, as `login_key` makes it
# Adds the headers about the caller, unless a proxy in front has set them.
FORWARD = (
    "  http-request add-header X-Forwarded-Host %[req.hdr(host)] unless { req.hdr(x-forwarded-host) -m found }",
    "  http-request add-header X-Forwarded-For %[var(sess.client)] unless { req.hdr(x-forwarded-for) -m found }",
    "  http-request add-header X-Forwarded-Proto http unless { req.hdr(x-forwarded-proto) -m found }",
)
# comes before FORWARD; calls by functions use a listener of their own, which speaks plain HTTP
FORWARD_HTTPS = (
    "  http-request add-header X-Forwarded-Proto https if { ssl_fc } !{ req.hdr(x-forwarded-proto) -m found }"
)
FORWARDED = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded")
RING_BYTES = 8 * 2**20  # about 100,000 calls while the controller is away
KNOWN_ALL = "*"  # this key in the map of routes marks it as complete: other names are unknown
MAPS = ("routes", "splits", "bodies", "timeouts", "queues", "answers", "inflight", "cors")
LOGINS = "logins"  # a map beside MAPS: the login of the platform, see login_key
POOL_SECRETS = "pool"  # another one: what gateways say to a worker, see pool.py
# maps that a call looks at only when its slot has MARK
MARKING = frozenset({"splits", "bodies", "timeouts", "answers", "cors"})
# The `sni` of a server line chooses the idle connections that a request may use, though nothing here is TLS: those with
# the same value. HAProxy evaluates it at each attempt, and the expression counts attempts: 0 for the first, a unique
# number for the second. So a second attempt opens a new connection: the first one found its pooled connection closed,
# and perhaps the whole pool is.
POOL = "var(txn.attempts,0),add(1),set-var(txn.attempts),sub(1),mul(txn.start)"
PORT_SLOT = "t"  # prefix of the slots for programs at TCP ports
PORT_SHARE = 16  # one port slot for this many other slots
# Requests to programs at TCP ports get one more attempt than others. An immediate retry may still reach the socket of
# the ending program, and is reset with it; the next attempt reaches the stand-in (isolation/netfence.py).
PORT_RETRIES = 2
ASLEEP = "-"  # stands for the slot of a sleeping function
PAUSED = ":paused"  # after ASLEEP: calls are refused
MARK = ":own"  # after the slot of a function that is in one of MARKING


def slot_names(count: int) -> list[SlotName]:
    """The names of the first `count` slots, without those for programs at TCP ports."""
    return [SlotName(f"s{number}") for number in range(count)]


def port_slot_names(count: int) -> list[SlotName]:
    """The slots for programs at TCP ports that an edge with `count` others has: 64 beside 1,000."""
    # at least two, since an update takes a second one; none in an edge without slots
    return [SlotName(f"{PORT_SLOT}{number}") for number in range(2 + count // PORT_SHARE if count else 0)]


def is_port_slot(slot: SlotName) -> bool:
    """Whether `slot` is for programs at TCP ports."""
    return slot.startswith(PORT_SLOT)


def slot_count(settings: Settings) -> int:
    """The number of slots that the edge has: it grows once nearly all are in use."""
    try:
        return max(settings.slots, int(settings.slots_file.read_text()))
    except (OSError, ValueError):
        return settings.slots


def map_values(route: Route, limits: Limits) -> dict[str, int | str]:
    """A function's values by map, beside its slot: only those that differ from the platform's, so that most functions
    are in no map. A split is "90:4:fn.openfaas-fn,10:3:fn.openfaas-fn/3", as split.lua reads it."""
    timeout = None if route.response_timeout is None else _milliseconds(route.response_timeout)
    found: dict[str, tuple[int | str | None, int | None]] = {
        "splits": (",".join(f"{share.percent}:{share.revision}:{share.key}" for share in route.split) or None, None),
        "bodies": (route.max_body, limits.max_body),
        "timeouts": (timeout, _milliseconds(limits.exec_timeout + TIMEOUT_MARGIN)),
        "queues": (route.max_queue, limits.max_queue),
        "answers": (route.max_response, limits.max_response),
        "inflight": (route.max_inflight, None),
        "cors": (",".join(route.cors) or None, None),
    }
    return {name: value for name, (value, default) in found.items() if value is not None and value != default}


def route_value(route: Route, own: Iterable[str]) -> str:
    """A function's value in the map of routes; `own` are the other maps that hold it. Most functions are in none, and
    their warm calls look at no other map."""
    if route.paused:
        return ASLEEP + PAUSED
    return (route.slot or ASLEEP) + ("" if MARKING.isdisjoint(own) else MARK)


def map_text(routes: Iterable[Route], limits: Limits, *, complete: bool = True) -> dict[str, str]:
    """The maps as texts, for `write`; see `EdgeState.complete`."""
    text = dict.fromkeys(MAPS, "")
    for route in routes:
        own = map_values(route, limits)
        text["routes"] += f"{route.function} {route_value(route, own)}\n"
        for name, value in own.items():
            text[name] += f"{route.function} {value}\n"
    if complete:
        text["routes"] += f"{KNOWN_ALL} 1\n"
    return text


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def server_line(server: LiveServer) -> str:
    """A server's address and settings, the same in the file and in `add server`."""
    return f"{server.address} maxconn {server.concurrency} sni {POOL}"


def connection_limits(settings: Settings) -> tuple[int, int]:
    """How many connections HAProxy takes in all, and how many of them from clients: each held request needs a second
    one, to HAProxy itself. When the hard limit of descriptors allows fewer, at most a quarter is for holds."""
    most = connection_limit(settings.max_connections + settings.max_holds)
    return most, min(settings.max_connections, most - min(settings.max_holds, most // 4))


def inside_limits(clients: int) -> tuple[int, int]:
    """How many of `clients` connections all instances together may have, and one instance: 2,500 and 625 of 10,000."""
    together = max(1, clients // INSIDE_SHARE)
    return together, max(1, together // INSTANCE_SHARE)


def connection_limit(wanted: int) -> int:
    """`wanted` connections, or as many as the process's hard limit of descriptors allows (two for each)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if hard == resource.RLIM_INFINITY else max(100, min(wanted, (hard - 500) // 2))


def render(settings: Settings, slots: int, servers: Iterable[LiveServer] = ()) -> str:
    """The configuration with `slots` slots; `servers` are those to start with, after a reload."""
    template = Template(resources.files(__package__).joinpath("haproxy.cfg.tmpl").read_text())
    return template.substitute(
        version=__version__,
        **_process(settings),
        **_connections(settings),
        **_files(settings),
        **_listeners(settings),
        **_logins(settings),
        **_limits(settings),
        log_format=LOG_FORMAT,
        ring_bytes=RING_BYTES,
        known_all=KNOWN_ALL,
        default_namespace=DEFAULT_NAMESPACE,
        paused=ASLEEP + PAUSED,
        forwarded="\n".join([*([FORWARD_HTTPS] if settings.tls_cert is not None else []), *FORWARD]),
        distrust=_distrust(settings.trusted_proxies),
        slot_errors="\n".join(map(slot_error, SLOT_ERRORS)),
        slots=_slots(slots, servers),
    )


# each of these fills in some of the template's names

Names = dict[str, object]


def _process(settings: Settings) -> Names:
    as_root = os.geteuid() == 0
    return {
        "threads": settings.edge_threads,
        "identity": f"uid {EDGE_UID}\n  gid {EDGE_UID}" if as_root else "",
        "owner": f"uid {EDGE_UID}" if as_root else "",
        "may_be_stale": "no" if settings.max_stale is None else "yes",
        "stale": "yes" if settings.stale_file.exists() else "no",
    }


def _connections(settings: Settings) -> Names:
    connections, clients = connection_limits(settings)
    instances, instance = inside_limits(clients)
    return {
        "all_connections": connections,
        "max_connections": clients,
        "inside": INSIDE,
        "inside_connections": instances,
        "instance_connections": instance,
    }


def _files(settings: Settings) -> Names:
    edge = settings.edge
    wake = f"{edge}/wake.lua {settings.wake_socket} {HOLD_SECONDS}"
    return {
        "lua": f"{wake} {settings.max_holds} {settings.max_holds_per_function}",
        "split_lua": edge / "split.lua",
        "cors_lua": edge / "cors.lua",
        "errors": edge,
        "admin_socket": settings.admin_socket,
        "hold_socket": settings.hold_socket,
        "log_socket": settings.log_socket,
        "api_socket": settings.api_socket,
        **{name: map_file(settings, name) for name in (*MAPS, LOGINS, POOL_SECRETS)},
    }


def _listeners(settings: Settings) -> Names:
    return {
        "gateway": settings.gateway,
        "metrics": settings.metrics,
        "tls": _tls(settings),
        "gateways_tls": _gateways_tls(settings),
        "redirect": _redirect(settings),
        "to_itself": " ssl verify none" if settings.tls_cert is not None else "",
    }


def _logins(settings: Settings) -> Names:
    return {
        "own_login": f"{LOGIN_KEY},map_str({map_file(settings, LOGINS)}) -m found",
        "build_path": BUILD_PATH,
        "max_builds": MAX_BUILDS,
        "open_paths": " ".join(sorted(OPEN_PATHS)),
        "open_prefixes": " ".join(OPEN_PREFIXES),
        "realm": REALM,
        "unauthorized": UNAUTHORIZED.replace("\n", "\\n"),
        "role": "alone" if settings.join is None else "worker",
        "unproven": UNPROVEN.replace("\n", "\\n"),
    }


def _limits(settings: Settings) -> Names:
    limits = settings.limits
    return {
        "max_system_body": settings.max_system_body,
        "max_body": limits.max_body,
        "max_queue": limits.max_queue,
        "max_response": limits.max_response,
        "queue_timeout_ms": _milliseconds(settings.queue_timeout),
        "response_timeout_ms": _milliseconds(limits.exec_timeout + TIMEOUT_MARGIN),
    }


def _slots(count: int, servers: Iterable[LiveServer]) -> str:
    """The backend of each slot, with its servers."""
    lines = defaultdict[SlotName, str](str)
    for server in servers:
        lines[server.slot] += f"  server {server.instance} {server_line(server)}\n"
    return "\n".join(
        [f"backend {slot} from slots\n{lines[slot]}" for slot in slot_names(count)]
        + [f"backend {slot} from slots\n  retries {PORT_RETRIES}\n{lines[slot]}" for slot in port_slot_names(count)]
    )


def _tls(settings: Settings) -> str:
    """The options of the gateway's `bind` for TLS; empty without a certificate."""
    if settings.tls_cert is None:
        return ""
    return f" ssl crt {settings.certificate} alpn h2,http/1.1 ssl-min-ver TLSv1.2"


def _gateways_tls(settings: Settings) -> str:
    """The listener of a worker for gateways that speak TLS; empty without --gateways-tls-address."""
    if settings.gateways_tls is None:
        return ""
    options = f"ssl crt {settings.certificate} alpn http/1.1 ssl-min-ver TLSv1.3"
    return f'  bind "${{RESCOLDO_GATEWAYS_TLS-{settings.gateways_tls}}}" id {GATEWAYS_TLS} {options}'


def _redirect(settings: Settings) -> str:
    """The frontend that redirects plain HTTP to HTTPS; empty without --redirect-address."""
    if settings.redirect is None:
        return ""
    port = settings.gateway.rpartition(":")[2]
    there = "https://%[req.hdr(host),host_only]" + ("" if port == HTTPS_PORT else f":{port}")
    # 308: a POST stays a POST
    return (
        "frontend redirect from base\n"
        f'  bind "${{RESCOLDO_REDIRECT-{settings.redirect}}}"\n'
        f"  http-request redirect prefix {there} code 308\n"
    )


def _distrust(proxies: Sequence[str]) -> str:
    """The rules that remove a proxy's headers from requests of all but `proxies`; empty when none are named."""
    if not proxies:
        return ""
    # an instance is no proxy, although its address may be one of this machine
    unless = f"unless {{ src {' '.join(proxies)} }} !{{ so_id {INSIDE} }}"
    return "\n".join(f"  http-request del-header {name} {unless}" for name in FORWARDED)


def map_file(settings: Settings, name: str) -> Path:
    """The file of one of MAPS, of LOGINS, or of POOL_SECRETS."""
    return settings.edge / f"{name}.map"


def config_file(settings: Settings) -> Path:
    """The path of HAProxy's configuration."""
    return settings.edge / "haproxy.cfg"


def write(settings: Settings, slots: int, servers: Iterable[LiveServer] = (), **maps: str) -> Path:
    """Write the configuration and the files that it names; return its path. `maps` are the texts of MAPS.

    Empty maps lack KNOWN_ALL: no name counts as unknown, and every request is held until the controller has sent the
    routes.
    """
    edge = settings.edge
    edge.mkdir(parents=True, exist_ok=True)
    edge.chmod(0o700)
    for script in ("wake.lua", "split.lua", "cors.lua"):
        (edge / script).write_text(resources.files(__package__).joinpath(script).read_text())
    for name, page in error_pages().items():
        (edge / name).write_bytes(page)
    for name in (*MAPS, LOGINS):
        map_file(settings, name).write_text(maps.get(name, ""))
    write_pool(map_file(settings, POOL_SECRETS), settings.pool_secrets)
    path = config_file(settings)
    path.write_text(render(settings, slots, servers))
    return path
