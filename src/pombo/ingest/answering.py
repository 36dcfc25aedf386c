"""Which campaigns people answer: counted, and copied into their conversations.

Everything is found from the rows as they are by then, so it may be done again at any time, and is whenever a webhook is
applied again.
"""

from collections.abc import Collection

from pombo.ingest.campaign_copies import copy_of
from pombo.store import campaign_replies, inbox_events, inbox_people, inbox_threads, message_changes
from pombo.store.database import Connection
from pombo.store.planning import plan_by_index


async def answer(connection: Connection, contacts: Collection[tuple[int, int, int]]) -> int:
    """In a transaction planned `KEPT_AND_REPEATABLE`, for these (workspace, channel, contact); returns how many
    messages it copied."""
    channels = {(workspace, contact): (workspace, channel) for workspace, channel, contact in contacts}
    people = await campaign_replies.reached(connection, channels)
    if not people:
        return 0
    today = await plan_by_index(connection)
    await inbox_people.lock_channels(connection, {channels[person] for person in people})
    await campaign_replies.count(connection, people, today)
    followed = await campaign_replies.followed(connection, people, today)
    if not followed:
        return 0
    created = await campaign_replies.copy(connection, [copy_of(one) for one in followed])
    # Somebody may have reacted to it already.
    await message_changes.show(
        connection, [(one.workspace_id, one.channel_id, one.provider_id) for one in followed if one.provider_id]
    )
    conversations = sorted({(workspace, conversation) for workspace, _, conversation in created})
    await inbox_threads.touch(connection, conversations)
    await inbox_events.append(connection, created=created, conversations=conversations)
    return len(created)
