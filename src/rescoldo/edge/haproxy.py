"""The real edge: a HAProxy process that gets its servers and routes over the Runtime API, without reloads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from rescoldo.edge.admin import AdminSocket
from rescoldo.edge.config import KNOWN_ALL, LOGINS, MAPS, map_file, map_values, route_value, server_line
from rescoldo.edge.protocol import EdgeState, LiveServer, Route, SlotLoad
from rescoldo.model.errors import EdgeUnavailable
from rescoldo.model.names import InstanceId, RouteKey, SlotName
from rescoldo.model.settings import Settings

log = logging.getLogger(__name__)


OWN_BACKENDS = ("builds", "control", "health", "hold", "successor")  # of haproxy.cfg.tmpl; all others are slots
SINGLY = 150  # slots to ask for by name; for more, one question reads all
EVERY, BACKEND_ROWS, SERVER_ROWS = "-1", "2", "4"  # arguments of `show stat`
ENABLED = "0"  # srv_admin_state of an enabled server in `show servers state`
CUT_SECONDS = 3.0  # that HAProxy may take to delete a server after its sessions were cut
RETRY_SECONDS = 0.02  # back-off between attempts to delete a server; grows to LONGEST_RETRY_SECONDS
LONGEST_RETRY_SECONDS = 0.2
RECONNECT_SECONDS = 0.02
POLL_SECONDS = 1.0


class HaproxyEdge:
    """Implements `Edge` with HAProxy's Runtime API."""

    def __init__(self, settings: Settings, login: str | None = None) -> None:
        """`login`: the key (`login_key`) of the only login that the platform's routes accept; None: they need none."""
        self._admin = AdminSocket(settings.admin_socket)
        self._limits = settings.limits
        self._logins = {} if login is None else {login: "1", KNOWN_ALL: "1"}
        self._paths = {name: map_file(settings, name) for name in (*MAPS, LOGINS)}
        # the contents of all maps but "routes", to send changes only: most functions are in none of them
        self._values: dict[RouteKey, dict[str, int | str]] = {}
        self._look = asyncio.Event()
        # held while `synchronise` applies the wanted state: no route may change and no server be removed meanwhile
        self._applying = asyncio.Lock()

    async def add_server(self, server: LiveServer) -> None:
        name = f"{server.slot}/{server.instance}"
        answer = await self._admin.run(f"add server {name} {server_line(server)}", f"enable server {name}")
        if "New server registered" not in answer and "Already exists" not in answer:
            raise EdgeUnavailable(f"the edge refused server {name}: {answer.strip()}")

    async def remove_server(self, slot: SlotName, instance: InstanceId, *, patience: float = 3.0) -> None:
        name = f"{slot}/{instance}"
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        pause = RETRY_SECONDS
        while True:
            async with self._applying:  # else a synchronisation that still wanted the server could add it again
                answer = await self._admin.run(f"disable server {name}", f"del server {name}")
            if "Server deleted" in answer or "No such" in answer:
                return
            if await self._has_idle_connections_only(slot, name):
                # connections came back to the pool after the server was disabled, and would stay there for 15 s:
                # only disabling empties the pool, so enable and disable once more
                await self._admin.run(f"enable server {name}", f"disable server {name}")
            if loop.time() > deadline + CUT_SECONDS:
                raise EdgeUnavailable(f"the edge did not remove server {name}: {answer.strip()}")
            if loop.time() > deadline:  # repeatedly: HAProxy may retry a cut request on the same server
                await self._cut(slot, instance)
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, LONGEST_RETRY_SECONDS)

    async def _cut(self, slot: SlotName, instance: InstanceId) -> None:
        """End a server's sessions. `shutdown sessions server` misses sessions in a second attempt; find those with
        `show sess`."""
        await self._admin.run(f"shutdown sessions server {slot}/{instance}")
        sessions = (await self._admin.run("show sess")).splitlines()
        left = [line.partition(":")[0] for line in sessions if f" be={slot} " in line and f" srv={instance} " in line]
        if left:
            await self._admin.run(*(f"shutdown session {session}" for session in left))

    async def _has_idle_connections_only(self, slot: SlotName, name: str) -> bool:
        for line in (await self._admin.run(f"show servers conn {slot}")).splitlines():
            fields = line.split()
            if fields[:1] == [name]:
                # columns: bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb
                # safe_nb idle_lim idle_cur
                return int(fields[6]) == 0 and int(fields[12]) > 0
        return False

    async def set_route(self, route: Route) -> None:
        async with self._applying:
            own = map_values(route, self._limits)
            # before the slot, so that a waking function takes no call without its limits
            await self._set_values(route.function, own)
            await self._set_map("routes", route.function, route_value(route, own))

    async def drop_route(self, function: RouteKey) -> None:
        async with self._applying:
            await self._admin.run(f"del map {self._paths['routes']} {function}")
            await self._set_values(function, {})

    async def _set_values(self, function: RouteKey, values: dict[str, int | str]) -> None:
        before = self._values.get(function, {})
        if values == before:
            return
        for name in before.keys() - values.keys():
            await self._admin.run(f"del map {self._paths[name]} {function}")
        for name, value in values.items() - before.items():
            await self._set_map(name, function, str(value))
        if values:
            self._values[function] = values
        else:
            del self._values[function]

    async def load(self, slot: SlotName) -> SlotLoad:
        try:
            return (await self.loads([slot]))[slot]
        except KeyError:
            raise EdgeUnavailable(f"the edge has no slot {slot}") from None

    async def loads(self, slots: Iterable[SlotName]) -> dict[SlotName, SlotLoad]:
        asked = set(slots)
        if not asked:
            return {}
        # each answer repeats 1.7 KB of column names: reading all slots (1,000: 3.5 ms) costs less than many single ones
        names = sorted(asked) if len(asked) <= SINGLY else [EVERY]
        answer = await self._admin.run(*(f"show stat {name} {BACKEND_ROWS} {EVERY}" for name in names))
        loads = {}
        for line in answer.splitlines():
            if "BACKEND" in line[:24]:
                # columns of `show stat`: pxname, svname, qcur, qmax, scur, smax, slim, stot
                name, _, queued, _, in_flight, _, _, total, _ = line.split(",", 8)
                loads[SlotName(name)] = SlotLoad(int(in_flight), int(queued), int(total))
        return {name: load for name, load in loads.items() if name in asked}

    async def server_loads(self, slot: SlotName) -> dict[InstanceId, int]:
        answer = await self._admin.run(f"show stat {slot} {SERVER_ROWS} {EVERY}")
        rows = [line.split(",", 5) for line in answer.splitlines() if line.startswith(f"{slot},")]
        return {InstanceId(row[1]): int(row[4]) for row in rows}

    async def synchronise(self, wanted: Callable[[], EdgeState]) -> None:
        async with self._applying:
            states = await self._server_states()  # before `wanted`: a server added in between is not stale
            there = states.keys()
            state = wanted()
            servers = {(server.slot, server.instance): server for server in state.servers}
            for key, server in servers.items():
                # a disabled server was being removed when the controller died
                if states.get(key) != ENABLED:
                    await self.add_server(server)
            await self._replace_maps(list(state.routes), complete=state.complete)
        for slot, instance in there - servers.keys():  # outside the lock, which `remove_server` takes
            try:
                await self.remove_server(slot, instance)
            except EdgeUnavailable as error:
                log.warning("cannot remove a stale server from the edge: %s", error)

    async def watch(self, on_restart: Callable[[], None]) -> None:
        seen = ""
        while True:
            try:
                process = await self._process()
                if process != seen:
                    seen = process
                    on_restart()
                await self._closed_or_told()
            except EdgeUnavailable:
                pass
            await asyncio.sleep(RECONNECT_SECONDS)

    def look(self) -> None:
        """Make `watch` check at once whether a new process of the edge answers, because one has just connected."""
        self._look.set()

    async def _closed_or_told(self) -> None:
        """Wait until the present process ends or `look` is called, at most POLL_SECONDS: after a reload the old process
        would wait for this connection to end."""
        closed = asyncio.create_task(self._admin.wait_closed())
        told = asyncio.create_task(self._look.wait())
        await asyncio.wait({closed, told}, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        self._look.clear()
        for task in (closed, told):
            task.cancel()
        await asyncio.gather(closed, told, return_exceptions=True)

    async def _process(self) -> str:
        """The line of `show info` with the pid of the process that answers."""
        for line in (await self._admin.run("show info")).splitlines():
            if line.startswith("Pid:"):
                return line
        raise EdgeUnavailable

    async def servers(self) -> set[tuple[SlotName, InstanceId]]:
        return set(await self._server_states())

    async def _server_states(self) -> dict[tuple[SlotName, InstanceId], str]:
        answer = await self._admin.run("show servers state")
        rows = [line.split() for line in answer.splitlines()[2:] if line]
        # columns: be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state ...
        found = [row for row in rows if len(row) > 6 and row[1] not in OWN_BACKENDS]
        return {(SlotName(row[1]), InstanceId(row[3])): row[6] for row in found}

    async def _replace_maps(self, routes: list[Route], *, complete: bool) -> None:
        values = {route.function: map_values(route, self._limits) for route in routes}
        self._values = {function: own for function, own in values.items() if own}
        tables: dict[str, dict[str, str]] = {name: {} for name in MAPS}
        for function, own in self._values.items():
            for name, value in own.items():
                tables[name][function] = str(value)
        routed = {str(route.function): route_value(route, values[route.function]) for route in routes}
        for name in MAPS[1:]:
            await self._admin.replace_map(self._paths[name], tables[name])
        await self._admin.replace_map(self._paths[LOGINS], self._logins)
        # KNOWN_ALL goes with the last map: once all names are known, others are unknown
        await self._admin.replace_map(self._paths["routes"], {**routed, **({KNOWN_ALL: "1"} if complete else {})})

    async def _set_map(self, name: str, key: str, value: str) -> None:
        path = self._paths[name]
        answer = await self._admin.run(f"set map {path} {key} {value}")
        if "not found" in answer:  # `add map` alone would duplicate an existing entry
            answer = await self._admin.run(f"add map {path} {key} {value}")
        if answer.strip():
            raise EdgeUnavailable(f"the edge refused {key} in {path}: {answer.strip()}")
