"""Writes what a gateway's HAProxy reads: its configuration, the pools with their last known servers, and the maps.

HAProxy is started with both files (`command`), so that one that is restarted while neither agent nor API server answers
begins with the last known workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from rescoldo.durable import replace_private
from rescoldo.edge.config import FORWARD, FORWARDED, HOLD_SECONDS, KNOWN_ALL, connection_limit
from rescoldo.edge.pages import CONTROL_ERRORS, ERRORS, error_page
from rescoldo.gateway.servers import TLS_OPTIONS, PoolName, Server, ServerKey, server_line
from rescoldo.model.names import DEFAULT_NAMESPACE

WORKER_ERRORS = {
    502: "the worker ended before its response was complete; if the call may be repeated, repeat it",
    503: "no worker could take the request in time",
    504: "the worker did not answer in time",
}
POOLS = "pools"  # map: the pool of each namespace; with the key KNOWN_ALL it is complete
SECRETS = "secrets"  # map: by namespace what its workers take for the proof that a call came through a gateway
CONTROL = "control"  # map: the secrets by which control proves that it is control
MAPS = (POOLS, SECRETS, CONTROL)
ENDING_MARGIN_MS = 20  # beyond the connect timeout: no attempt to connect to a worker that went down is under way then
DOWN_LUA = "down.lua"


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The values of a gateway; times in seconds."""

    folder: Path  # shared with HAProxy's container; has secrets, so it should be memory
    control: str  # HOST:PORT of control's API
    address: str = "0.0.0.0:8080"
    pools: int = 64  # namespaces with functions, at most
    default_namespace: str = DEFAULT_NAMESPACE  # of functions that are called by their bare names
    worker_port: int = 8080
    check_port: int = 8082  # a worker's metrics port
    slowstart: float = 4.0
    connect_timeout: float = 0.15  # for a connection to a worker; between nodes it takes a few ms, with TLS some cpu
    response_timeout: float = HOLD_SECONDS + 3600.0  # how long a call may be held and then run, at most
    max_connections: int = 10_000
    threads: int = 1
    trusted_proxies: tuple[str, ...] = ()  # whose X-Forwarded- headers count; empty: everybody's

    @property
    def admin_socket(self) -> Path:
        """HAProxy's Runtime API."""
        return self.folder / "admin.sock"

    @property
    def config_file(self) -> Path:
        """HAProxy's configuration, but for the pools."""
        return self.folder / "gateway.cfg"

    @property
    def authority_file(self) -> Path:
        """The certificate of the workers' authority (PEM). It exists if this gateway can speak TLS to workers."""
        return self.folder / "authority.pem"

    @property
    def pools_file(self) -> Path:
        """The part of HAProxy's configuration that has the pools."""
        return self.folder / "pools.cfg"

    @property
    def ending_ms(self) -> int:
        """How long after a worker went down its calls are ended: 170 ms with a connect timeout of 150."""
        return int(self.connect_timeout * 1000) + ENDING_MARGIN_MS

    def map_file(self, name: str) -> Path:
        """The file of one of MAPS."""
        return self.folder / f"{name}.map"


def pool_names(settings: GatewaySettings) -> list[PoolName]:
    """The names of all pools."""
    return [PoolName(f"p{number}") for number in range(settings.pools)]


def write(settings: GatewaySettings, authority: str = "") -> None:
    """Write all that HAProxy reads at its start; keep what an earlier agent has left, but for the configuration.
    `authority`: the certificate of the workers' authority; empty where there is none."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    settings.folder.chmod(0o700)
    for name, page in _pages().items():
        (settings.folder / name).write_bytes(page)
    (settings.folder / DOWN_LUA).write_text(resources.files(__package__).joinpath(DOWN_LUA).read_text())
    for name in MAPS:
        settings.map_file(name).touch(0o600)
    if authority and not settings.authority_file.exists():
        write_authority(settings, authority)
    if not settings.pools_file.exists():
        write_pools(settings, (), {})
    replace_private(settings.config_file, render(settings).encode())


def render(settings: GatewaySettings) -> str:
    """The configuration, but for the pools."""
    template = Template(resources.files(__package__).joinpath("gateway.cfg.tmpl").read_text())
    trusted = f"unless {{ src {' '.join(settings.trusted_proxies)} }}" if settings.trusted_proxies else ""
    return template.substitute(
        folder=settings.folder,
        down_lua=f"{settings.folder / DOWN_LUA} {settings.ending_ms}",
        connect_timeout_ms=int(settings.connect_timeout * 1000),
        admin_socket=settings.admin_socket,
        pools_file=settings.pools_file.name,
        **{f"{name}_map": settings.map_file(name) for name in MAPS},
        gateway=settings.address,
        control=settings.control,
        default_namespace=settings.default_namespace,
        known_all=KNOWN_ALL,
        # one connection for a client and one for its worker: two descriptors each
        max_connections=connection_limit(settings.max_connections),
        threads=settings.threads,
        response_timeout_ms=int(settings.response_timeout * 1000),
        forwarded="\n".join(FORWARD),
        trust=_trust(settings),
        distrust="\n".join(f"  http-request del-header {name} {trusted}" for name in FORWARDED if trusted),
    )


def _trust(settings: GatewaySettings) -> str:
    """A backend that nobody uses: HAProxy takes servers at run time only with files that it has read at its start."""
    if not settings.authority_file.exists():
        return ""
    options = TLS_OPTIONS.format(authority=settings.authority_file)
    return f"backend trust from base\n  server nobody 192.0.2.1:1 {options} disabled\n"


def write_authority(settings: GatewaySettings, certificate: str) -> None:
    """Write the authority's certificate, which a restarted HAProxy reads."""
    replace_private(settings.authority_file, certificate.encode())


def read_authority(settings: GatewaySettings) -> str:
    """Read the authority's certificate; empty where there is none."""
    return settings.authority_file.read_text() if settings.authority_file.exists() else ""


def write_pools(settings: GatewaySettings, servers: Iterable[Server], ids: Mapping[ServerKey, int]) -> None:
    """Write the pools with the servers that a restarted HAProxy begins with. Those that drain are not among them."""
    lines = dict.fromkeys(pool_names(settings), "")
    for server in servers:
        if not server.draining:
            line = server_line(server.place, ids[server.key], settings.slowstart, str(settings.authority_file))
            lines[server.key.pool] += f"  server {server.key.pod} {line}\n"
    text = "".join(f"backend {pool} from workers\n{text}\n" for pool, text in lines.items())
    replace_private(settings.pools_file, f"# Written by rescoldo's agent: the last known workers.\n{text}".encode())


def write_map(settings: GatewaySettings, name: str, values: Mapping[str, str]) -> None:
    """Write one of MAPS, which a restarted HAProxy reads."""
    text = "".join(f"{key} {value}\n" for key, value in values.items())
    replace_private(settings.map_file(name), text.encode())


def read_map(settings: GatewaySettings, name: str) -> dict[str, str]:
    """Read one of MAPS; a map that is missing is empty."""
    try:
        lines = settings.map_file(name).read_text().splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split(" ", 1) for line in lines if " " in line)


def command(path: str, settings: GatewaySettings, *, first: bool = False) -> list[str]:
    """The command of HAProxy at `path`, in the foreground.

    `first`: as the first process of a container. Such a process gets no signal that it does not handle, and HAProxy has
    no handler for SIGTERM; its master process, which it has then, does.
    """
    master = ["-W"] if first else []
    return [path, *master, "-db", "-f", str(settings.config_file), "-f", str(settings.pools_file)]


def _pages() -> dict[str, bytes]:
    own = {f"{status}.http": error_page(status, text) for status, text in (ERRORS | WORKER_ERRORS).items()}
    return own | {f"control-{status}.http": error_page(status, text) for status, text in CONTROL_ERRORS.items()}
