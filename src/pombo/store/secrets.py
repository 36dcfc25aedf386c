"""Tokens and app secrets are encrypted at rest: AES-256-GCM, a fresh nonce each, the row's owner as associated data.

A value copied from one workspace's row into another's does not decrypt.
"""

import base64
import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pombo.store.errors import StoreError

_NONCE = 12
_VERSION = b"\x01"


class SecretError(StoreError):
    """A stored secret cannot be read with this POMBO_SECRET_KEY."""


class SecretBox:
    def __init__(self, key: str) -> None:
        """`key` is any text of at least 32 characters; the cipher's key is its SHA-256."""
        if len(key) < 32:
            raise SecretError("POMBO_SECRET_KEY must have at least 32 characters: `openssl rand -base64 32` makes one.")
        self._cipher = AESGCM(hashlib.sha256(key.encode()).digest())

    def seal(self, workspace_id: int, text: str) -> bytes:
        nonce = os.urandom(_NONCE)
        return _VERSION + nonce + self._cipher.encrypt(nonce, text.encode(), str(workspace_id).encode())

    def open(self, workspace_id: int, sealed: bytes) -> str:
        """Raises SecretError."""
        if sealed[:1] != _VERSION:
            raise SecretError("A stored secret has an unknown format.")
        nonce, data = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        try:
            return self._cipher.decrypt(nonce, data, str(workspace_id).encode()).decode()
        except InvalidTag as error:
            raise SecretError(
                "A stored secret does not open with this POMBO_SECRET_KEY: start with the key it was stored under."
            ) from error


def load_or_make_key(path: Path) -> str:
    """The embedded default's key: made once, readable by its owner alone. Raises SecretError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    except OSError as error:
        raise SecretError(
            f"{path.parent} cannot be written: {error.strerror}. POMBO_DATA_DIR names another place."
        ) from error
    key = base64.urlsafe_b64encode(os.urandom(32)).decode()
    with os.fdopen(descriptor, "w") as file:
        file.write(key + "\n")
    return key
