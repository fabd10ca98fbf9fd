"""Dead Simple Signing Envelopes (DSSE v1.0, secure-systems-lab/dsse): one payload, its type, and signatures over both."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tidemill.errors import Refused

PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Envelope:
    """A parsed envelope with exactly one signature: Tidemill's deciders each sign an envelope of their own."""

    payload: bytes
    payload_type: str
    keyid: str
    signature: bytes

    def verify(self, key: Ed25519PublicKey) -> None:
        """Refused unless `key` made the signature over this type and payload."""
        try:
            key.verify(self.signature, pre_authentication_encoding(self.payload_type, self.payload))
        except InvalidSignature:
            raise Refused("bad-signature", f"the signature is not by the pinned key of {self.keyid!r}") from None


_LONGEST = 65_536


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """PAE(type, body) of the specification: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, key: Ed25519PrivateKey, keyid: str) -> str:
    """The JSON envelope of `payload`, signed."""
    signature = key.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
    return json.dumps(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": keyid, "sig": base64.b64encode(signature).decode()}],
        }
    )


def parse(text: str) -> Envelope:
    """The envelope in `text`; Refused when it has another shape."""
    if len(text) > _LONGEST:
        raise Refused("bad-envelope", f"not a DSSE envelope: {len(text):,} characters, where {_LONGEST:,} are enough for any")
    try:
        raw = json.loads(text)
        (only,) = raw["signatures"]
        payload, signature = (base64.b64decode(part, validate=True) for part in (raw["payload"], only["sig"]))
        keyid, kind = str(only["keyid"]), str(raw["payloadType"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused("bad-envelope", f"not a DSSE envelope with one signature: {error}") from error
    if kind != PAYLOAD_TYPE:
        raise Refused("bad-envelope", f"payload type {kind!r} instead of {PAYLOAD_TYPE!r}")
    return Envelope(payload, kind, keyid, signature)
