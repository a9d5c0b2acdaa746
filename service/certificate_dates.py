"""Until when a certificate is valid. Python's ssl tells that only of certificates that a peer has presented.

Formats: X.509 in DER (RFC 5280, 4.1: the fields of a TBSCertificate, and both forms of time).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import datetime

_VERSION = 0xA0  # the first field's tag, which certificates of version 1 lack
_UTC_TIME = 0x17  # two digits of the year; others have four
_VALIDITY = 3  # behind serial number, signature and issuer
# All that OpenSSL takes for a server's certificate; behind a trusted one's DER stands for what it is trusted.
_PEM = re.compile(r"(?ms)^-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----\s*$(.*?)^-----END \1-----")


def expires_at(pem: str) -> float:
    """Unix time, in seconds, at which the first certificate of a file in PEM ends. Raises ValueError for what is
    none."""
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("there is no certificate in PEM")
    try:
        (_, certificate), *_ = _fields(base64.b64decode(found[2]))
        (_, to_be_signed), *_ = _fields(certificate)
        fields = [content for tag, content in _fields(to_be_signed) if tag != _VERSION]
        _, (tag, after) = _fields(fields[_VALIDITY])
    except IndexError:
        raise ValueError("the certificate is cut short") from None
    text = after.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text.replace("Z", "+0000"), "%Y%m%d%H%M%S%z").timestamp()


def _fields(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and contents, one after another. Raises IndexError where a field's head is cut short."""
    while der:
        size, start = der[1], 2
        if size & 0x80:  # so many bytes of the size follow
            start += size & 0x7F
            size = int.from_bytes(der[2:start], "big")
        yield der[0], der[start : start + size]
        der = der[start + size :]
