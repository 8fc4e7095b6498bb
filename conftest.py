"""Leave out the doctests of the page where its libraries (`crossband[web]`) are not installed."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("starlette") else ["src/crossband/web/*.py"]
