"""The definition of the kind Function, with the numbers and names of model/."""

from __future__ import annotations

from importlib.resources import files
from string import Template

from rescoldo.model.function import ANNOTATIONS, MAX_SECRETS
from rescoldo.model.limits import OURS
from rescoldo.model.metadata import MAX_ENTRIES, MAX_IMAGE
from rescoldo.model.names import MAX_NAME, MAX_SECRET_NAME


def definition() -> str:
    """Return the CustomResourceDefinition as YAML."""
    names = sorted(ANNOTATIONS)
    return Template(files(__package__).joinpath("crd.yaml.tmpl").read_text("utf-8")).substitute(
        annotations=", ".join(f"'{OURS}{name}'" for name in names),
        words=", ".join(names),
        max_name=MAX_NAME,
        max_entries=MAX_ENTRIES,
        max_image=MAX_IMAGE,
        max_secrets=MAX_SECRETS,
        max_secret_name=MAX_SECRET_NAME,
    )
