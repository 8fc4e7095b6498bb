"""Pages from the templates beside: everything that comes from outside is escaped."""

from __future__ import annotations

from typing import Any

import jinja2


def render(name: str, **values: Any) -> str:
    """Return a template of `report/templates`, filled; a value that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("crossband.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)
