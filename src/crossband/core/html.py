"""Render HTML templates with all values escaped."""

from __future__ import annotations

from typing import Any

import jinja2


def render(package: str, template: str, **values: Any) -> str:
    """Render a template of a package; a missing value raises an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
