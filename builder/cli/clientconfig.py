"""What docker's client configuration says about proxies: given to builds and to new containers, as docker gives them.

Not here: credentials, which are the registries' business (`builder.transfer.registry.credentials`).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLES = {
    "httpProxy": "http_proxy",
    "httpsProxy": "https_proxy",
    "noProxy": "no_proxy",
    "ftpProxy": "ftp_proxy",
    "allProxy": "all_proxy",
}


def proxies(env: Mapping[str, str]) -> dict[str, str]:
    """Variables for `proxies.default` of $DOCKER_CONFIG/config.json, in both cases; {} without such a file.

    A file that cannot be read says nothing here: whoever needs more of it will complain.
    """
    data = text(env)
    if not data:
        return {}
    import json

    try:
        table = json.loads(data)["proxies"]["default"]
        named = {variable: str(table[key]) for key, variable in _VARIABLES.items() if table.get(key)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {name.upper(): value for name, value in named.items()} | named


def text(env: Mapping[str, str]) -> bytes:
    """What is in the file; nothing when there is none."""
    directory = env.get("DOCKER_CONFIG") or os.path.join(env.get("HOME", "/"), ".docker")
    try:
        with open(os.path.join(directory, "config.json"), "rb") as file:
            return file.read(1 << 23)
    except OSError:
        return b""
