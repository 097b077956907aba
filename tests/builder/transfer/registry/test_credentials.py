"""Where passwords are kept, and that they stay there."""

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from builder.errors import CredentialsFailed
from builder.transfer.registry.credentials import HUB_KEY, Credentials, Keyring


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".docker").mkdir()
    return tmp_path


def config(home: Path, document: object) -> Path:
    path = home / ".docker/config.json"
    path.write_text(json.dumps(document))
    return path


def keyring(home: Path, **variables: str) -> Keyring:
    return Keyring({"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin", **variables}, timeout=0.3)


def helper(home: Path, name: str, script: str) -> None:
    path = home / "bin" / f"docker-credential-{name}"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_entries_are_found_by_host_however_they_were_written(home: Path) -> None:
    entries = {
        HUB_KEY: auth("hub", "1"),
        "https://r.test/v1/": auth("old", "2"),
        "s.test:5000": {"username": "plain", "password": "3"},
        "t.test": {"auth": auth("", "")["auth"], "identitytoken": "secret"},
    }
    config(home, {"auths": entries})
    keys = keyring(home)
    assert keys.get("docker.io") == Credentials("hub", "1")
    assert keys.get("r.test") == Credentials("old", "2")
    assert keys.get("s.test:5000") == Credentials("plain", "3")
    assert keys.get("t.test") == Credentials("", identity_token="secret")
    assert keys.get("s.test") is keys.get("x.test") is None


def test_an_auth_json_may_be_finer_than_a_host_and_a_named_one_goes_first(home: Path) -> None:
    config(home, {"auths": {"r.test": auth("docker", "1")}})
    path = home / "auth.json"
    path.write_text(json.dumps({"auths": {"r.test/a/b": auth("fine", "2"), "r.test/a": auth("coarse", "3")}}))
    keys = keyring(home, REGISTRY_AUTH_FILE=str(path))
    found = [keys.get("r.test", repository) for repository in ("a/b/c", "a/bc", "x")]
    assert [each and each.username for each in found] == ["fine", "coarse", "docker"]
    other = home / "run/containers/auth.json"
    other.parent.mkdir(parents=True)
    other.write_text(json.dumps({"auths": {"s.test": auth("podman", "4")}}))
    assert keyring(home, XDG_RUNTIME_DIR=str(home / "run")).get("s.test") == Credentials("podman", "4")


def test_a_helper_is_asked_with_the_key_that_docker_uses(home: Path) -> None:
    config(home, {"credsStore": "all", "credHelpers": {"r.test": "one"}, "auths": {"x.test": auth("file", "no")}})
    helper(home, "all", 'read key; echo "{\\"Username\\": \\"$key\\", \\"Secret\\": \\"s\\"}"')
    helper(home, "one", 'echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"idt\\"}"')
    keys = keyring(home)
    assert keys.get("docker.io") == Credentials(HUB_KEY, "s")
    assert keys.get("x.test") == Credentials("x.test", "s")
    assert keys.get("r.test") == Credentials("", identity_token="idt")


def test_a_helper_that_does_not_know_a_registry_means_nobody(home: Path) -> None:
    config(home, {"credsStore": "none"})
    helper(home, "none", "echo credentials not found in native keychain; exit 1")
    assert keyring(home).get("r.test") is None


@pytest.mark.parametrize(
    "name, script, text",
    [
        ("missing", None, 'exec: "docker-credential-missing": executable file not found in $PATH'),
        ("../evil", None, "executable file not found"),
        ("fails", "echo boom >&2; exit 3", "exit status 3, out: `boom`"),
        ("hangs", "sleep 1000", "did not answer within"),
        ("babbles", "echo pa55word", "gave no credentials document"),
        ("nests", "head -c 100000 /dev/zero | tr '\\0' '['", "gave no credentials document"),
        ("halves", 'echo \'{"Username": "a", "Secret": "\\\\ud800"}\'', "gave no credentials document"),
    ],
)
def test_a_helper_that_cannot_do_its_work_is_an_error(home: Path, name: str, script: str | None, text: str) -> None:
    config(home, {"credsStore": name, "auths": {"r.test": auth("file", "no")}})
    if script is not None:
        helper(home, name, script)
    with pytest.raises(CredentialsFailed) as error:
        keyring(home).get("r.test")
    assert text in error.value.message and "pa55word" not in error.value.message


def test_a_damaged_file_is_an_error_that_does_not_quote_it(home: Path) -> None:
    (home / ".docker/config.json").write_text('{"auths": {"r.test": {"auth": "pa55word"')
    with pytest.raises(CredentialsFailed) as error:
        keyring(home).get("r.test")
    assert "is not JSON" in error.value.message and "pa55" not in str(error.value.__cause__)
    for damaged in ("pa55word!", "pa55wordé"):
        config(home, {"auths": {"r.test": {"auth": damaged}}})
        with pytest.raises(CredentialsFailed, match="is damaged") as error:
            keyring(home).get("r.test")
        assert "pa55" not in error.value.message


def test_what_is_kept_is_for_the_user_alone_and_the_rest_of_the_file_stays(home: Path) -> None:
    real = home / "dotfiles.json"
    real.write_text(json.dumps({"detachKeys": "ctrl-x", "auths": {"https://r.test/v1/": auth("a", "b")}}))
    real.chmod(0o644)
    (home / ".docker/config.json").symlink_to(real)
    assert keyring(home).store("r.test", Credentials("me", "pw")) is False
    assert stat.S_IMODE(os.stat(real).st_mode) == 0o600 and (home / ".docker/config.json").is_symlink()
    assert json.loads(real.read_text()) == {"detachKeys": "ctrl-x", "auths": {"r.test": auth("me", "pw")}}
    assert keyring(home).get("r.test") == Credentials("me", "pw")
    assert keyring(home).erase("r.test") is True and keyring(home).erase("r.test") is False
    assert json.loads(real.read_text()) == {"detachKeys": "ctrl-x", "auths": {}}
    assert sorted(path.name for path in home.iterdir()) == [".docker", "dotfiles.json"]


def test_a_helper_keeps_what_is_stored_and_the_file_only_says_that_there_is_something(home: Path) -> None:
    path = config(home, {"credsStore": "keep"})
    helper(home, "keep", f"case $1 in store) cat > {home}/kept;; get) cat {home}/kept;; erase) rm {home}/kept;; esac")
    assert keyring(home).store("docker.io", Credentials("me", "pw")) is True
    assert json.loads((home / "kept").read_text()) == {"ServerURL": HUB_KEY, "Username": "me", "Secret": "pw"}
    assert json.loads(path.read_text()) == {"credsStore": "keep", "auths": {HUB_KEY: {}}}
    assert keyring(home).get("docker.io") == Credentials("me", "pw")
    assert keyring(home).erase("docker.io") is True
    assert not (home / "kept").exists()


def test_credentials_show_no_password() -> None:
    assert "pw" not in repr(Credentials("me", "pw", "pw"))


def test_headers_for_registries(home: Path) -> None:
    config(home, {"HttpHeaders": {"X-Meta-Team": "a", "Authorization": "no"}})
    assert keyring(home).headers() == {"X-Meta-Team": "a"}
