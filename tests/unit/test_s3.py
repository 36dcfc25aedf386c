"""Signatures as AWS documents them."""

import hashlib
from datetime import UTC, datetime

from pombo.store.s3 import sign

ACCESS, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
AT = datetime(2013, 5, 24, tzinfo=UTC)
HOST = {"host": "examplebucket.s3.amazonaws.com"}


def test_a_read_is_signed_as_in_aws_s_own_example() -> None:
    """Amazon S3 API reference, "Signature Calculations: Examples", GET Object."""
    headers = {**HOST, "range": "bytes=0-9"}
    empty = hashlib.sha256(b"").hexdigest()
    signed = sign("GET", "/test.txt", headers, empty, AT, "us-east-1", ACCESS, SECRET)
    assert signed["authorization"] == (
        f"AWS4-HMAC-SHA256 Credential={ACCESS}/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_a_write_is_signed_as_in_aws_s_own_example() -> None:
    headers = {**HOST, "date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}
    digest = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()
    signed = sign("PUT", "/test%24file.text", headers, digest, AT, "us-east-1", ACCESS, SECRET)
    assert signed["authorization"].endswith(
        "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )
