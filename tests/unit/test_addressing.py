import pytest

from pombo.campaigns.addressing import Addressing
from pombo.domain.channels import ChannelKind
from pombo.domain.ids import ChannelId
from pombo.store.audience import RejectedLine, StagedLine

_PAGE, _NUMBER = ChannelId(1), ChannelId(2)
_BOTH = Addressing({_PAGE: ChannelKind.MESSENGER, _NUMBER: ChannelKind.WHATSAPP})
_ONE = Addressing({_NUMBER: ChannelKind.WHATSAPP})


@pytest.mark.parametrize(
    ("addressing", "channel", "recipient", "expected"),
    [
        (_ONE, 0, "+91 98765-43210", (2, "+919876543210")),
        (_ONE, 2, "919876543210", (2, "+919876543210")),
        (_BOTH, 1, " 2400000000000001 ", (1, "2400000000000001")),
        (_BOTH, 2, "+919876543210", (2, "+919876543210")),
        (_BOTH, 0, "+919876543210", "channel_required"),
        (_ONE, 1, "+919876543210", "channel_not_found"),
        (_ONE, 0, "12", "phone_too_short"),
        (_BOTH, 1, "+12", "psid_invalid"),
    ],
)
def test_a_line_gets_its_channel_and_that_channels_form_of_address(
    addressing: Addressing, channel: int, recipient: str, expected: tuple[int, str] | str
) -> None:
    addressed = addressing.address(StagedLine(5, channel, recipient, '{"a":1}'))
    if isinstance(addressed, RejectedLine):
        assert (addressed.line, addressed.recipient, addressed.code) == (5, recipient, expected)
    else:
        assert (addressed.channel_id, addressed.recipient) == expected
        assert (addressed.line, addressed.variables) == (5, '{"a":1}')
