"""Rows of the error table for Messenger; source: the error pages of the Send API and of the Graph API, 2026."""

from pombo.domain.channels import ChannelKind
from pombo.domain.outcomes import ErrorClass, ErrorScope
from pombo.meta.error_table import (
    APPEAL,
    CORRECT,
    LEAVE_OUT,
    NEW_TOKEN,
    PERMISSIONS,
    SLOWS_DOWN,
    SUPPRESSED,
    WAIT_FOR_EVIDENCE,
    WAIT_FOR_REPLY,
    Table,
)

_table = Table(ChannelKind.MESSENGER)
_proven, _doubtful = _table.proven, _table.doubtful

_MESSAGE, _RECIPIENT = ErrorScope.MESSAGE, ErrorScope.RECIPIENT
_CHANNEL, _APP = ErrorScope.CHANNEL, ErrorScope.APP

# ---- rate limits ----
_limit = ErrorClass.RATE_LIMIT
_proven(_limit, _APP, [4, 341], "The app has used up its calls for now.", SLOWS_DOWN)
_proven(_limit, _APP, [17], "The token's owner has used up their calls for now.", SLOWS_DOWN)
_proven(_limit, _APP, [(4, 2018022)], "Too many sends to phone numbers.", SLOWS_DOWN)
_proven(_limit, _CHANNEL, [32, 80001], "The Page has used up its calls for now.", SLOWS_DOWN)
_proven(_limit, _CHANNEL, [80006], "The Page sends more on Messenger than Meta allows.", SLOWS_DOWN)
_proven(_limit, _CHANNEL, [80002], "The account sends more on Instagram than Meta allows.", SLOWS_DOWN)
_proven(_limit, _APP, [80008], "The WhatsApp account has used up its management calls.", SLOWS_DOWN)
_proven(_limit, _CHANNEL, [613, (613, 2534040)], "Meta takes no more calls of this kind for now.", SLOWS_DOWN)
_proven(_limit, _CHANNEL, [(613, 1996)], "The Page's volume jumped, so Meta slows it down.", SLOWS_DOWN)
# Meta calls this one a warning, and does not say that the message was refused.
_doubtful(
    _limit, _RECIPIENT, [(613, 2018338)], "Meta warns of too many tagged messages to this person.", WAIT_FOR_EVIDENCE
)
_proven(
    ErrorClass.PERMANENT,
    _RECIPIENT,
    [(4, 2018354)],
    "This person got a marketing message too short a time ago.",
    "Try this recipient again on another day.",
)
_proven(
    ErrorClass.PERMANENT, _RECIPIENT, [(613, 1893016)], "This person was already asked to opt in to this.", LEAVE_OUT
)
_proven(ErrorClass.PERMANENT, _RECIPIENT, [(9, 2018352)], "This person was asked to opt in too often.", LEAVE_OUT)

# ---- access ----
_auth = ErrorClass.AUTH
_proven(_auth, _CHANNEL, [190, (190, 467)], "The access token is not valid any more.", NEW_TOKEN)
_proven(_auth, _CHANNEL, [(190, 458)], "The token's owner has removed the app.", NEW_TOKEN)
_proven(
    _auth,
    _CHANNEL,
    [(190, 459)],
    "Facebook asks the token's owner to confirm who they are.",
    "Have the owner log in at facebook.com, then connect the Page again.",
)
_proven(_auth, _CHANNEL, [(190, 460)], "The token's owner has changed their password.", NEW_TOKEN)
_proven(_auth, _CHANNEL, [(190, 463)], "The access token has expired.", NEW_TOKEN)
_proven(
    _auth,
    _CHANNEL,
    [(190, 464)],
    "The token's owner has not confirmed their account.",
    "Have the owner log in at facebook.com, then connect the Page again.",
)
_proven(_auth, _CHANNEL, [(190, 492)], "The token's owner has no role on the Page any more.", NEW_TOKEN)
_proven(_auth, _CHANNEL, [102], "The session behind the access token has ended.", NEW_TOKEN)
_proven(_auth, _APP, [3], "The app lacks the capability for this call.", PERMISSIONS)
_proven(_auth, _CHANNEL, [(10, 0), (10, 1404170), range(200, 300)], "The app lacks a permission.", PERMISSIONS)
_proven(
    _auth,
    _APP,
    [(200, 0), (200, 2018028), (200, 2018027)],
    "The app may only write to people who have a role on it.",
    "Get Advanced Access to pages_messaging through Meta's App Review, then start the channel.",
)
_proven(
    _auth,
    _CHANNEL,
    [(200, 2534041)],
    "The account's owner does not allow access to its messages.",
    "Allow access to messages in the account's settings, then start the channel.",
)
_proven(
    _auth,
    _CHANNEL,
    [(100, 33)],
    "The Page does not exist, or the token may not see it.",
    "Check the Page's id and connect it again; what waits is then sent.",
)
# Code 1 is "unknown" for whatever reason, so even this one proves nothing.
_doubtful(_auth, _CHANNEL, [(1, 99)], "An unknown error, most often a missing permission.", PERMISSIONS)

# ---- policy ----
_policy = ErrorClass.POLICY
_proven(_policy, _CHANNEL, [(10, 1893063)], "Meta has restricted the Page from sending for a time.", APPEAL)
_proven(_policy, _CHANNEL, [368], "Meta has blocked this for breaking its rules.", APPEAL)
_proven(_policy, _CHANNEL, [2022], "Meta has switched off commerce messages for the Page.", APPEAL)
_proven(_policy, _CHANNEL, [(100, 2534029)], "Meta has blocked the business.", APPEAL)

# ---- this recipient ----
_permanent = ErrorClass.PERMANENT
# Nearly all subcodes of these concern one recipient, and Meta adds new ones: none of them may stop all that is sent.
_proven(
    _permanent,
    _MESSAGE,
    [10, 200],
    "Meta does not permit this message, for a reason that is not listed yet.",
    "Look up the subcode in Meta's documentation; correct the message, or leave this recipient out.",
)
_proven(
    _permanent,
    _RECIPIENT,
    [551, (551, 1545041), (200, 1545041)],
    "This person cannot be reached: blocked the Page, left, or is outside the window.",
    LEAVE_OUT,
)
_proven(_permanent, _RECIPIENT, [(10, 2018108)], "This person cannot receive messages at present.", LEAVE_OUT)
_proven(_permanent, _RECIPIENT, [(100, 2018001)], "The Page knows no person with this id.", LEAVE_OUT)
_proven(
    _permanent, _RECIPIENT, [(10, 1893015)], "This person has stopped messages on this topic.", SUPPRESSED, opt_out=True
)
_proven(_permanent, _RECIPIENT, [(None, 2018218)], "This person has no profile that can be read.", LEAVE_OUT)
_proven(_permanent, _RECIPIENT, [(100, 2534014)], "There is no Instagram user with this id.", LEAVE_OUT)
_proven(
    _permanent,
    _RECIPIENT,
    [(10, 2018278), (10, 2018065), (10, 2534022)],
    "This person last wrote more than 24 hours ago.",
    WAIT_FOR_REPLY,
)
_proven(
    _permanent,
    _RECIPIENT,
    [(None, 2018300), (None, 2018171), (100, 2534037)],
    "Another app leads the conversation with this person.",
    "Take the conversation over, then resend to failed.",
)
_proven(
    _permanent,
    _RECIPIENT,
    [(None, 2018321)],
    "Meta's automatic questions are running in this conversation.",
    "Resend to failed later.",
)

# ---- this content ----
_proven(_permanent, _MESSAGE, [100], "Meta refused a value in the message.", CORRECT)
_proven(_permanent, _MESSAGE, [(100, 2018014)], "An action and a message cannot be sent together.", CORRECT)
_proven(_permanent, _MESSAGE, [(100, 2018008)], "Meta could not fetch the attachment from its address.", CORRECT)
_proven(_permanent, _MESSAGE, [(100, 2018047)], "The attachment is not of the type it is said to be.", CORRECT)
_proven(_permanent, _MESSAGE, [(100, 2018074)], "The attachment's id is unknown, or another Page's.", CORRECT)
_proven(_permanent, _MESSAGE, [(100, 2018109)], "The attachment is too large.", CORRECT)
_proven(_permanent, _MESSAGE, [(100, 2018294)], "Meta took too long to fetch the video.", CORRECT)
_proven(
    _permanent,
    _MESSAGE,
    [(100, 2018164), (100, 2018320), (100, 2018328)],
    "Meta refused a field of the message.",
    CORRECT,
)
_proven(_permanent, _MESSAGE, [506], "Meta takes this for a repetition of the message before.", CORRECT)

# ---- failures of the service: the message may have gone out ----
_ambiguous = ErrorClass.AMBIGUOUS
_doubtful(_ambiguous, _CHANNEL, [1, 2, -1, -2], "Meta's service failed for a moment.", WAIT_FOR_EVIDENCE)
_doubtful(_ambiguous, _MESSAGE, [(1, 1357046)], "Meta reports an error, but sends such messages.", WAIT_FOR_EVIDENCE)
_doubtful(_ambiguous, _MESSAGE, [1200], "Meta could not send the message for a moment.", WAIT_FOR_EVIDENCE)

RULES = _table.rules
