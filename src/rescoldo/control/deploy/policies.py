"""Checks deployments against the platform's settings and its node."""

from __future__ import annotations

import logging

from rescoldo.control.deploy.images import Images
from rescoldo.control.deploy.namespaces import Namespaces
from rescoldo.control.fleet.known_node import KnownNode
from rescoldo.kinds.deployment import check_spec, notes_of, policy_of
from rescoldo.model.errors import InvalidInput
from rescoldo.model.function import Function, FunctionPolicy, FunctionSpec
from rescoldo.model.settings import Settings
from rescoldo.policy.placement import check_constraints

log = logging.getLogger(__name__)


class Policies:
    """Turns deployments into policies."""

    def __init__(self, settings: Settings, spaces: Namespaces, images: Images, node: KnownNode) -> None:
        self._settings = settings
        self._spaces = spaces
        self._images = images
        self._node = node

    def checked(self, spec: FunctionSpec, digest: str = "") -> FunctionPolicy:
        """The policy of a deployment with the bundle `digest`, or with the present bundle of its image. Raises
        InvalidInput if the deployment is not allowed or cannot run on the node, and NotFound without its
        namespace."""
        kind = self._images.kind(digest or self._images.known_digest(spec.image))
        policy = check_spec(spec, self._settings.limits, self._settings.scaling, held=kind)
        node = self._node.description
        check_constraints(spec.constraints, node.architecture, node.system)
        self._spaces.check(spec.namespace)
        return policy

    def stored(self, function: Function) -> FunctionPolicy:
        """The policy of a function that is deployed already. A later version may refuse settings that were allowed
        once; that must not keep the platform from starting, so the defaults replace them."""
        try:
            kind = self._images.kind(function.digest)
            return policy_of(function.spec, self._settings.limits, self._settings.scaling, held=kind)
        except InvalidInput as error:
            log.warning("%s has invalid settings and runs with the defaults: %s", function.id, error.message)
            return FunctionPolicy(limits=self._settings.limits)

    def notes(self, spec: FunctionSpec, digest: str) -> list[str]:
        """A sentence for each setting of a deployment that is accepted and has no effect here."""
        return notes_of(spec, self._node.level, self._images.kind(digest))
