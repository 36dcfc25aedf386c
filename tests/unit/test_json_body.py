import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pombo.campaigns.errors import BodyInvalid
from pombo.campaigns.json_body import MAX_VALUE, JsonAudienceReader
from pombo.store.audience import RejectedLine, StagedLine


def _read(body: bytes | str, piece: int = 1 << 16) -> JsonAudienceReader:
    data = body.encode() if isinstance(body, str) else body
    reader = JsonAudienceReader()
    for start in range(0, len(data), piece):
        reader.feed(data[start : start + piece])
    reader.finish()
    return reader


def _rejects(*recipients: Any) -> list[tuple[int, str]]:
    reader = _read(json.dumps({"recipients": list(recipients)}))
    assert not reader.lines
    return [(reject.line, reject.code) for reject in reader.rejects]


def test_recipients_are_strings_numbers_or_objects_and_keep_their_places() -> None:
    reader = _read(
        json.dumps(
            {
                "campaignId": "7",
                "recipients": [
                    "+351910000001",
                    {"recipient": "+351910000002", "variables": {"first_name": "Zoë", "orders": [1, 2.5, None, True]}},
                    {"channelId": 3, "recipient": 4242},
                    24_000_000_000_000_001,
                    {"recipient": "5", "channelId": "12", "variables": None},
                ],
                "payload": {"text": {"body": "x"}},
            }
        )
    )
    assert reader.fields == {"campaignId": "7", "payload": {"text": {"body": "x"}}}
    assert reader.has_recipients
    assert reader.rejects == []
    assert reader.lines == [
        StagedLine(1, 0, "+351910000001", None),
        StagedLine(2, 0, "+351910000002", '{"first_name":"Zoë","orders":[1,2.5,null,true]}'),
        StagedLine(3, 3, "4242", None),
        StagedLine(4, 0, "24000000000000001", None),
        StagedLine(5, 12, "5", None),
    ]


@pytest.mark.parametrize(
    ("recipient", "code"),
    [
        (None, "recipient_invalid"),
        (True, "recipient_invalid"),
        (1.5, "recipient_invalid"),
        ([], "recipient_invalid"),
        ({}, "recipient_invalid"),
        ({"variables": {}}, "recipient_invalid"),
        ({"recipient": True}, "recipient_invalid"),
        ({"recipient": None}, "recipient_invalid"),
        ({"recipient": "1", "first_name": "Ana"}, "field_unknown"),
        ({"recipient": "1", "variables": ["Ana"]}, "variables_invalid"),
        ({"recipient": "1", "channelId": "x"}, "channel_not_found"),
        ({"recipient": "1", "channelId": 0}, "channel_not_found"),
        ({"recipient": "1", "channelId": -4}, "channel_not_found"),
        ({"recipient": "1", "channelId": True}, "channel_not_found"),
        ("1" * 201, "recipient_too_long"),
        ("1\x002", "text_invalid"),
        ({"recipient": "1", "variables": {"a": "x\x00"}}, "text_invalid"),
        ({"recipient": "1", "variables": {"a\x00": "x"}}, "text_invalid"),
        ({"recipient": "1", "variables": {"a": ["x", {"b": "\x00"}]}}, "text_invalid"),
        ({"recipient": "1", "variables": {"a": "x" * 70_000}}, "variables_too_large"),
    ],
)
def test_a_recipient_that_cannot_be_used_is_rejected_alone(recipient: Any, code: str) -> None:
    assert _rejects(recipient) == [(1, code)]
    reader = _read(json.dumps({"recipients": ["+1", recipient, "+2"]}))
    assert [line.line for line in reader.lines] == [1, 3]
    assert [reject.line for reject in reader.rejects] == [2]


def test_a_backslash_before_u0000_is_text_and_no_nul() -> None:
    reader = _read(json.dumps({"recipients": [{"recipient": "1", "variables": {"path": "C:\\u0000"}}]}))
    assert reader.rejects == []


def test_a_reject_shows_the_recipient_without_what_cannot_be_stored() -> None:
    reader = _read(json.dumps({"recipients": ["1\x00" + "2" * 300]}))
    [reject] = reader.rejects
    assert isinstance(reject, RejectedLine)
    assert reject.recipient == "1\ufffd" + "2" * 198


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        '"x"',
        "{",
        '{"recipients": ["+1"',
        '{"recipients": ["+1"]} x',
        '{"recipients": ["+1"]}{}',
        '{"recipients": [NaN]}',
        "{'recipients': []}",
        '{"a": 123456789012345678901234567890}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        '{"a": "\\ud83d"}',
        '{"a": "\\ude00\\ud83d"}',
        '{"a": ' + "[" * 50 + "]" * 50 + "}",
    ],
)
@pytest.mark.parametrize("piece", [1, 1 << 16])
def test_what_is_no_json_object_is_refused_with_one_line(body: str | bytes, piece: int) -> None:
    with pytest.raises(BodyInvalid) as caught:
        _read(body, piece)
    assert caught.value.code == "json_invalid"
    assert "\n" not in caught.value.sentence


@pytest.mark.parametrize(
    "body",
    ['{"recipients": {}}', '{"recipients": "contacts"}', '{"recipients": [], "recipients": []}', '{"a":1,"a":2}'],
)
def test_recipients_are_one_list_and_no_field_comes_twice(body: str) -> None:
    with pytest.raises(BodyInvalid) as caught:
        _read(body)
    assert caught.value.code == "validation_failed"


@pytest.mark.parametrize("begin", ['{"payload": "', '{"recipients": [["', '{"recipients": [{"recipient": "1", "a": "'])
def test_a_value_without_end_is_refused_before_it_fills_the_memory(begin: str) -> None:
    reader = JsonAudienceReader()
    reader.feed(begin.encode())

    def feed_on() -> None:
        for _ in range(3 * MAX_VALUE // 50_000):
            reader.feed(b"x" * 50_000)

    with pytest.raises(BodyInvalid) as caught:
        feed_on()
    assert caught.value.code == "value_too_large"


def test_many_small_values_are_never_taken_for_a_large_one() -> None:
    recipients = [f"+3519{n:08}" for n in range(100_000)]
    reader = _read(json.dumps({"recipients": recipients}))
    assert len(reader.lines) == 100_000


_json = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**63, 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text("xyz", min_size=1), _json, max_size=4), st.booleans(), st.integers(1, 40))
def test_fields_read_the_same_as_by_the_standard_library_however_the_body_is_cut(
    fields: dict[str, Any], ascii_only: bool, piece: int
) -> None:
    reader = _read(json.dumps(fields, ensure_ascii=ascii_only), piece)
    assert reader.fields == fields


def test_lines_are_the_same_however_the_body_is_cut() -> None:
    recipients = [{"recipient": f"+{n}", "variables": {"name": f"🐦{n}\\ud83d"}} for n in range(50)]
    body = json.dumps({"recipients": recipients, "campaignId": 1}).encode()
    whole, random_ = _read(body), random.Random(1)
    for _ in range(20):
        assert _read(body, random_.randint(1, 60)).lines == whole.lines
