"""Asks a Kubernetes API server what its credentials allow.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization, "Checking API access".
"""

from __future__ import annotations

from rescoldo.kube.protocol import Cluster, Resource

REVIEWS = Resource(
    "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False
)


async def may(cluster: Cluster, verb: str, resource: Resource, namespace: str = "") -> bool:
    """Return whether `verb` on a kind is allowed, in a namespace or without one in all of them."""
    attributes = {"verb": verb, "group": resource.group, "resource": resource.plural, "namespace": namespace}
    review = {
        "apiVersion": REVIEWS.api_version,
        "kind": REVIEWS.kind,
        "metadata": {},
        "spec": {"resourceAttributes": attributes},
    }
    answer = await cluster.create(REVIEWS, review)
    return bool(answer["status"]["allowed"])
