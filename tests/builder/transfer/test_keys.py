"""Keys and signatures, with openssl on the other side."""

import base64
import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import KeyUnusable
from builder.transfer import keys

TEXT = b'{"critical":{}}'


def never() -> bytes:
    raise AssertionError("nobody asks for a password")


def openssl(*arguments: str | Path) -> bytes:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True).stdout


KINDS = {
    "P-256": ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "SEC 1": ("ecparam", "-name", "prime256v1", "-genkey", "-noout"),
    "Ed25519": ("genpkey", "-algorithm", "ED25519"),
    "RSA": ("genrsa", "2048"),
    "PKCS #1": ("genrsa", "-traditional", "2048"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_openssl_and_we_verify_each_others_signatures(kind: str, tmp_path: Path) -> None:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(openssl(*KINDS[kind]))
    public.write_bytes(openssl("pkey", "-in", private, "-pubout"))
    ours, theirs, text = tmp_path / "ours", tmp_path / "theirs", tmp_path / "text"
    text.write_bytes(TEXT)
    signing = keys.load_signing(private.read_bytes(), never, "k")
    assert signing.public == public.read_bytes()
    ours.write_bytes(signing.sign(TEXT))
    raw = ("-rawin",) if kind == "Ed25519" else ("-rawin", "-digest", "sha256")
    openssl("pkeyutl", "-verify", "-pubin", "-inkey", public, *raw, "-in", text, "-sigfile", ours)
    openssl("pkeyutl", "-sign", "-inkey", private, *raw, "-in", text, "-out", theirs)
    verifying = keys.load_verifying(public.read_bytes(), "k")
    assert verifying.verifies(TEXT, theirs.read_bytes()) and verifying.verifies(TEXT, ours.read_bytes())
    assert not verifying.verifies(TEXT + b" ", theirs.read_bytes())
    assert not verifying.verifies(TEXT, theirs.read_bytes()[:-1])
    assert not verifying.verifies(TEXT, b"")


def test_a_new_key_is_locked_in_cosigns_form_and_opens_with_its_password_alone() -> None:
    private, public = keys.generate(b"pass word")
    assert private.startswith(b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\n")
    body = json.loads(base64.b64decode(b"".join(private.splitlines()[1:-1])))
    assert body["kdf"]["params"] == {"N": 65536, "r": 8, "p": 1} and body["cipher"]["name"] == "nacl/secretbox"
    signing = keys.load_signing(private, lambda: b"pass word", "k")
    assert signing.public == public
    assert keys.load_verifying(public, "k").verifies(TEXT, signing.sign(TEXT))
    with pytest.raises(KeyUnusable, match="key k cannot be used: the password is wrong, or it is damaged"):
        keys.load_signing(private, lambda: b"pass", "k")
    renamed = private.replace(b"COSIGN", b"SIGSTORE")
    assert keys.load_signing(renamed, lambda: b"pass word", "k").public == public
    other, _ = keys.generate(b"pass word")
    assert other != private


def test_a_key_that_openssl_locked(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(openssl(*KINDS["P-256"]))
    locked = openssl("pkcs8", "-topk8", "-in", key, "-v2", "aes-256-cbc", "-passout", "pass:secret")
    assert keys.load_signing(locked, lambda: b"secret", "k").public == openssl("pkey", "-in", key, "-pubout")
    with pytest.raises(KeyUnusable, match="the password is wrong"):
        keys.load_signing(locked, lambda: b"other", "k")


def test_what_is_no_key_is_said_so(tmp_path: Path) -> None:
    _, public = keys.generate(b"")
    private = openssl(*KINDS["P-256"])
    dh = openssl("genpkey", "-algorithm", "X25519")
    for data, reason in (
        (b"", "no key in PEM"),
        (public, "no private key in PEM"),
        (private.replace(b"MI", b"MJ"), "no private key in PEM"),
        (dh, "neither an ECDSA"),
        (b"-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----", "damaged"),
    ):
        with pytest.raises(KeyUnusable, match=reason):
            keys.load_signing(data, never, "k")
    for data, reason in ((private, "it is a private key"), (b"x", "no key in PEM")):
        with pytest.raises(KeyUnusable, match=reason):
            keys.load_verifying(data, "k")


def locked_with(document: object) -> bytes:
    body = base64.b64encode(json.dumps(document).encode()).decode()
    return f"-----BEGIN {keys.BOXED[1]}-----\n{body}\n-----END {keys.BOXED[1]}-----\n".encode()


def box(**params: int) -> object:
    numbers = {"N": 16, "r": 8, "p": 1} | params
    kdf = {"name": "scrypt", "params": numbers, "salt": base64.b64encode(bytes(32)).decode()}
    cipher = {"name": "nacl/secretbox", "nonce": base64.b64encode(bytes(24)).decode()}
    return {"kdf": kdf, "cipher": cipher, "ciphertext": base64.b64encode(bytes(40)).decode()}


@pytest.mark.parametrize(
    "document", [box(N=1 << 40), box(r=1 << 20), box(p=1 << 20), box(N=0), box(N=17), box(N=1 << 18), box(N=math.inf)]
)
def test_a_file_cannot_ask_for_any_amount_of_work(document: object) -> None:
    with pytest.raises(KeyUnusable):
        keys.load_signing(locked_with(document), lambda: b"", "k")


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.dictionaries(
            st.sampled_from(["kdf", "cipher", "ciphertext", "name", "params", "salt", "nonce"]), inner, max_size=4
        ),
    )
)
def test_a_damaged_box_is_an_error_of_ours(document: object) -> None:
    with pytest.raises(KeyUnusable):
        keys.load_signing(locked_with(document), lambda: b"", "k")
