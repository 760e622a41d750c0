"""Keeps the platform's own Secrets: what is missing in one is added, and what others have put there stays.

Only a Secret with our labels is changed where it has a value already: a Secret of a user that happens to have the name
of ours loses nothing. Two controls may write at once, for the moment in which one replaces the other: of two that
create a Secret or change it, the second one reads what the first has written, and keeps that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rescoldo.kube.errors import Changed, ClusterUnavailable
from rescoldo.kube.protocol import Cluster, Object
from rescoldo.kube.secrets import SECRETS, encoded, labels_of, secret_object, values_of
from rescoldo.model.errors import Conflict, InvalidInput, NotFound

LABELS = {"app.kubernetes.io/managed-by": "rescoldo", "app.kubernetes.io/part-of": "rescoldo"}
SELECTOR = ",".join(f"{label}={value}" for label, value in LABELS.items())
ATTEMPTS = 5  # while others change the Secret

Values = Mapping[str, bytes]
Wanted = Callable[[Values, bool], Values]
"""What is to be added to a Secret's values or replaced in them, empty for nothing; the second argument is whether it is
ours. Raises InvalidInput for values that it cannot use and must not replace."""


async def keep(cluster: Cluster, namespace: str, name: str, wanted: Wanted) -> dict[str, bytes]:
    """Bring a Secret to what is wanted, and return its values.

    Raises InvalidInput naming the Secret, what is wrong and the remedy; NotFound if the namespace does not exist;
    Forbidden and ClusterUnavailable as the cluster does.
    """
    where = f"Secret {name} in namespace {namespace}"
    for _ in range(ATTEMPTS):
        found = await _get(cluster, namespace, name)
        values = {} if found is None else values_of(found)
        ours = found is None or LABELS.items() <= labels_of(found).items()
        try:
            change = wanted(values, ours)
        except InvalidInput as error:
            raise InvalidInput(
                f"{where}: {error.message}; or delete it, and control makes another one: kubectl delete secret {name} "
                f"-n {namespace}"
            ) from error
        if not change:
            return values
        if not ours and change.keys() & values.keys():
            raise InvalidInput(
                f"{where} is not rescoldo's, which needs its name: delete it, or give it to rescoldo: kubectl label "
                f"secret {name} -n {namespace} {' '.join(f'{label}={value}' for label, value in LABELS.items())}"
            )
        if await _write(cluster, namespace, name, found, change):
            return {**values, **change}
    raise ClusterUnavailable(f"{where} is changed by somebody else all the time")


async def _get(cluster: Cluster, namespace: str, name: str) -> Object | None:
    try:
        return await cluster.get(SECRETS, name, namespace)
    except NotFound:
        return None


async def _write(cluster: Cluster, namespace: str, name: str, found: Object | None, change: Values) -> bool:
    """Create or change a Secret; return whether it was as it had been `found`. Raises NotFound for the namespace."""
    if found is None:
        try:
            await cluster.create(SECRETS, secret_object(name, namespace, change, LABELS))
        except Conflict:
            return False
        except NotFound as error:
            raise NotFound(
                f"namespace {namespace} does not exist: create it with kubectl create namespace {namespace}"
            ) from error
        return True
    version = found["metadata"]["resourceVersion"]
    try:
        patch = {"metadata": {"resourceVersion": version}, "data": encoded(change)}
        await cluster.patch(SECRETS, name, patch, namespace)
    except (Changed, NotFound):
        return False
    return True
