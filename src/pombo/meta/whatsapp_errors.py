"""Rows of the error table for WhatsApp; source: the Cloud API's error codes, 2026."""

from pombo.domain.channels import ChannelKind
from pombo.domain.outcomes import Backoff, ErrorClass, ErrorScope
from pombo.meta.error_table import (
    APPEAL,
    CORRECT,
    LEAVE_OUT,
    NEW_TOKEN,
    PERMISSIONS,
    SETTLE,
    SLOWS_DOWN,
    SUPPRESSED,
    WAIT_FOR_EVIDENCE,
    Table,
)

_table = Table(ChannelKind.WHATSAPP)
_proven, _doubtful = _table.proven, _table.doubtful

_MESSAGE, _RECIPIENT, _TEMPLATE = ErrorScope.MESSAGE, ErrorScope.RECIPIENT, ErrorScope.TEMPLATE
_CHANNEL, _ACCOUNT, _APP = ErrorScope.CHANNEL, ErrorScope.ACCOUNT, ErrorScope.APP

# ---- rate limits ----
_limit = ErrorClass.RATE_LIMIT
_proven(_limit, _APP, [4], "The app has used up its calls for now.", SLOWS_DOWN)
_proven(_limit, _ACCOUNT, [80007, 80008], "The WhatsApp account has used up its calls for now.", SLOWS_DOWN)
_proven(_limit, _CHANNEL, [130429], "The number sends faster than Meta allows.", SLOWS_DOWN)
_proven(
    _limit,
    _RECIPIENT,
    [131056],
    "Too many messages to this person within a short time.",
    "Nothing to do: it is sent again once Meta allows it.",
    # Meta's own advice: wait 4^n seconds, n from 0.
    backoff=Backoff(1, 4),
)
_proven(_limit, _CHANNEL, [133016], "The number was registered and removed too often.", SLOWS_DOWN)
_proven(_limit, _CHANNEL, [131208], "Too many changes to groups within a short time.", SLOWS_DOWN)
_proven(
    _limit,
    _TEMPLATE,
    [132069],
    "This flow may only send 10 messages an hour at present.",
    "Correct the flow at Meta, then resume the campaign; or resume it now and then for ten messages.",
)

# ---- access ----
_auth = ErrorClass.AUTH
_proven(_auth, _CHANNEL, [0, 190], "The access token is not valid any more.", NEW_TOKEN)
_proven(_auth, _APP, [3], "The app lacks the capability for this call.", PERMISSIONS)
_proven(_auth, _CHANNEL, [10, range(200, 300), 131005], "The app lacks a permission.", PERMISSIONS)
_proven(
    _auth,
    _CHANNEL,
    [33, (100, 33)],
    "The phone number does not exist any more, or the token may not see it.",
    "Check the phone number's id and connect it again; what waits is then sent.",
)
_proven(_auth, _ACCOUNT, [131031], "Meta has locked the account, or the number's PIN is wrong.", SETTLE)
_proven(
    _auth,
    _CHANNEL,
    [131045, 133000, 133005, 133006, 133008, 133009, 133010, 133015],
    "The phone number is not registered properly.",
    "Register the number again in WhatsApp Manager, then start the channel.",
)

# ---- policy ----
_policy = ErrorClass.POLICY
_proven(_policy, _ACCOUNT, [368], "Meta has blocked the account for breaking its rules.", APPEAL)
_proven(_policy, _CHANNEL, [131048], "Meta holds the number back: too many people block or report it.", APPEAL)
_proven(_policy, _ACCOUNT, [131064], "Meta holds the account back: its templates are in the wrong category.", APPEAL)
_proven(_policy, _ACCOUNT, [131042], "Something is wrong with the account's payment.", SETTLE)
_proven(_policy, _CHANNEL, [131037], "Meta has not approved the number's display name.", SETTLE)
_proven(_policy, _ACCOUNT, [134011], "The terms of WhatsApp payments are not accepted yet.", SETTLE)
_proven(
    _policy,
    _TEMPLATE,
    [131063],
    "Marketing templates are switched off on the Cloud API for this account.",
    "Switch them on again at Meta, then resume the campaign.",
)
_proven(
    _policy,
    _TEMPLATE,
    [132007],
    "The template's content breaks Meta's rules.",
    "Correct the template at Meta and resume the campaign, or cancel it.",
)
_proven(
    _policy,
    _TEMPLATE,
    [132015],
    "Meta has paused the template because of its quality.",
    "Wait until Meta resumes it (3, then 6 hours) or improve it, then resume the campaign.",
)
_proven(
    _policy,
    _TEMPLATE,
    [132016],
    "Meta has switched the template off for good.",
    "Cancel the campaign and send another template.",
)
_proven(
    _policy,
    _TEMPLATE,
    [132068],
    "Meta has blocked the flow.",
    "Correct the flow at Meta and resume the campaign, or cancel it.",
)

# ---- this recipient ----
_permanent = ErrorClass.PERMANENT
_proven(_permanent, _RECIPIENT, [130497], "Meta does not allow this business to write to this country.", LEAVE_OUT)
_proven(_permanent, _RECIPIENT, [131021], "The recipient is the sending number itself.", LEAVE_OUT)
_proven(
    _permanent,
    _RECIPIENT,
    [131026],
    "It cannot be delivered: not on WhatsApp, an old app, or terms not accepted.",
    LEAVE_OUT,
)
_proven(
    _permanent,
    _RECIPIENT,
    [131030],
    "The test number may only write to the numbers on its list.",
    "Add the recipient to the test number's list at Meta, or use a real number.",
)
_proven(
    _permanent,
    _RECIPIENT,
    [131047],
    "This person last wrote more than 24 hours ago.",
    "Send an approved template instead.",
)
_proven(
    _permanent,
    _RECIPIENT,
    [131049],
    "This person has had enough marketing messages for now, Meta finds.",
    "Resend once, after 24 hours at the earliest.",
)
_proven(
    _permanent,
    _RECIPIENT,
    [131050],
    "This person has stopped marketing messages from you.",
    SUPPRESSED,
    opt_out=True,
)
_proven(_permanent, _RECIPIENT, [130472], "This person is in an experiment of Meta's without marketing.", LEAVE_OUT)
_proven(
    _permanent,
    _RECIPIENT,
    [131062],
    "Authentication templates need a phone number, not a user id.",
    "Give this recipient's phone number and resend to failed.",
)
_proven(
    _permanent,
    _RECIPIENT,
    [137000],
    "This person's phone or number may have changed hands.",
    "Confirm who it is, then resend to failed.",
)
_proven(
    _permanent,
    _RECIPIENT,
    [131020, 131041, 131059, 131201, 131202, 131204, 131207, range(131209, 131216)],
    "The group does not take this message.",
    "Look at the group's state and members; only Official Business Accounts may use groups.",
)

# ---- this content ----
_proven(_permanent, _MESSAGE, [100, 131009, 135000], "Meta refused a value in the message.", CORRECT)
_proven(_permanent, _MESSAGE, [131008], "A value that Meta needs is missing.", CORRECT)
_proven(_permanent, _MESSAGE, [131051], "Meta does not take this type of message.", CORRECT)
_proven(_permanent, _MESSAGE, [131052], "Meta could not fetch the media.", CORRECT)
_proven(_permanent, _MESSAGE, [131053], "Meta could not take the media in: type, size or content.", CORRECT)
_proven(_permanent, _MESSAGE, [131055], "This call is not allowed for this message.", CORRECT)
_template = "Compare the content with the template in WhatsApp Manager, correct it and resend to failed."
_proven(_permanent, _TEMPLATE, [132000], "The template has another number of variables.", _template)
_proven(_permanent, _TEMPLATE, [132001], "There is no approved template of this name and language.", _template)
_proven(_permanent, _MESSAGE, [132005], "With its variables filled in, the template is too long.", _template)
_proven(_permanent, _MESSAGE, [132008, 132012], "A variable of the template has the wrong form.", _template)
_proven(_permanent, _TEMPLATE, [134100], "This call only takes marketing templates.", _template)
_proven(_permanent, _TEMPLATE, [134102], "The template cannot be used at present.", _template)

# ---- passes by itself, and Meta says that it refused ----
_transient = ErrorClass.TRANSIENT
_soon = "Nothing to do: it is tried again."
_proven(_transient, _CHANNEL, [131057], "Meta is changing the number's account (a few minutes).", SLOWS_DOWN)
# Two waits of 200 and 400 s, which the usual three attempts have between them, make up the ten minutes.
_proven(
    _transient,
    _TEMPLATE,
    [134101],
    "Meta is still preparing the template (up to 10 minutes).",
    _soon,
    backoff=Backoff(200, 2),
)

# ---- failures of the service: the message may have gone out ----
_ambiguous = ErrorClass.AMBIGUOUS
_doubtful(
    _ambiguous, _CHANNEL, [1, 2, 131000, 131016, 133004], "Meta's service failed for a moment.", WAIT_FOR_EVIDENCE
)

RULES = _table.rules
