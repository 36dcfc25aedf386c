"""What goes over the wire: the request that each message is, and the answer that it gets, for both kinds of channel."""

from dataclasses import dataclass

from pombo.domain.channels import ChannelKind

VERSION = "v26.0"
TOKEN = "token-of-a-realistic-length-" * 7
TEXT = "Hello, your order is on its way."
FIRST_CHANNEL = 1_000_000
"""Meta's id of the first Page or number; the others follow."""


@dataclass(frozen=True, slots=True)
class Wire:
    kind: ChannelKind
    first_recipient: int
    """Recipients are numbered from here on, so that a server knows by the recipient which message it has."""
    prefix: str
    """What stands before the number in the outbox."""
    mark: bytes
    """What stands before it in the request."""
    answer: bytes
    """With one %b for 32 characters that make the id unlike any other, as long in all as Meta's."""
    wrk_body: str

    def recipient(self, n: int) -> str:
        return f"{self.prefix}{self.first_recipient + n}"

    def number(self, request: bytes | bytearray) -> int:
        """Which message a request is."""
        at = request.index(self.mark) + len(self.mark)
        return int(request[at : request.index(b'"', at)]) - self.first_recipient


_MESSENGER = Wire(
    ChannelKind.MESSENGER,
    1_000_000_000_000_000,
    "",
    b'{"recipient":{"id":"',
    b'{"recipient_id":"1234567890123456","message_id":"m_' + b"A5Hz2Uq7" * 12 + b'%b"}',
    f'{{"recipient":{{"id":"1234567890123456"}},"messaging_type":"UPDATE","message":{{"text":"{TEXT}","metadata":"x"}}}}',
)
_WHATSAPP = Wire(
    ChannelKind.WHATSAPP,
    490_000_000_000,
    "+",
    b'"to":"+',
    b'{"messaging_product":"whatsapp","contacts":[{"input":"+490000000000","wa_id":"490000000000"}],'
    b'"messages":[{"id":"wamid.HBgNNDkxNTExMjM0NTY3OBUCABEYE%b"}]}',
    '{"messaging_product":"whatsapp","recipient_type":"individual","biz_opaque_callback_data":"x","type":"text",'
    f'"text":{{"preview_url":false,"body":"{TEXT}"}},"to":"+490000000000"}}',
)
WIRES = {wire.kind: wire for wire in (_MESSENGER, _WHATSAPP)}
