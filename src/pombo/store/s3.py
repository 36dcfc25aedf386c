"""The two calls to an S3-compatible store that media need, signed by AWS's Signature Version 4.

Forty lines instead of a client library with its dozen dependencies; see docs/decisions/0013.
"""

import hashlib
import hmac
import http.client
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

_TIMEOUT_S = 30.0
_EMPTY = hashlib.sha256(b"").hexdigest()


class S3Bucket:
    """Path-style addresses: `url` is `https://<endpoint>/<bucket>[/<prefix>]`. Blocking: call it from a thread."""

    def __init__(self, url: str, region: str, access_key: str, secret_key: str) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host = parts.netloc
        self._prefix = parts.path.rstrip("/")
        self._region = region
        self._access_key = access_key
        self._secret_key = secret_key

    def put(self, key: str, content: bytes) -> None:
        """Raises OSError."""
        self._call("PUT", key, content, {})

    def get(self, key: str, start: int, length: int) -> bytes:
        """Raises OSError."""
        if length <= 0:
            return b""
        return self._call("GET", key, b"", {"range": f"bytes={start}-{start + length - 1}"})

    def _call(self, method: str, key: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        path = quote(f"{self._prefix}/{key}")
        digest = hashlib.sha256(body).hexdigest() if body else _EMPTY
        signed = sign(
            method,
            path,
            {"host": self._host, **headers},
            digest,
            datetime.now(UTC),
            self._region,
            self._access_key,
            self._secret_key,
        )
        connection: http.client.HTTPConnection
        if self._secure:
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(self._host, timeout=_TIMEOUT_S, context=context)
        else:
            connection = http.client.HTTPConnection(self._host, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, body or None, dict(signed))
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"The media store does not answer as S3 does: {error}") from error
        finally:
            connection.close()
        if answer.status not in (200, 206):
            raise OSError(f"The media store answered {answer.status} to {method}.")
        return content


def sign(
    method: str,
    path: str,
    headers: Mapping[str, str],
    body_sha256: str,
    at: datetime,
    region: str,
    access_key: str,
    secret_key: str,
) -> dict[str, str]:
    """The headers with the signature. `path` is percent-encoded and has no query; names of headers are lower-case."""
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    signed = {**headers, "x-amz-content-sha256": body_sha256, "x-amz-date": stamp}
    names = ";".join(sorted(signed))
    canonical = "\n".join(
        (method, path, "", *(f"{name}:{signed[name].strip()}" for name in sorted(signed)), "", names, body_sha256)
    )
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret_key}".encode()
    for part in (stamp[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()
    credential = f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}"
    return {**signed, "authorization": f"{credential}, SignedHeaders={names}, Signature={signature}"}
