"""The Secrets in control's own namespace, and what control knows of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from rescoldo.cluster.authority import Authority
from rescoldo.cluster.identities_kept import Values, keep
from rescoldo.cluster.identities_wanted import (
    AUTHORITY,
    CONTROL_KEYS,
    LOGIN,
    POOLS,
    authority_of,
    authority_wanted,
    control_key_of,
    control_keys_wanted,
    login_wanted,
    pool_of,
    pools_wanted,
)
from rescoldo.kube.protocol import Cluster
from rescoldo.model.errors import InvalidInput


class SystemSecrets:
    """Each check reads a Secret, makes or repairs it, and takes over what it has. It raises what `keep` raises, and
    what was known before goes on."""

    def __init__(self, cluster: Cluster, namespace: str, pools: Sequence[str], clock: Callable[[], float]) -> None:
        """`namespace`: control's; `pools`: the namespaces that hold functions; `clock`: Unix seconds."""
        self.checks: Mapping[str, Callable[[], Awaitable[None]]] = {
            AUTHORITY: self._check_authority,
            LOGIN: self._check_login,
            POOLS: self._check_pools,
            CONTROL_KEYS: self._check_control_keys,
        }
        self.login: Values = {}
        self.control_key = ""
        self._cluster, self._namespace, self._names, self._clock = cluster, namespace, tuple(pools), clock
        self._authority: Authority | None = None
        self._pools: Values = {}

    @property
    def authority(self) -> Authority:
        """The authority, once its check has succeeded."""
        assert self._authority is not None
        return self._authority

    def pool(self, namespace: str) -> str:
        """What gateways say to the workers of a namespace. Raises InvalidInput."""
        try:
            return pool_of(self._pools, namespace)
        except InvalidInput as error:
            raise InvalidInput(f"Secret {POOLS} in namespace {self._namespace}: {error.message}") from error

    async def check_end(self) -> None:
        """Raise InvalidInput for an authority that is to be renewed by those who have made it."""
        if self.authority.is_due(self._clock()):
            raise InvalidInput(
                f"Secret {AUTHORITY} in namespace {self._namespace} is not rescoldo's and ends soon: renew its "
                "certificate with the same key"
            )

    async def _check_authority(self) -> None:
        now, known = self._clock(), self._authority
        values = await keep(
            self._cluster, self._namespace, AUTHORITY,
            lambda values, ours: authority_wanted(values, ours, known, now),
        )  # fmt: skip
        self._authority = authority_of(values)

    async def _check_login(self) -> None:
        known = self.login
        self.login = await keep(self._cluster, self._namespace, LOGIN, lambda values, _: login_wanted(values, known))

    async def _check_pools(self) -> None:
        known = self._pools
        self._pools = await keep(
            self._cluster, self._namespace, POOLS, lambda values, _: pools_wanted(values, self._names, known)
        )

    async def _check_control_keys(self) -> None:
        known = self.control_key
        values = await keep(
            self._cluster, self._namespace, CONTROL_KEYS, lambda values, _: control_keys_wanted(values, known)
        )
        self.control_key = control_key_of(values)
