"""Lines that break, answers that prove nothing, webhooks that come twice, late or not at all."""

import pytest

from tests.chaos import mishaps, weather
from tests.chaos.books import accepted_again, as_accepted, exactly_once, reported_again
from tests.chaos.installation import Installation
from tests.chaos.scale import LONG
from tests.chaos.settling import all_held, rested, sent
from tests.chaos.weather import Weather

# Late webhooks matter where there are doubts.
_SEPARATELY: list[tuple[Weather, ...]] = [
    (weather.connections_are_cut,),
    (weather.answers_are_lost,),
    (weather.errors_prove_nothing,),
    (weather.webhooks_come_late_twice_and_in_disorder, weather.answers_are_lost),
]


@pytest.mark.parametrize(
    "kinds",
    [*(_SEPARATELY if LONG else []), weather.ALL],
    ids=lambda kinds: "all_at_once" if kinds is weather.ALL else kinds[0].__name__,
)
async def test_whatever_becomes_of_answers_and_webhooks_each_message_is_accepted_once(
    installation: Installation, kinds: tuple[Weather, ...]
) -> None:
    await installation.hurry()
    await weather.rises(installation, *kinds)
    await installation.send(installation.scale.messages)
    for _ in range(installation.scale.times):
        await mishaps.the_api_is_killed_before_it_says_200(installation)
    await sent(installation)
    await rested(installation)
    assert await exactly_once(installation) == []


async def test_without_webhooks_or_echoes_nothing_is_sent_twice_and_the_doubtful_are_held(
    installation: Installation,
) -> None:
    page, silent = installation.handles[0], installation.channels[0]
    await installation.subscribe(page, "messages", "message_deliveries", "message_reads")
    installation.webhook_line.sever()
    await installation.hurry()
    await weather.rises(installation, weather.answers_are_lost, weather.errors_prove_nothing)
    await installation.send(installation.scale.messages)
    await mishaps.one_worker_is_killed(installation)
    await all_held(installation)

    assert await held(installation) == set(installation.channels)
    assert await accepted_again(installation) == {}
    assert await as_accepted(installation) == []

    # When webhooks come at last, and not in their order, what was sent again too early is told; of the Page without
    # echoes nothing is.
    await rested(installation, but=silent)
    assert await held(installation) == {silent}
    again = await accepted_again(installation)
    assert await reported_again(installation) == again
    assert again.keys().isdisjoint(await messages_of(installation, silent))
    assert await as_accepted(installation) == []


async def test_every_duplicate_that_webhooks_later_than_grace_bring_about_is_reported(
    installation: Installation,
) -> None:
    await installation.hurry()
    too_late_ms = 1000 * (installation.scale.lease_s + 2 * installation.scale.grace_s)
    await installation.sandbox.add_faults(
        {"kind": "lost_answer", "rate": 0.1}, {"kind": "webhook_late", "rate": 0.5, "delay_ms": too_late_ms}
    )
    await installation.send(installation.scale.messages)
    await sent(installation)
    await rested(installation)

    again = await accepted_again(installation)
    assert again
    assert await reported_again(installation) == again
    assert await as_accepted(installation) == []


async def held(installation: Installation) -> set[int]:
    """Channels of which messages are held."""
    rows = await installation.fetch("SELECT DISTINCT channel_id FROM doubts WHERE held IS NOT NULL")
    return {row["channel_id"] for row in rows}


async def messages_of(installation: Installation, channel_id: int) -> set[int]:
    rows = await installation.fetch("SELECT id FROM deliveries WHERE channel_id = $1", channel_id)
    return {row["id"] for row in rows}
