"""Pages of the Conversations API, Meta's shapes and worse."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pombo.meta.history import read_page

PAGE, PSID = "1001", "24012345678901"
THREAD: dict[str, Any] = {
    "id": "t_1",
    "updated_time": "2026-07-12T19:11:07+0000",
    "participants": {"data": [{"name": "Ana Lima", "id": PSID}, {"name": "Shop", "id": PAGE}]},
    "messages": {
        "data": [
            {"id": "m_3", "created_time": "2026-07-12T19:11:07+0000", "from": {"id": PAGE}, "message": "Yes"},
            {
                "id": "m_2",
                "created_time": "2026-07-12T19:10:07+0000",
                "from": {"id": PSID},
                "message": "",
                "attachments": {
                    "data": [
                        {
                            "id": "9",
                            "mime_type": "image/jpeg",
                            "name": "a.jpg",
                            "image_data": {"url": "https://scontent.fbcdn.net/a.jpg"},
                        }
                    ]
                },
            },
            {"id": "m_1", "created_time": "2026-07-12T19:09:07+0000"},
        ]
    },
}


def test_a_page_gives_both_sides_messages_and_where_to_go_on() -> None:
    paging = {"cursors": {"after": "next-one"}, "next": "https://graph.facebook.com/..."}
    page = read_page(PAGE, {"data": [THREAD], "paging": paging})
    ours, theirs = page.messages
    assert (ours.author, ours.text, ours.opens_window) == ("app", "Yes", False)
    assert (theirs.author, theirs.type, theirs.text) == ("contact", "image", None)
    assert theirs.content["attachments"] == [
        {"type": "image", "url": "https://scontent.fbcdn.net/a.jpg", "mimeType": "image/jpeg", "fileName": "a.jpg"}
    ]
    assert theirs.person.name == "Ana Lima"
    assert page.reached_at == datetime(2026, 7, 12, 19, 11, 7, tzinfo=UTC)
    assert page.after == "next-one"


def test_the_last_page_has_no_next() -> None:
    assert read_page(PAGE, {"data": [THREAD], "paging": {"cursors": {"after": "x"}}}).after is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "data",
                    "messages",
                    "participants",
                    "from",
                    "id",
                    "created_time",
                    "attachments",
                    "paging",
                    "image_data",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON, st.sampled_from(["data", "messages", "participants", "updated_time"]))
def test_whatever_comes_is_read_without_an_exception(value: Any, name: str) -> None:
    read_page(PAGE, {"data": [json.loads(json.dumps(THREAD)) | {name: value}], "paging": value})
    read_page(PAGE, {"data": value})
