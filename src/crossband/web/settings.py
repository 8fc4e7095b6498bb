"""Settings and limits of the server."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path

from crossband.core.options import option
from crossband.errors import CrossbandError
from crossband.translate.options import TileOptions

#: Variable of the environment with the token, where the command does not give one.
TOKEN = "CROSSBAND_TOKEN"
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_size(text: str) -> int:
    """Return the bytes of a size.

    >>> parse_size("2GB"), parse_size("500 mb"), parse_size("1.5GB")
    (2000000000, 500000000, 1500000000)
    """
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,3})?) ?([KMGT]?B?)", text.strip().upper())
    if found is None or found[2] not in _UNITS or not float(found[1]):
        raise CrossbandError(f"{text!r} is no size: give one as 500MB or 2GB")
    return int(float(found[1]) * _UNITS[found[2]])


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host name or address.

    >>> [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def default_models(*, guided: bool = True) -> tuple[str, ...]:
    """Return the bundled models, `rgb2nir` first.

    Args:
        guided: also those that need a guide.
    """
    from crossband.model.description import read_description
    from crossband.model.folder import bundled

    kept = (name for name, at in bundled().items() if guided or not read_description(at)[1].guide)
    return tuple(sorted(kept, key=lambda name: name != "rgb2nir"))


def default_folder() -> Path:
    """Return the folder of uploads and results where none is given."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "crossband" / "serve"


@dataclass(frozen=True)
class ServeOptions:
    """Where the server listens, what it offers, and its limits."""

    host: str = option("127.0.0.1", "address to listen on (default 127.0.0.1)", flag="--host")
    port: int = option(8000, "port to listen on (default 8000); 0: any free one", flag="--port")
    root: str | None = option(
        None,
        "offer the files below this folder, and no others",
        flag="--root",
        metavar="FOLDER",
    )
    token: str | None = option(
        None,
        f"secret that visitors must give; needed with any --host but this machine's; {TOKEN} in "
        "the environment says it where others must not see it in the list of processes",
        flag="--token",
    )
    max_upload: str = option("1GB", "size of an upload, at most (default 1GB)", flag="--max-upload")
    max_stored: str = option(
        "20GB", "size of all uploads together, at most (default 20GB)", flag="--max-stored"
    )
    max_pixels: int = option(
        1_000_000_000,
        "rows x columns of an upload or a remote raster, at most (default 1,000,000,000; for PNG, "
        "JPEG and WebP a tenth)",
        flag="--max-pixels",
    )
    keep: float = option(
        168.0, "hours after which uploads and results are deleted (default 168)", flag="--keep"
    )
    allow_remote: bool = option(
        False,
        "let visitors name rasters on public servers (https://...)",
        flag="--allow-remote",
    )
    allow_host: tuple[str, ...] = option(
        (),
        "name under which a reverse proxy publishes the page; may be repeated",
        flag="--allow-host",
    )
    prefix: str | None = option(
        None,
        "path that a reverse proxy leaves in front of the addresses, as /crossband",
        flag="--prefix",
    )
    folder: str | None = option(
        None,
        "folder of uploads, jobs and results (default ~/.cache/crossband/serve)",
        flag="--folder",
    )


@dataclass(frozen=True)
class Settings:
    """Checked options of the server.

    Attributes:
        folder: of uploads, jobs and results.
        root: whose files are offered; by default none.
        token: that visitors must give; by default none.
        max_upload: bytes of one upload.
        max_stored: bytes of all uploads together.
        max_pixels: rows x columns of a raster of a visitor.
        keep: hours after which uploads and results are deleted.
        allow_remote: visitors may name rasters on servers.
        hosts: names under which the page is reached; any where empty.
        models: names and folders of the models that are offered.
        tile: how windows are computed, for previews and jobs alike.
        networks: of addresses that remote rasters may lie in although they are not public.
    """

    folder: Path
    root: Path | None = None
    token: str | None = None
    max_upload: int = 10**9
    max_stored: int = 20 * 10**9
    max_pixels: int = 10**9
    keep: float = 168.0
    allow_remote: bool = False
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    models: tuple[str, ...] = ("rgb2nir",)
    tile: TileOptions = TileOptions()
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    @classmethod
    def of(cls, options: ServeOptions, models: tuple[str, ...], tile: TileOptions) -> Settings:
        """Check the options.

        Raises:
            CrossbandError: an option that cannot be used, in one line.
        """
        token = options.token if options.token is not None else os.environ.get(TOKEN) or None
        if token is not None and not re.fullmatch(r"[!-~]{8,200}", token):
            raise CrossbandError(
                f"--token or {TOKEN}: 8 to 200 characters, letters, digits and signs without blanks"
            )
        if token is None and not is_loopback(options.host):
            raise CrossbandError(
                f"--host {options.host}: other machines reach it, so give a --token that visitors "
                f"must know, or {TOKEN} in the environment"
            )
        if options.max_pixels < 1:
            raise CrossbandError(f"--max-pixels {options.max_pixels}: must be at least 1")
        if not 0.0 < options.keep < 1e6:
            raise CrossbandError(f"--keep {options.keep:g}: must be more than 0 hours")
        if not 0 <= options.port < 65536:
            raise CrossbandError(f"--port {options.port}: must be between 0 and 65535")
        if tile.tile is not None and tile.tile < 1:
            raise CrossbandError(f"--tile {tile.tile}: must be at least 1")
        for name in options.allow_host:
            if not re.fullmatch(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]", name):
                raise CrossbandError(f"--allow-host {name}: a name as example.org, without a port")
        if options.prefix and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", options.prefix):
            raise CrossbandError(f"--prefix {options.prefix}: a path as /crossband is needed")
        root = None
        if options.root is not None:
            root = Path(options.root)
            if not root.is_dir():
                raise CrossbandError(f"--root {root}: no such folder")
            root = root.resolve()
        folder = Path(options.folder) if options.folder is not None else default_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CrossbandError(f"--folder {folder}: {error.strerror}") from error
        own = ("127.0.0.1", "localhost", "[::1]")
        # With a token, a site that gives our address its own name gets nothing: it has no cookie.
        hosts = (*own, *options.allow_host) if token is None or options.allow_host else ()
        return cls(
            folder.resolve(),
            root,
            token,
            parse_size(options.max_upload),
            parse_size(options.max_stored),
            options.max_pixels,
            options.keep,
            options.allow_remote,
            hosts,
            models,
            tile,
        )
