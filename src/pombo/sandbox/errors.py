"""Meta's errors: what they look like, and the status and words that belong to each code.

Meta documents codes, not HTTP statuses, and shows several codes with more than one status; callers should look at the
code. Statuses for WhatsApp follow Meta's error table of 2025-12, those for Messenger are what is seen in practice.
"""

import itertools
import secrets
from typing import Any, Literal, NamedTuple

from pombo.sandbox.reply import Reply, json_reply

Kind = Literal["messenger", "whatsapp"]


class Known(NamedTuple):
    status: int
    message: str
    is_transient: bool = False


# A fault may inject any code; one that stands here brings its real words and status with it.
_MESSENGER: dict[tuple[int, int | None], Known] = {
    (1, None): Known(500, "An unknown error occurred"),
    (1, 1357046): Known(500, "(#1) An unknown error occurred while the messages were sent"),
    (2, None): Known(500, "An unexpected error has occurred. Please retry your request later.", True),
    (4, None): Known(403, "(#4) Application request limit reached", True),
    (10, None): Known(403, "(#10) Application does not have permission for this action"),
    (10, 1893015): Known(400, "(#10) This person has stopped messages on this topic."),
    (10, 1893063): Known(400, "(#10) This Page is temporarily restricted from sending messages."),
    (10, 2018065): Known(400, "(#10) This message is sent outside of allowed window. The Page lacks permission."),
    (10, 2018108): Known(400, "(#10) This person cannot receive messages right now."),
    (10, 2018278): Known(400, "(#10) This message is sent outside of allowed window."),
    (100, None): Known(400, "(#100) Invalid parameter"),
    (100, 2018001): Known(400, "(#100) No matching user found"),
    (190, None): Known(400, "Invalid OAuth access token - Cannot parse access token"),
    (190, 460): Known(400, "Error validating access token: The session is invalid because the password was changed."),
    (190, 463): Known(400, "Error validating access token: Session has expired."),
    (200, None): Known(403, "(#200) The app lacks the permission to message this person."),
    (200, 1545041): Known(403, "(#200) This person isn't available right now."),
    (368, None): Known(403, "(#368) The action attempted has been deemed abusive or is otherwise disallowed"),
    (551, None): Known(400, "(#551) This person isn't available right now."),
    (551, 1545041): Known(400, "(#551) This person isn't available right now."),
    (100, 2018218): Known(400, "(#100) This person has no profile that can be read."),
    (613, None): Known(400, "(#613) Calls to this api have exceeded the rate limit.", True),
    (613, 2534040): Known(400, "(#613) Calls to this api have exceeded the rate limit.", True),
    (1200, None): Known(500, "Temporary send message failure. Please try again later.", True),
    (9000001, None): Known(400, "(#9000001) This message has been deleted."),
    (80006, None): Known(400, "(#80006) There have been too many calls to this Messenger account. Wait a bit.", True),
}
_WHATSAPP: dict[tuple[int, int | None], Known] = {
    (0, None): Known(401, "(#0) AuthException"),
    (1, None): Known(400, "(#1) API Unknown"),
    (2, None): Known(503, "(#2) Service temporarily unavailable", True),
    (3, None): Known(500, "(#3) API Method"),
    (4, None): Known(400, "(#4) API Too Many Calls", True),
    (10, None): Known(403, "(#10) Application does not have permission for this action"),
    (33, None): Known(400, "(#33) Parameter value is not valid"),
    (100, None): Known(400, "(#100) Invalid parameter"),
    (190, None): Known(401, "Invalid OAuth access token - Cannot parse access token"),
    (190, 460): Known(401, "Error validating access token: The session is invalid because the password was changed."),
    (190, 463): Known(401, "Error validating access token: Session has expired."),
    (200, None): Known(403, "(#200) You do not have the necessary permissions to send messages."),
    (368, None): Known(403, "(#368) Temporarily blocked for policies violations"),
    (80007, None): Known(400, "(#80007) Rate limit issues", True),
    (130429, None): Known(400, "(#130429) Rate limit hit"),
    (130472, None): Known(400, "(#130472) User's number is part of an experiment"),
    (130497, None): Known(403, "(#130497) Business account is restricted from messaging users in this country."),
    (131000, None): Known(500, "(#131000) Something went wrong"),
    (131005, None): Known(403, "(#131005) Access denied"),
    (131008, None): Known(400, "(#131008) Required parameter is missing"),
    (131009, None): Known(400, "(#131009) Parameter value is not valid"),
    (131016, None): Known(500, "(#131016) Service unavailable"),
    (131021, None): Known(400, "(#131021) Recipient cannot be sender"),
    (131026, None): Known(400, "(#131026) Message undeliverable"),
    (131030, None): Known(400, "(#131030) Recipient phone number not in allowed list"),
    (131031, None): Known(403, "(#131031) Account has been locked"),
    (131042, None): Known(400, "(#131042) Business eligibility payment issue"),
    (131047, None): Known(400, "(#131047) Re-engagement message"),
    (131048, None): Known(400, "(#131048) Spam rate limit hit"),
    (131049, None): Known(400, "(#131049) This message was not delivered to maintain healthy ecosystem engagement."),
    (131050, None): Known(400, "(#131050) User has stopped receiving marketing messages from this business"),
    (131051, None): Known(400, "(#131051) Unsupported message type"),
    (131053, None): Known(400, "(#131053) Media upload error"),
    (131056, None): Known(400, "(#131056) (Business Account, Consumer Account) pair rate limit hit"),
    (131057, None): Known(500, "(#131057) Account in maintenance mode"),
    (132000, None): Known(400, "(#132000) Number of parameters does not match the expected number of params"),
    (132001, None): Known(404, "(#132001) Template name does not exist in the translation"),
    (132005, None): Known(400, "(#132005) Translated text too long"),
    (132007, None): Known(400, "(#132007) Template content policy violated"),
    (132012, None): Known(400, "(#132012) Parameter format does not match format in the created template"),
    (132015, None): Known(400, "(#132015) Template is paused"),
    (132016, None): Known(400, "(#132016) Template is disabled"),
    (133004, None): Known(503, "(#133004) Server temporarily unavailable"),
    (133010, None): Known(400, "(#133010) Phone number not registered"),
    (135000, None): Known(400, "(#135000) Generic user error"),
}
_BY_KIND: dict[Kind, dict[tuple[int, int | None], Known]] = {"messenger": _MESSENGER, "whatsapp": _WHATSAPP}


def known(kind: Kind, code: int, subcode: int | None = None) -> Known:
    table = _BY_KIND[kind]
    return table.get((code, subcode)) or table.get((code, None)) or Known(400, f"(#{code}) Injected by the sandbox")


def title_of(code: int) -> str:
    """WhatsApp's words for a code without its number, as `errors[].title` of a status webhook has them."""
    return known("whatsapp", code).message.partition(") ")[2] or f"Error {code}"


class MetaError(Exception):
    """Raised wherever a request is refused; rendered as Meta's error body."""

    def __init__(
        self,
        kind: Kind,
        code: int,
        subcode: int | None = None,
        *,
        message: str | None = None,
        details: str | None = None,
        status: int | None = None,
        is_transient: bool | None = None,
        error_type: str = "OAuthException",
    ) -> None:
        words = known(kind, code, subcode)
        self.kind = kind
        self.code = code
        self.subcode = subcode
        self.message = message or words.message
        self.details = details
        self.status = status or words.status
        self.is_transient = words.is_transient if is_transient is None else is_transient
        self.error_type = error_type
        super().__init__(self.message)

    def reply(self) -> Reply:
        error: dict[str, Any] = {"message": self.message, "type": self.error_type, "code": self.code}
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        if self.is_transient:
            error["is_transient"] = True
        if self.kind == "whatsapp" and self.code >= 1000:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self.details or self.message}
        elif self.details is not None:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self.details}
        error["fbtrace_id"] = trace_id()
        return json_reply({"error": error}, self.status)


_traces = itertools.count(1)
_process = secrets.token_urlsafe(6)


def trace_id() -> str:
    """Looks like Meta's, and is unique among the sandbox's answers."""
    return f"A{_process}{next(_traces):x}"


def unknown_object(node: str, method: str) -> MetaError:
    """What Meta answers for an object that is not there or that the token may not see: it does not tell which."""
    return MetaError(
        "messenger",
        100,
        33,
        message=f"Unsupported {method.lower()} request. Object with ID '{node}' does not exist, "
        "cannot be loaded due to missing permissions, or does not support this operation.",
        error_type="GraphMethodException",
    )
