"""Pages from templates: everything that comes from outside is escaped."""

from __future__ import annotations

from typing import Any

import jinja2


def render(package: str, template: str, **values: Any) -> str:
    """Return a template that lies in a package, filled; a value that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
