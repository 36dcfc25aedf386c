"""Which campaigns people answer: counted, and copied into their conversations.

Everything is found from the rows as they are by then, so it may be done again at any time, and is whenever a webhook is
applied again.
"""

from collections.abc import Collection, Sequence

from pombo.ingest.campaign_copies import copy_of
from pombo.store import app_receipts, campaign_replies, inbox_events, inbox_people, inbox_threads, message_changes
from pombo.store.database import Connection
from pombo.store.planning import plan_by_index
from pombo.store.receipts import Receipt, Watermark


async def answer(connection: Connection, contacts: Collection[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """In a transaction planned `KEPT_AND_REPEATABLE`, for these (workspace, channel, contact).

    Returns (workspace, our message) of what was copied; after the commit the caller looks at what has become of these.
    """
    channels = {(workspace, contact): (workspace, channel) for workspace, channel, contact in contacts}
    people = await campaign_replies.reached(connection, channels)
    if not people:
        return []
    today = await plan_by_index(connection)
    await inbox_people.lock_channels(connection, {channels[person] for person in people})
    await campaign_replies.count(connection, people, today)
    followed = await campaign_replies.followed(connection, people, today)
    if not followed:
        return []
    copies = await campaign_replies.copy(connection, [copy_of(one) for one in followed])
    # Somebody may have reacted to it already.
    await message_changes.show(
        connection, [(one.workspace_id, one.channel_id, one.provider_id) for one in followed if one.provider_id]
    )
    conversations = sorted({(one.workspace_id, one.conversation_id) for one in copies})
    await inbox_threads.touch(connection, conversations)
    created = [(one.workspace_id, one.id, one.conversation_id) for one in copies]
    await inbox_events.append(connection, created=created, conversations=conversations)
    return [(one.workspace_id, one.message_id) for one in copies]


async def follow(
    connection: Connection,
    of_apps: Sequence[tuple[int, int]],
    ours: Sequence[tuple[int, int]],
    receipts: Sequence[Receipt] = (),
    watermarks: Sequence[Watermark] = (),
) -> int:
    """What has become of messages that the inbox shows; in a transaction after the commit that shows them.

    `of_apps` are new ones of other programs, `ours` are (workspace, our message) that were copied or have moved;
    `receipts` were of none of ours. Returns how many changed.
    """
    today = await plan_by_index(connection)
    told = await app_receipts.apply(connection, receipts, watermarks)
    told += await app_receipts.catch_up(connection, of_apps)
    return told + await campaign_replies.follow_states(connection, ours, today)
