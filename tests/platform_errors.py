"""Meta's errors as Meta documents them, written down apart from the table that Pombo goes by."""

from pombo.domain.channels import ChannelKind
from pombo.domain.outcomes import ErrorClass, ErrorScope

M, W = ChannelKind.MESSENGER, ChannelKind.WHATSAPP

RATE_LIMIT, AUTH, PERMANENT = ErrorClass.RATE_LIMIT, ErrorClass.AUTH, ErrorClass.PERMANENT
TRANSIENT, AMBIGUOUS, POLICY = ErrorClass.TRANSIENT, ErrorClass.AMBIGUOUS, ErrorClass.POLICY
MESSAGE, RECIPIENT, TEMPLATE = ErrorScope.MESSAGE, ErrorScope.RECIPIENT, ErrorScope.TEMPLATE
CHANNEL, ACCOUNT, APP = ErrorScope.CHANNEL, ErrorScope.ACCOUNT, ErrorScope.APP

Expected = tuple[ChannelKind, int, int | None, ErrorClass, ErrorScope]

# As Meta documents them, written down apart from the table.
PROVEN: list[Expected] = [
    *((M, code, None, RATE_LIMIT, APP) for code in (4, 17, 341, 80008)),
    (M, 4, 2018022, RATE_LIMIT, APP),
    *((M, code, None, RATE_LIMIT, CHANNEL) for code in (32, 613, 80001, 80002, 80006)),
    (M, 613, 2534040, RATE_LIMIT, CHANNEL),
    (M, 613, 1996, RATE_LIMIT, CHANNEL),
    (M, 9, 2018352, PERMANENT, RECIPIENT),
    (M, 4, 2018354, PERMANENT, RECIPIENT),
    (M, 613, 1893016, PERMANENT, RECIPIENT),
    *((M, 190, subcode, AUTH, CHANNEL) for subcode in (None, 458, 459, 460, 463, 464, 467, 492, 12345)),
    (M, 102, None, AUTH, CHANNEL),
    (M, 3, None, AUTH, APP),
    (M, 10, None, AUTH, CHANNEL),
    *((M, code, 12345, PERMANENT, MESSAGE) for code in (10, 200)),
    (M, 10, 1404170, AUTH, CHANNEL),
    *((M, 200, subcode, AUTH, APP) for subcode in (None, 2018028, 2018027)),
    (M, 200, 2534041, AUTH, CHANNEL),
    *((M, code, None, AUTH, CHANNEL) for code in (201, 230, 299)),
    (M, 100, 33, AUTH, CHANNEL),
    (M, 10, 1893063, POLICY, CHANNEL),
    (M, 368, None, POLICY, CHANNEL),
    (M, 2022, None, POLICY, CHANNEL),
    (M, 100, 2534029, POLICY, CHANNEL),
    (M, 551, None, PERMANENT, RECIPIENT),
    (M, 551, 1545041, PERMANENT, RECIPIENT),
    (M, 200, 1545041, PERMANENT, RECIPIENT),
    *((M, 10, subcode, PERMANENT, RECIPIENT) for subcode in (2018108, 1893015, 2018278, 2018065, 2534022)),
    *((M, 100, subcode, PERMANENT, RECIPIENT) for subcode in (2018001, 2018218, 2534014, 2534037)),
    *((M, code, None, PERMANENT, RECIPIENT) for code in (2018218, 2018300, 2018321, 2018171)),
    *((M, 10, subcode, PERMANENT, RECIPIENT) for subcode in (2018300, 2018321, 2018171)),
    *((M, 100, subcode, PERMANENT, MESSAGE) for subcode in (None, 2018014, 2018008, 2018047, 2018074, 2018109)),
    *((M, 100, subcode, PERMANENT, MESSAGE) for subcode in (2018164, 2018294, 2018320, 2018328, 2018180)),
    (M, 506, None, PERMANENT, MESSAGE),
    (W, 0, None, AUTH, CHANNEL),
    (W, 3, None, AUTH, APP),
    (W, 100, 33, AUTH, CHANNEL),
    *((W, code, None, AUTH, CHANNEL) for code in (10, 33, 190, 200, 299, 131005, 131045)),
    (W, 131031, None, AUTH, ACCOUNT),
    *((W, code, None, AUTH, CHANNEL) for code in (133000, 133005, 133006, 133008, 133009, 133010, 133015)),
    (W, 4, None, RATE_LIMIT, APP),
    *((W, code, None, RATE_LIMIT, ACCOUNT) for code in (80007, 80008)),
    *((W, code, None, RATE_LIMIT, CHANNEL) for code in (130429, 133016, 131208)),
    (W, 130429, 2494055, RATE_LIMIT, CHANNEL),
    (W, 131056, None, RATE_LIMIT, RECIPIENT),
    (W, 132069, None, RATE_LIMIT, TEMPLATE),
    *((W, code, None, POLICY, CHANNEL) for code in (131048, 131037)),
    *((W, code, None, POLICY, ACCOUNT) for code in (368, 131042, 131064, 134011)),
    *((W, code, None, POLICY, TEMPLATE) for code in (131063, 132007, 132015, 132016, 132068)),
    *((W, code, None, PERMANENT, RECIPIENT) for code in (130472, 130497, 131021, 131026, 131030, 131047)),
    *((W, code, None, PERMANENT, RECIPIENT) for code in (131049, 131050, 131062, 137000)),
    *((W, code, None, PERMANENT, RECIPIENT) for code in (131020, 131041, 131059, 131201, 131202, 131204, 131207)),
    *((W, code, None, PERMANENT, RECIPIENT) for code in range(131209, 131216)),
    *((W, code, None, PERMANENT, MESSAGE) for code in (100, 131008, 131009, 131051, 131052, 131053, 131055)),
    *((W, code, None, PERMANENT, MESSAGE) for code in (132005, 132008, 132012, 135000)),
    *((W, code, None, PERMANENT, TEMPLATE) for code in (132000, 132001, 134100, 134102)),
    (W, 131057, None, TRANSIENT, CHANNEL),
    (W, 134101, None, TRANSIENT, TEMPLATE),
]

DOUBTFUL: list[Expected] = [
    *((M, code, None, AMBIGUOUS, CHANNEL) for code in (1, 2, -1, -2)),
    (M, 1, 1357046, AMBIGUOUS, MESSAGE),
    (M, 1200, None, AMBIGUOUS, MESSAGE),
    (M, 1, 99, AUTH, CHANNEL),
    (M, 613, 2018338, RATE_LIMIT, RECIPIENT),
    *((W, code, None, AMBIGUOUS, CHANNEL) for code in (1, 2, 131000, 131016, 133004)),
]
