"""Names and passwords of registries: where docker and podman keep them, and nowhere else.

Looked up in this order; the first that knows the registry decides:

    $REGISTRY_AUTH_FILE       containers' auth.json, when the variable is set
    config.json               of $DOCKER_CONFIG or ~/.docker: `credHelpers`, else `credsStore`, else `auths`
    auth.json                 of $XDG_RUNTIME_DIR/containers, then ~/.config/containers

`login` writes where docker does: to the helper, else into config.json (0600, whole or not at all). A helper that is
configured and missing, fails or hangs is an error before any request is made: nobody is asked anonymously, or with
another registry's password, instead (CVE-2021-41092). Passwords appear in no message.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from builder.errors import CredentialsFailed, InvalidDocument
from builder.oci import documents
from builder.oci.references import DEFAULT_REGISTRY
from builder.transfer.hostfiles import config_home, home
from runtime.values import dataclass, field

HUB_KEY = "https://index.docker.io/v1/"
"""What docker files the credentials of docker.io under."""
TIMEOUT = 30.0
"""Seconds that a helper may take; some ask the user."""
_TOKEN_USER = "<token>"
"""A helper's user name for an identity token."""
_NOT_FOUND = "credentials not found in native keychain"
_FILE_MAX = 8 << 20


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's password, or an identity token that is exchanged for access tokens."""

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")


class Keyring:
    """All places of one user. Files are read when they are first needed."""

    def __init__(self, environment: Mapping[str, str], *, timeout: float = TIMEOUT) -> None:
        self._environment = environment
        self._timeout = timeout
        self._documents: dict[Path, dict[str, Any]] = {}
        directory = environment.get("DOCKER_CONFIG", "")
        self.path = (Path(directory) if directory else home(environment) / ".docker") / "config.json"

    # --- reading ---

    def get(self, registry: str, repository: str = "") -> Credentials | None:
        """What there is for `registry` (host[:port]); an auth.json may be finer than that. Raises CredentialsFailed."""
        first = self._environment.get("REGISTRY_AUTH_FILE", "")
        if first and (found := self._from(Path(first), registry, repository)) is not None:
            return found
        if (found := self._from(self.path, registry, "")) is not None:
            return found
        runtime = self._environment.get("XDG_RUNTIME_DIR", "")
        others = ([Path(runtime) / "containers/auth.json"] if runtime else []) + [
            config_home(self._environment) / "containers/auth.json"
        ]
        for path in others:
            if (found := self._from(path, registry, repository)) is not None:
                return found
        return None

    def headers(self) -> dict[str, str]:
        """`HttpHeaders` of config.json that are meant for registries: docker's daemon hands on X-Meta-… and no more."""
        found = _table(self._read(self.path), "HttpHeaders")
        return {name: str(value) for name, value in found.items() if name.lower().startswith("x-meta-")}

    def _from(self, path: Path, registry: str, repository: str) -> Credentials | None:
        document = self._read(path)
        helper = self._helper(document, registry)
        if helper:
            return self._ask(helper, registry)
        entries = _table(document, "auths")
        for key in _candidates(registry, repository):
            for name, entry in entries.items():
                if _filed_under(name) == key and isinstance(entry, dict):
                    return _entry(entry, path, name)
        return None

    def _helper(self, document: Mapping[str, Any], registry: str) -> str:
        helpers = _table(document, "credHelpers")
        for key in (registry, _key(registry)):
            if helpers.get(key):
                return str(helpers[key])
        return str(document.get("credsStore") or "")

    def _ask(self, helper: str, registry: str) -> Credentials | None:
        answer = self._run(helper, "get", _key(registry).encode())
        if answer is None:
            return None
        try:
            document = documents.load(answer, "credentials")
            username, secret = document.string("Username"), document.string("Secret")
        except InvalidDocument:
            username = secret = None
        if username is None or secret is None:
            # What is wrong with it is not said: the words could have a password in them.
            raise CredentialsFailed(
                f"error getting credentials for {registry}: docker-credential-{helper} gave no credentials document",
                hint=f"it is named in {self.path}; no registry was asked",
            )
        if username == _TOKEN_USER:
            return Credentials("", identity_token=secret)
        return Credentials(username, secret) if username or secret else None

    def _run(self, helper: str, verb: str, data: bytes) -> bytes | None:
        """What the helper writes; None when it does not know the registry."""
        import shutil

        program = f"docker-credential-{helper}"
        what = {"get": "getting", "store": "storing", "erase": "erasing"}[verb] + " credentials"
        path = None if "/" in helper else shutil.which(program, path=self._environment.get("PATH", os.defpath))
        if path is None:
            raise CredentialsFailed(
                f'error {what} - err: exec: "{program}": executable file not found in $PATH',
                hint=f"install it, or take it out of {self.path}",
            )
        try:
            with subprocess.Popen(
                [path, verb],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(self._environment),
                start_new_session=True,
            ) as process:
                try:
                    out, err = process.communicate(data, self._timeout)
                except BaseException:
                    # Also what it started: a script's child would go on waiting.
                    os.killpg(process.pid, signal.SIGKILL)
                    raise
        except subprocess.TimeoutExpired:
            raise CredentialsFailed(
                f"error {what}: {program} did not answer within {self._timeout:g} s", hint=f"see {self.path}"
            ) from None
        except OSError as error:
            raise CredentialsFailed(f"error {what}: {program}: {error.strerror}", hint=f"see {self.path}") from error
        if process.returncode == 0:
            return out
        text = (out + err).decode("utf-8", "replace").strip()
        if verb != "store" and _NOT_FOUND in text:
            return None
        text = "".join(letter for letter in text if letter.isprintable())[:200]
        raise CredentialsFailed(
            f"error {what} - err: exit status {process.returncode}, out: `{text}`",
            hint=f"{program} failed; see {self.path}",
        )

    def _read(self, path: Path) -> dict[str, Any]:
        if path not in self._documents:
            self._documents[path] = _document(path)
        return self._documents[path]

    # --- writing ---

    def store(self, registry: str, credentials: Credentials) -> bool:
        """Keep them for `registry`; returns whether a helper has them (else they lie in config.json, readable by the
        user only). Raises CredentialsFailed.
        """
        document = self._read(self.path)
        helper = self._helper(document, registry)
        key = _key(registry)
        if helper:
            username = _TOKEN_USER if credentials.identity_token else credentials.username
            secret = credentials.identity_token or credentials.password
            self._run(helper, "store", json.dumps({"ServerURL": key, "Username": username, "Secret": secret}).encode())
            entry: dict[str, str] = {}
        else:
            password = "" if credentials.identity_token else credentials.password
            text = f"{credentials.username}:{password}".encode()
            entry = {"auth": base64.b64encode(text).decode("ascii")}
            if credentials.identity_token:
                entry["identitytoken"] = credentials.identity_token
        self._write({**document, "auths": {**self._without(document, registry), key: entry}})
        return bool(helper)

    def erase(self, registry: str) -> bool:
        """Forget what is kept for `registry` where `store` puts it; whether there was anything. Raises
        CredentialsFailed.
        """
        document = self._read(self.path)
        helper = self._helper(document, registry)
        known = helper and self._ask(helper, registry) is not None
        if known:
            self._run(helper, "erase", _key(registry).encode())
        entries = _table(document, "auths")
        left = self._without(document, registry)
        if len(left) != len(entries):
            self._write({**document, "auths": left})
            return True
        return bool(known)

    def _without(self, document: Mapping[str, Any], registry: str) -> dict[str, Any]:
        mine = set(_candidates(registry, ""))
        return {name: entry for name, entry in _table(document, "auths").items() if _filed_under(name) not in mine}

    def _write(self, document: dict[str, Any]) -> None:
        # A link stays a link: people keep this file among their dot files.
        path = Path(os.path.realpath(self.path))
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
            try:
                with open(descriptor, "w", encoding="utf-8") as file:
                    file.write(json.dumps(document, indent="\t", ensure_ascii=False) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as err:
            raise CredentialsFailed(f"cannot write {path}: {err.strerror}") from err
        self._documents[self.path] = document


def _document(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as err:
        raise CredentialsFailed(f"cannot read {path}: {err.strerror}") from err
    if not data.strip():
        return {}
    try:
        document = json.loads(data[:_FILE_MAX])
        json.dumps(document, ensure_ascii=False).encode()  # halves of letters could not be sent
    except (ValueError, RecursionError):
        # The parser's own words may quote what is in the file.
        raise CredentialsFailed(f"{path} is not JSON", hint="repair it, or move it away and log in again") from None
    if not isinstance(document, dict):
        raise CredentialsFailed(f"{path} is not a JSON object", hint="repair it, or move it away and log in again")
    return document


def _table(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _key(registry: str) -> str:
    return HUB_KEY if registry == DEFAULT_REGISTRY else registry


def _filed_under(name: str) -> str:
    """The key of an entry without what older clients wrote around a host."""
    if name == HUB_KEY:
        return DEFAULT_REGISTRY
    bare = name.partition("://")[2] if "://" in name else name
    for end in ("/v1/", "/v1", "/v2/", "/v2", "/"):
        bare = bare.removesuffix(end)
    return DEFAULT_REGISTRY if bare in ("index.docker.io", "registry-1.docker.io") else bare


def _candidates(registry: str, repository: str) -> Iterator[str]:
    """Keys that may have the credentials of a repository, the finest first."""
    parts = repository.split("/") if repository else []
    for count in range(len(parts), 0, -1):
        yield "/".join([registry, *parts[:count]])
    yield registry


def _entry(entry: Mapping[str, Any], path: Path, name: str) -> Credentials | None:
    token = str(entry.get("identitytoken") or "")
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            text = base64.b64decode(str(entry["auth"]), validate=True).decode().rstrip("\0")
        except ValueError:
            raise CredentialsFailed(f'{path}: the entry of "{name}" is damaged', hint="log in again") from None
        username, _, password = text.partition(":")
    if token:
        return Credentials(username, identity_token=token)
    return Credentials(username, password) if username or password else None
