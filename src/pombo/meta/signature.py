"""`X-Hub-Signature-256`: HMAC-SHA256 of the body with the app secret, over the very bytes that Meta sent.

Meta signs its own escaped form of the JSON, so a body that was parsed and written again does not verify.
"""

import hmac
from collections.abc import Sequence

_PREFIX = "sha256="


def sign(secret: bytes, body: bytes) -> str:
    """The header's value."""
    return _PREFIX + hmac.digest(secret, body, "sha256").hex()


def verify(secrets: Sequence[bytes], header: str | None, body: bytes) -> int | None:
    """The index of the secret that signed `body` (two are valid while one is being replaced); None if none did.

    Takes the same time however much of the signature is right. An empty secret signs nothing: it would be anyone's.
    """
    if header is None or not header.isascii():
        return None
    for index, secret in enumerate(secrets):
        if secret and hmac.compare_digest(sign(secret, body), header):
            return index
    return None
