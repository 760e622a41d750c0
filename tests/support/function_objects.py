"""Functions as objects that are not valid, and deployments of all shapes; for unit tests and a real API server."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from rescoldo.kube.functions import FUNCTIONS
from rescoldo.model.function import FunctionSpec
from rescoldo.model.text import is_plain

# what the HTTP API and the schema both refuse, in the HTTP API's words: name, spec, message
REFUSED_BY_BOTH: list[tuple[str, dict[str, Any]]] = [
    ("he.llo", {"image": "a"}),
    ("a" * 64, {"image": "a"}),
    ("a", {"image": "a", "secrets": ["good", "Bad"]}),
    ("a", {"image": "a", "secrets": [".hidden"]}),
    ("a", {"image": "a", "secrets": ["a..b"]}),
    ("a", {"image": "a", "envVars": {"A=B": "1"}}),
    ("a", {"image": "a", "envVars": {"": "1"}}),
    ("a", {"image": "a", "annotations": {"rescoldo.dev/concurency": "1"}}),
    ("a", {"image": "a", "annotations": {"rescoldo.dev/": "1"}}),
    ("a", {"image": "a", "annotations": {"rescoldo.dev/rollout": " quick "}}),
    ("a", {"image": "a", "annotations": {"rescoldo.dev/max-strict": "yes"}}),
    ("a", {"image": "a", "labels": {"com.openfaas.scale.zero": "maybe"}}),
]
# what the schema refuses in the API server's words
REFUSED_BY_TYPE: list[tuple[dict[str, Any], str]] = [
    ({}, "spec.image: Required value"),
    ({"image": ""}, "spec.image in body should be at least 1 chars long"),
    ({"image": "x" * 1001}, "spec.image: Too long: may not be more than 1000"),
    ({"image": "a\u202eb"}, "image is not valid: control characters are not allowed, but for tabs"),
    ({"image": "a\nb"}, "image is not valid: control characters are not allowed, but for tabs"),
    ({"image": 1}, "spec.image in body must be of type string"),
    ({"image": "a", "envVars": {"A": 1}}, "spec.envVars.A in body must be of type string"),
    ({"image": "a", "envVars": ["A"]}, "spec.envVars in body must be of type object"),
    ({"image": "a", "limits": {"cpu": 1}}, "spec.limits.cpu in body must be of type string"),
    ({"image": "a", "readOnlyRootFilesystem": "yes"}, "spec.readOnlyRootFilesystem in body must be of type boolean"),
    ({"image": "a", "secrets": [f"s{n}" for n in range(51)]}, "spec.secrets: Too many: 51: must have at most 50 items"),
    ({"image": "a", "secrets": ["s" * 254]}, "spec.secrets[0]: Too long: may not be more than 253"),
    ({"image": "a", "labels": {f"l{n}": "" for n in range(1001)}}, "must have at most 1000 items"),
    ({"image": "a", "imagee": "b"}, 'unknown field "spec.imagee"'),
]
# what the schema takes and the condition Accepted refuses
REFUSED_LATER: list[dict[str, Any]] = [
    {"image": "a", "annotations": {"rescoldo.dev/concurrency": "many"}},
    {"image": "a", "annotations": {"rescoldo.dev/idle-window": "0"}},
    {"image": "a", "labels": {"com.openfaas.scale.min": "5", "com.openfaas.scale.max": "2"}},
    {"image": "a", "limits": {"memory": "1Mi"}},
    {"image": "a", "limits": {"memory": "lots"}},
    {"image": "a", "limits": {"cpu": "100m"}, "requests": {"cpu": "1"}},
    {"image": "a", "envVars": {"exec_timeout": "soon"}},
    {"image": "a", "labels": {"x\x1b": "1"}},
]

_PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20).filter(is_plain)
_WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20)
_TABLES = st.dictionaries(_PLAIN.filter(lambda key: key and "=" not in key and "/" not in key), _PLAIN, max_size=4)

deployments = st.builds(
    FunctionSpec,
    name=_WORDS,
    image=_PLAIN.filter(bool),
    namespace=_WORDS,
    env_process=_PLAIN,
    env_vars=_TABLES,
    labels=_TABLES,
    annotations=_TABLES,
    constraints=st.lists(_PLAIN, max_size=4).map(tuple),
    secrets=st.lists(_WORDS, max_size=4).map(tuple),
    limits=_TABLES,
    requests=_TABLES,
    read_only_root_filesystem=st.booleans(),
)


def function(spec: dict[str, Any], name: str = "a", namespace: str = "blue") -> dict[str, Any]:
    """A Function, valid or not."""
    about = {"apiVersion": FUNCTIONS.api_version, "kind": FUNCTIONS.kind}
    return {**about, "metadata": {"name": name, "namespace": namespace}, "spec": spec}
