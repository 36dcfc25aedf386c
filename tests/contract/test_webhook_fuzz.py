"""Some seconds of what `python -m tests.fuzz.webhooks 600` does for ten minutes."""

import itertools

from tests.fuzz.webhooks import check, mutants
from tests.inbox_story import messenger_story, whatsapp_story


def test_nothing_escapes_from_webhooks_that_are_nearly_right() -> None:
    for body in itertools.islice(mutants(4, whatsapp_story() + messenger_story()), 4_000):
        check(body)


def test_what_is_not_spoilt_says_something() -> None:
    for body in whatsapp_story() + messenger_story():
        assert check(body), body
