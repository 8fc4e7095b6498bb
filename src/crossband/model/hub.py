"""Models on the Hugging Face Hub: `hf://owner/name`, of any revision with `@revision`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from crossband.errors import ModelError
from crossband.model.files import BASELINES, CALIBRATION, CARD, DESCRIPTION, TRAINING, WEIGHTS

PREFIX = "hf://"
#: Only the files of a model folder: executable or pickled files are not even downloaded.
WANTED = (WEIGHTS, DESCRIPTION, CARD, CALIBRATION, TRAINING, f"{BASELINES}/*")
_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
#: What the status of an answer means.
_STATUS = {
    401: "the Hub does not know you, or there is no such model: hf auth login, or set HF_TOKEN",
    403: "the Hub does not let you: your token lacks the right",
    404: "there is no such model or revision on the Hub",
    429: "the Hub refuses more requests for now: wait some minutes, or use a token",
}


def endpoint() -> str | None:
    """Return the address of another Hub, from the variable HF_ENDPOINT."""
    return os.environ.get("HF_ENDPOINT") or None


def check_name(name: str, address: str) -> None:
    """Raise ModelError for a name that no repository of the Hub has."""
    if not _NAME.fullmatch(name):
        raise ModelError(f"{address:.100}: a model on the hub is named hf://owner/name[@revision]")


def fetch(address: str) -> Path:
    """Download a model folder, or take it from the cache, and return its path.

    Raises:
        ModelError: a wrong address, or an answer of the Hub that is an error.
    """
    name, at, revision = address.removeprefix(PREFIX).partition("@")
    check_name(name, address)
    if at and not revision:
        raise ModelError(f"{address}: the revision after @ is empty")
    from huggingface_hub import snapshot_download

    try:
        path = snapshot_download(
            name, revision=revision or None, allow_patterns=list(WANTED), endpoint=endpoint()
        )
    except Exception as error:
        raise ModelError(f"{address}: cannot be fetched: {hub_line(error)}") from error
    return Path(path)


def hub_line(error: BaseException) -> str:
    """Return what to say of an error of huggingface_hub: what the Hub answered, if it did."""
    seen: BaseException | None = error
    while seen is not None:
        response: Any = getattr(seen, "response", None)
        status = getattr(response, "status_code", None)
        if status is not None:
            return _STATUS.get(status, f"the Hub answers with status {status}")
        seen = seen.__cause__ or seen.__context__
    if type(error).__name__ in ("ConnectError", "ConnectTimeout", "ReadTimeout", "ReadError"):
        return f"the Hub does not answer ({type(error).__name__})"
    first = str(error).strip().splitlines()
    return first[0][:200] if first else type(error).__name__
