import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import NumberParseException, ValidationResult

from pombo.domain.channels import ChannelKind
from pombo.domain.phones import RecipientProblem, normalise_phone, normalise_psid, normalise_recipient


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+15550001234", "+15550001234"),
        ("15550001234", "+15550001234"),
        ("0015550001234", "+15550001234"),
        ("00 1 (555) 000-1234", "+15550001234"),
        (" +1 555.000.1234\n", "+15550001234"),
        ("+1\u00a0555\u2011000\u20111234\u202c", "+15550001234"),
        ("+44 (0)20 7946 0018", "+442079460018"),
        ("+39 06 698 12345", "+390669812345"),
        ("+5511999990000", "+5511999990000"),
        ("+5491123456789", "+5491123456789"),
        ("+919876543210", "+919876543210"),
        ("+212600000000", "+212600000000"),
    ],
)
def test_a_number_is_normalised_to_e164(text: str, number: str) -> None:
    assert normalise_phone(text) == number


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("(11) 99999-0000", "BR", "+5511999990000"),
        ("0151 23456789", "DE", "+4915123456789"),
        ("555 000 1234", "US", "+15550001234"),
        ("+55 11 99999-0000", "DE", "+5511999990000"),
        ("0055 11 99999-0000", "US", "+5511999990000"),
    ],
)
def test_a_national_number_needs_its_region(text: str, region: str, number: str) -> None:
    assert normalise_phone(text, region) == number


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "recipient_empty"),
        ("  ", "recipient_empty"),
        ("( - )", "recipient_empty"),
        ("+", "phone_invalid"),
        ("++15550001234", "phone_invalid"),
        ("1+5550001234", "phone_invalid"),
        ("Ana", "phone_invalid"),
        ("1-800-FLOWERS", "phone_invalid"),
        ("1.555E+10", "phone_invalid"),
        ("+١٥٥٥٠٠٠١٢٣٤", "phone_invalid"),
        ("+1²5550001234", "phone_invalid"),
        ("+1555000123\x00", "phone_invalid"),
        ("0151 23456789", "phone_country_unknown"),
        ("+9995550001234", "phone_country_unknown"),
        ("+0", "phone_too_short"),
        ("+1555000", "phone_too_short"),
        ("+15550001", "phone_too_short"),
        ("+1555000123", "phone_too_short"),
        ("+155500012345", "phone_too_long"),
        ("+49" + "1" * 40, "phone_too_long"),
        ("+" + "1" * 1000, "phone_too_long"),
        ("+37012345", "phone_too_short"),
    ],
)
def test_what_is_no_possible_number_is_refused_with_a_reason(text: str, code: str) -> None:
    problem = normalise_phone(text)
    assert isinstance(problem, RecipientProblem)
    assert problem.code == code
    assert problem.sentence.endswith(".")


def verdict_of_the_library(number: str) -> str | None:
    try:
        parsed = phonenumbers.parse(number, None)
    except NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(parsed) != ValidationResult.IS_POSSIBLE:
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


calling_codes = st.sampled_from([*map(str, phonenumbers.COUNTRY_CODE_TO_REGION_CODE), "", "0", "999"])


@given(calling_codes, st.text("0123456789", max_size=16))
def test_the_verdict_is_the_librarys(code: str, rest: str) -> None:
    number = normalise_phone(f"+{code}{rest}")
    assert (number if isinstance(number, str) else None) == verdict_of_the_library(f"+{code}{rest}")


@given(st.text("0123456789+-() .x\u0661", max_size=20), st.sampled_from([None, "BR", "US", "IT"]))
def test_no_text_raises_and_a_normalised_number_stays_as_it_is(text: str, region: str | None) -> None:
    number = normalise_phone(text, region)
    if isinstance(number, str):
        assert normalise_phone(number, region) == normalise_phone(number) == number


@pytest.mark.parametrize(("text", "psid"), [("254459191", "254459191"), (" 24512345678901234\n", "24512345678901234")])
def test_a_page_scoped_id_is_digits(text: str, psid: str) -> None:
    assert normalise_psid(text) == psid


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "recipient_empty"),
        ("+254459191", "psid_invalid"),
        ("2.54E+15", "psid_invalid"),
        ("1" * 21, "psid_invalid"),
        ("٢٥٤", "psid_invalid"),
    ],
)
def test_anything_else_is_no_page_scoped_id(text: str, code: str) -> None:
    problem = normalise_psid(text)
    assert isinstance(problem, RecipientProblem)
    assert problem.code == code


@pytest.mark.parametrize(
    ("kind", "text", "recipient"),
    [
        (ChannelKind.MESSENGER, "254459191", "254459191"),
        (ChannelKind.WHATSAPP, "+1 555 000 1234", "+15550001234"),
        (ChannelKind.WHATSAPP, "US.13491208655302741918", "US.13491208655302741918"),
        (ChannelKind.WHATSAPP, " US.abc ", "US.abc"),
        (ChannelKind.WHATSAPP, "1.555.000.1234", "+15550001234"),
        (ChannelKind.WHATSAPP, "us.1349", None),
        (ChannelKind.WHATSAPP, "US.", None),
        (ChannelKind.WHATSAPP, "US." + "1" * 129, None),
        (ChannelKind.MESSENGER, "US.1349", None),
    ],
)
def test_a_recipient_is_what_its_channel_can_reach(kind: ChannelKind, text: str, recipient: str | None) -> None:
    found = normalise_recipient(kind, text)
    assert (found if isinstance(found, str) else None) == recipient


def test_the_default_region_is_for_phone_numbers() -> None:
    assert normalise_recipient(ChannelKind.WHATSAPP, "(11) 99999-0000", "BR") == "+5511999990000"
