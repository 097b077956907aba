"""Keys that images are signed with: PEM files, as openssl and cosign write them, with a password or without.

Private keys are PKCS #8 (also encrypted), SEC 1, PKCS #1, or cosign's own form, a PKCS #8 key in a secret box under a
password. Public keys are SubjectPublicKeyInfo. ECDSA and RSA sign the SHA-256 of the text, Ed25519 the text itself, as
cosign has it. Needs the extra `attest`; nothing here invents cryptography, `cryptography` and PyNaCl do it.

Signing without keys (an identity that a service vouches for, and a public log) needs these services, and is not here.
"""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

from builder.errors import KeyUnusable, Unsupported
from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    Password = Callable[[], bytes]

BOXED = ("ENCRYPTED COSIGN PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY")
"""cosign's PEM labels; every version of it reads the first one."""
COST = 1 << 16
"""N of scrypt, cosign's present one."""
_MOST_COST = 1 << 17
"""128 MiB with 8 blocks; lanes take time, not memory."""
LIMIT = 1 << 16


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key. `sign` gives the signature of a text, `public` the other half as PEM."""

    sign: Callable[[bytes], bytes]
    public: bytes


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key. `verifies(text, signature)`: whether the key's owner signed the text."""

    verifies: Callable[[bytes, bytes], bool]


def load_signing(data: bytes, password: Password, name: str) -> SigningKey:
    """The private key in *data*; *password* is asked if it needs one, *name* is for messages.

    Raises KeyUnusable (no private key, wrong password, a kind that is not used for this), Unsupported (no extra).
    """
    serialization = _cryptography()
    label, body = _pem(data, name)
    try:
        if label in BOXED:
            private = serialization.load_der_private_key(_unboxed(body, password, name), None)
        elif "ENCRYPTED" in label or b"Proc-Type: 4,ENCRYPTED" in data:
            private = serialization.load_pem_private_key(data, password())
        else:
            private = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError) as err:
        locked = "ENCRYPTED" in label or b"ENCRYPTED" in data
        reason = "the password is wrong, or it is damaged" if locked else "it is no private key in PEM"
        raise KeyUnusable(name, reason) from err
    except _unsupported() as err:
        raise KeyUnusable(name, "its kind is not known") from err
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    match private:
        case ec.EllipticCurvePrivateKey():
            return SigningKey(lambda text: private.sign(text, ec.ECDSA(hashes.SHA256())), public)
        case ed25519.Ed25519PrivateKey():
            return SigningKey(private.sign, public)
        case rsa.RSAPrivateKey():
            return SigningKey(lambda text: private.sign(text, padding.PKCS1v15(), hashes.SHA256()), public)
    raise KeyUnusable(name, "it is neither an ECDSA, nor an Ed25519, nor an RSA key")


def load_verifying(data: bytes, name: str) -> VerifyingKey:
    """The public key in *data*. Raises KeyUnusable, Unsupported."""
    serialization = _cryptography()
    label, _ = _pem(data, name)
    if "PRIVATE" in label:
        raise KeyUnusable(name, "it is a private key, and signatures are verified with the public one")
    try:
        public = serialization.load_pem_public_key(data)
    except (ValueError, TypeError) as err:
        raise KeyUnusable(name, "it is no public key in PEM") from err
    except _unsupported() as err:
        raise KeyUnusable(name, "its kind is not known") from err
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    def verifies(check: Callable[[], object]) -> bool:
        try:
            check()
        except InvalidSignature:
            return False
        return True

    match public:
        case ec.EllipticCurvePublicKey():
            return VerifyingKey(
                lambda text, signature: verifies(lambda: public.verify(signature, text, ec.ECDSA(hashes.SHA256())))
            )
        case ed25519.Ed25519PublicKey():
            return VerifyingKey(lambda text, signature: verifies(lambda: public.verify(signature, text)))
        case rsa.RSAPublicKey():
            return VerifyingKey(
                lambda text, signature: verifies(
                    lambda: public.verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
                )
            )
    raise KeyUnusable(name, "it is neither an ECDSA, nor an Ed25519, nor an RSA key")


def generate(password: bytes) -> tuple[bytes, bytes]:
    """A new ECDSA P-256 key: (private, in cosign's form under the password; public). Raises Unsupported."""
    serialization = _cryptography()
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    plain = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return boxed(plain, password), public


def boxed(plain: bytes, password: bytes, *, cost: int = COST) -> bytes:
    """A PKCS #8 key in cosign's form, as PEM: a secret box (NaCl) under a key that scrypt makes of the password."""
    salt, nonce = os.urandom(32), os.urandom(24)
    sealed = _box(password, salt, cost, 8, 1).encrypt(plain, nonce).ciphertext
    document = {
        "kdf": {"name": "scrypt", "params": {"N": cost, "r": 8, "p": 1}, "salt": _base64(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": _base64(nonce)},
        "ciphertext": _base64(sealed),
    }
    body = _base64(json.dumps(document, separators=(",", ":")).encode())
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {BOXED[0]}-----", *lines, f"-----END {BOXED[0]}-----", ""]).encode()


def _unboxed(body: bytes, password: Password, name: str) -> bytes:
    try:
        document = json.loads(body)
        kdf, cipher, sealed = document["kdf"], document["cipher"], base64.b64decode(document["ciphertext"])
        known = (kdf["name"], cipher["name"]) == ("scrypt", "nacl/secretbox")
        numbers = [int(kdf["params"][each]) for each in ("N", "r", "p")]
        salt, nonce = base64.b64decode(kdf["salt"]), base64.b64decode(cipher["nonce"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as err:
        raise KeyUnusable(name, "it is damaged") from err
    cost, blocks, lanes = numbers
    # A file can ask for any amount of memory and time.
    if not known or not 1 < cost <= _MOST_COST or not 0 < blocks <= 8 or not 0 < lanes <= 4 or len(nonce) != 24:
        raise KeyUnusable(name, "it is locked in a way that is not known")
    box = _box(password(), salt, cost, blocks, lanes)
    from nacl.exceptions import CryptoError

    try:
        return bytes(box.decrypt(sealed, nonce))
    except CryptoError as err:
        raise KeyUnusable(name, "the password is wrong, or it is damaged") from err


def _box(password: bytes, salt: bytes, cost: int, blocks: int, lanes: int) -> Any:
    import hashlib

    try:
        from nacl.secret import SecretBox
    except ImportError as err:
        raise _missing(err) from err
    memory = 130 * cost * blocks + (1 << 20)
    return SecretBox(hashlib.scrypt(password, salt=salt, n=cost, r=blocks, p=lanes, maxmem=memory, dklen=32))


def _pem(data: bytes, name: str) -> tuple[str, bytes]:
    """(label, bytes) of the first block of a PEM file. Raises KeyUnusable."""
    import re

    match = re.search(rb"-----BEGIN ([A-Z0-9 ]+)-----\s(.*?)-----END \1-----", data[:LIMIT], re.DOTALL)
    if match is None:
        raise KeyUnusable(name, "it is no key in PEM")
    try:
        body = base64.b64decode(re.sub(rb"^.*:.*$", b"", match[2], flags=re.MULTILINE))
    except ValueError as err:
        raise KeyUnusable(name, "it is damaged") from err
    return match[1].decode(), body


def _cryptography() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as err:
        raise _missing(err) from err
    return serialization


def _unsupported() -> type[Exception]:
    from cryptography.exceptions import UnsupportedAlgorithm

    return UnsupportedAlgorithm


def _missing(err: ImportError) -> Unsupported:
    return Unsupported(f"this needs the package {err.name}", hint="pip install 'lamina[attest]'")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
