"""JSON bodies of requests and responses, as in OpenFaaS's REST API (https://docs.openfaas.com/reference/rest-api).

`read_body` reads bodies, not FastAPI: clients send JSON under any content type (curl -d, Go's default), the size must
be limited while reading, and errors are text.
"""

from __future__ import annotations

import base64
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import Request

from rescoldo.api.references import reference
from rescoldo.model.calls import FailedCall
from rescoldo.model.errors import InvalidInput, TooLarge
from rescoldo.model.explanation import Explanation
from rescoldo.model.function import FunctionSpec, FunctionStatus, spec_to_json
from rescoldo.model.limits import Limits
from rescoldo.model.names import split_id
from rescoldo.model.secret import MAX_SECRET
from rescoldo.model.standing import State
from rescoldo.model.violations import describe

MAX_BODY = 2**20  # bytes of a JSON body
MAX_SECRET_BODY = 2 * MAX_SECRET  # base64 adds a third
MAX_ALERTS = 1000  # in one request

Model = TypeVar("Model", bound=BaseModel)

# Go's encoders send null for an empty map, list or text
Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
Table = Annotated[dict[str, str], BeforeValidator(lambda value: {} if value is None else value)]
Texts = Annotated[list[str], BeforeValidator(lambda value: [] if value is None else value)]
Flag = Annotated[bool, BeforeValidator(lambda value: False if value is None else value)]


class Body(BaseModel):
    """A JSON object whose unknown fields are ignored, as Go's decoder does."""

    # a refused value may be a secret: no error repeats it
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", hide_input_in_errors=True
    )


class FunctionDeployment(Body):
    """What POST and PUT /system/functions take. `registryAuth` and `network` are ignored."""

    service: str
    image: str
    namespace: Text = ""
    env_process: Text = ""
    env_vars: Table = Field(default_factory=dict)
    labels: Table = Field(default_factory=dict)
    annotations: Table = Field(default_factory=dict)
    constraints: Texts = Field(default_factory=list)
    secrets: Texts = Field(default_factory=list)
    limits: Table = Field(default_factory=dict)
    requests: Table = Field(default_factory=dict)
    read_only_root_filesystem: Flag = False

    def to_spec(self, namespace: str = "") -> FunctionSpec:
        """The spec to deploy; `namespace` comes from the query. Raises InvalidInput."""
        name, place = split_id(reference(self.service, namespace, self.namespace))
        return FunctionSpec(
            name=name,
            image=self.image,
            namespace=place,
            env_process=self.env_process,
            env_vars=self.env_vars,
            labels=self.labels,
            annotations=self.annotations,
            constraints=tuple(self.constraints),
            secrets=tuple(self.secrets),
            limits=self.limits,
            requests=self.requests,
            read_only_root_filesystem=self.read_only_root_filesystem,
        )


class DeleteFunction(Body):
    """What DELETE /system/functions takes."""

    function_name: str
    namespace: Text = ""


class Reference(Body):
    """What a route takes that names its function in the path."""

    namespace: Text = ""


class ScaleFunction(Body):
    """What POST /system/scale-function/NAME takes."""

    service_name: Text = ""
    replicas: int = Field(ge=0)
    namespace: Text = ""


class NamespaceBody(Body):
    """A namespace as it is created, updated and read."""

    name: Text = ""
    labels: Table = Field(default_factory=dict)
    annotations: Table = Field(default_factory=dict)


class SecretReference(Body):
    """A secret as it is listed, and what DELETE /system/secrets takes."""

    name: str
    namespace: Text = ""


class SecretBody(SecretReference):
    """What POST and PUT /system/secrets take: text in `value`, or any bytes in `rawValue`, which comes first."""

    value: Text = Field("", repr=False)
    raw_value: Text = Field("", repr=False, description="base64")

    def content(self) -> bytes:
        """The secret's bytes; raises InvalidInput."""
        if not self.raw_value:
            return self.value.encode()
        try:
            return base64.b64decode(self.raw_value, validate=True)
        except ValueError:  # `from None`: the cause might reveal a part of the value
            raise InvalidInput("the request body is not valid: rawValue: not base64") from None


class AlertBody(Body):
    """One alert of Alertmanager."""

    status: Text = ""
    labels: Table = Field(default_factory=dict)


class AlertsBody(Body):
    """What POST /system/alert takes: the payload of Alertmanager's webhook."""

    status: Text = ""
    alerts: list[AlertBody] = Field(max_length=MAX_ALERTS)


class FunctionUsage(Body):
    """What a function's instances use now."""

    cpu: float  # millicores
    total_memory_bytes: float


class PhaseBody(Body):
    """What a phase of cold calls took, in seconds; `median` and `p99` are estimated from a histogram."""

    mean: float
    median: float
    p99: float
    max: float
    last: float


class ColdStartsBody(Body):
    """What is known of a function's cold calls since the controller started."""

    calls: int
    failed: dict[str, int]
    phases: dict[str, PhaseBody]


class FailureBody(Body):
    """A call that its instance did not answer."""

    call_id: str
    at: datetime
    status: int
    instance: str
    reason: str


class FunctionStatusBody(Body):
    """A function as GET answers it (for OpenAPI; `status_to_json` makes it)."""

    name: str
    image: str
    namespace: str
    env_process: str | None = None  # this and the optional fields below are absent when empty
    env_vars: dict[str, str] | None = None
    constraints: list[str] | None = None
    secrets: list[str] | None = None
    limits: dict[str, str] | None = None
    requests: dict[str, str] | None = None
    labels: dict[str, str]
    annotations: dict[str, str]
    read_only_root_filesystem: bool
    invocation_count: int
    replicas: int
    available_replicas: int
    created_at: datetime
    revision: int
    state: State
    reason: str | None = None  # why it is failing
    notes: list[str] | None = None  # settings of its deployment without effect; not in lists
    traffic: dict[int, int] | None = None  # percent of the calls by revision, when they are split
    usage: FunctionUsage | None = None
    cold_starts: ColdStartsBody | None = None
    failures: list[FailureBody] | None = None  # the latest ones, oldest first
    effective_limits: Limits | None = None
    isolation: dict[str, str] | None = None  # of the platform, or worker, that runs it; with usage alone
    why: Explanation | None = None


class BundleBody(Body):
    """An image name and the bundle it means."""

    image: str
    digest: str
    size: int  # bytes of the upload
    created_at: datetime


class LayerBody(Body):
    """A layer of requirements that is here."""

    digest: str


async def read_body(
    request: Request, model: type[Model], *, optional: bool = False, limit: int = MAX_BODY
) -> Model:
    """Read the request's JSON body as `model`; with `optional` an empty body counts as {}.

    Raises InvalidInput naming the field at fault, TooLarge above `limit` bytes.
    """
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise TooLarge(f"the request body is larger than the {limit} bytes allowed")
    try:
        return model.model_validate_json(bytes(data) or (b"{}" if optional else b""))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise InvalidInput(f"the request body is not valid: {describe(found)}") from error


def takes(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The `openapi_extra` of a route that calls `read_body(request, model)`."""
    schema = model.model_json_schema(by_alias=True)
    schema = _inlined(schema, schema.pop("$defs", {}))
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def _inlined(schema: Any, parts: dict[str, Any]) -> Any:
    """`schema` with each `$ref` replaced by its part: inside an OpenAPI document a schema has no `$defs` of its own."""
    if isinstance(schema, list):
        return [_inlined(item, parts) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(parts[schema["$ref"].rpartition("/")[2]], parts)
    return {key: _inlined(value, parts) for key, value in schema.items()}


def rfc3339(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC: 0 is 1970-01-01T00:00:00Z. Fractions of a second show as microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def status_to_json(status: FunctionStatus) -> dict[str, Any]:
    """The contract's FunctionStatus object, with the label and annotation that a provider adds. Empty texts, lists and
    tables are left out, as OpenFaaS's own gateway does: clients distinguish an absent map from an empty one."""
    spec = status.function.spec
    body = {key: value for key, value in spec_to_json(spec).items() if value or isinstance(value, bool)}
    body["name"] = body.pop("service")
    body["labels"] = {**spec.labels, "faas_function": spec.name}
    body["annotations"] = {"prometheus.io.scrape": "false", **spec.annotations}
    body["invocationCount"] = status.invocations
    body["replicas"] = status.replicas
    body["availableReplicas"] = status.available
    body["createdAt"] = rfc3339(int(status.function.created_at))
    body["revision"] = status.function.revision
    body["state"] = str(status.state)
    if status.reason:
        body["reason"] = status.reason
    if status.notes:
        body["notes"] = list(status.notes)
    if status.function.traffic:
        body["traffic"] = {str(number): percent for number, percent in status.function.traffic.items()}
    if status.cpu is not None or status.memory is not None:
        body["usage"] = {"cpu": status.cpu or 0, "totalMemoryBytes": status.memory or 0}
    if status.cold_starts is not None:
        body["coldStarts"] = asdict(status.cold_starts)
    if status.failures:
        body["failures"] = [_failure(call) for call in status.failures]
    if status.limits is not None:
        body["effectiveLimits"] = asdict(status.limits)
    if status.isolation is not None:
        body["isolation"] = dict(status.isolation)
    if status.why is not None:
        body["why"] = asdict(status.why)
    return body


def _failure(call: FailedCall) -> dict[str, Any]:
    at = rfc3339(round(call.at, 3))
    return {"callId": call.call_id, "at": at, "status": call.status, "instance": call.instance, "reason": call.reason}
