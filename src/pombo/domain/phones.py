"""Recipients as people write them, in the one form in which Pombo keeps them.

WhatsApp: E.164 with its + (`+15550001234`), or Meta's business-scoped user id (`US.1349…`). Messenger: the page-scoped
id. A phone number need only be *possible* (its country exists, and has numbers of that length), not known to be in use:
which numbers are in use changes every month, and Meta knows better.
"""

import re
from collections.abc import Container
from dataclasses import dataclass

import phonenumbers
from phonenumbers import NumberParseException, PhoneMetadata, ValidationResult

from pombo.domain.channels import ChannelKind


@dataclass(frozen=True, slots=True)
class RecipientProblem:
    """Why a recipient cannot be written to. `code` is stable."""

    code: str
    sentence: str


def normalise_recipient(kind: ChannelKind, text: str, default_region: str | None = None) -> "str | RecipientProblem":
    if kind is ChannelKind.MESSENGER:
        return normalise_psid(text)
    if "." in text and _USER_ID.fullmatch(text := text.strip()):
        return text
    return normalise_phone(text, default_region)


def normalise_psid(text: str) -> "str | RecipientProblem":
    """A page-scoped id: Meta's are 15 to 17 digits long today."""
    psid = text.strip()
    if not psid:
        return _EMPTY
    return psid if _PSID.fullmatch(psid) else _NO_PSID


def normalise_phone(text: str, default_region: str | None = None) -> "str | RecipientProblem":
    """E.164. Takes `+ - ( ) . /`, spaces, and 00 in place of the +.

    Digits with neither + nor 00 are a number of `default_region` (`BR`), if one is given, and an international number
    otherwise, which is how WhatsApp writes its ids. A clean number takes about 1 µs, any other 30.
    """
    if text[:1] == "+" and _is_possible_as_it_stands(text[1:]):
        return text
    digits = text.translate(_PUNCTUATION)
    if not digits:
        return _EMPTY
    is_international = digits[0] == "+"
    digits = digits.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        return _NO_NUMBER
    if not is_international and digits.startswith("00"):
        is_international = True
        digits = digits[2:]
    if is_international or default_region is None:
        return f"+{digits}" if _is_possible_as_it_stands(digits) else _parsed(f"+{digits}", None)
    return _parsed(digits, default_region)


def is_group(kind: ChannelKind, address: str) -> bool:
    """Of an address as conversations have them: WhatsApp's groups have ids that are neither numbers nor user ids."""
    return kind is ChannelKind.WHATSAPP and not address.startswith("+") and "." not in address


_USER_ID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9]{1,128}", re.ASCII)
_PSID = re.compile(r"[0-9]{1,20}", re.ASCII)

# What people and address books put between digits, the invisible marks of text direction included.
_PUNCTUATION = dict.fromkeys(
    map(
        ord,
        "-().\u2010\u2011\u2012\u2013/ \t\r\n\u00a0\u2007\u2009\u202f\u200b\u200e\u200f\u202a\u202c\u2068\u2069\ufeff",
    )
)

_EMPTY = RecipientProblem("recipient_empty", "The recipient is empty.")
_NO_PSID = RecipientProblem("psid_invalid", "A recipient on Messenger is a page-scoped id of 1 to 20 digits.")
_NO_NUMBER = RecipientProblem(
    "phone_invalid", "This is no phone number: it has other characters than + - ( ) and digits."
)
_NO_COUNTRY = RecipientProblem(
    "phone_country_unknown", "No country has this calling code; write the number with + and its country's code."
)
_TOO_SHORT = RecipientProblem("phone_too_short", "The phone number is too short for its country.")
_TOO_LONG = RecipientProblem("phone_too_long", "The phone number is too long for its country.")
_WRONG_LENGTH = RecipientProblem("phone_length_invalid", "Its country has no phone numbers of this length.")


def _parsed(number: str, region: str | None) -> "str | RecipientProblem":
    """By the library, which also takes out a trunk prefix (`+44 (0)20 …`)."""
    try:
        parsed = phonenumbers.parse(number, region)
    except NumberParseException as error:
        return _PROBLEMS_OF_PARSING.get(error.error_type, _TOO_SHORT)
    verdict = phonenumbers.is_possible_number_with_reason(parsed)
    if verdict == ValidationResult.IS_POSSIBLE:
        return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return _PROBLEMS_OF_LENGTH.get(verdict, _WRONG_LENGTH)


_PROBLEMS_OF_PARSING = {
    NumberParseException.INVALID_COUNTRY_CODE: _NO_COUNTRY,
    NumberParseException.TOO_LONG: _TOO_LONG,
}
_PROBLEMS_OF_LENGTH = {
    ValidationResult.INVALID_COUNTRY_CODE: _NO_COUNTRY,
    ValidationResult.TOO_SHORT: _TOO_SHORT,
    ValidationResult.TOO_LONG: _TOO_LONG,
    # Enough digits to be dialled within the town, but not from here.
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: _TOO_SHORT,
}


# ---- the library's verdict on what needs no parsing ----


class _Plan:
    """A calling code's numbering plan: how long its numbers are, the code included, and what stands before a number at
    home and has to be taken out."""

    __slots__ = ("lengths", "trunk_prefix")

    def __init__(self, code: str, region: str) -> None:
        metadata = PhoneMetadata.metadata_for_region_or_calling_code(int(code), region)
        # Every calling code the library lists has its metadata.
        assert metadata is not None
        assert metadata.general_desc is not None
        self.lengths: Container[int] = frozenset(len(code) + length for length in metadata.general_desc.possible_length)
        prefix = metadata.national_prefix_for_parsing
        self.trunk_prefix = re.compile(prefix) if prefix else None


class _Plans(dict[str, _Plan | None]):
    """By calling code, loaded when first asked for (a millisecond each). None: no country has this code."""

    def __missing__(self, code: str) -> _Plan | None:
        regions = None if code[0] == "0" else phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(code))
        self[code] = plan = _Plan(code, regions[0]) if regions else None
        return plan


_plans = _Plans()


def _is_possible_as_it_stands(digits: str) -> bool:
    """Whether the library finds the number possible and leaves all of its digits as they are. False: ask it."""
    if not (digits.isdigit() and digits.isascii()):
        return False
    # No calling code is the beginning of another one.
    for size in (1, 2, 3):
        plan = _plans[digits[:size]]
        if plan is not None:
            if len(digits) not in plan.lengths:
                return False
            prefix = plan.trunk_prefix and plan.trunk_prefix.match(digits[size:])
            return prefix is None or prefix.end() == 0
    return False
