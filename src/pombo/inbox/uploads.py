"""Replies that bring a file of ours: sent when the channel's owner has uploaded it (`pombo.store.channel_jobs`).

reply ──file known to Meta──▶ outbox
  └──not yet──▶ waiting, with a job to upload it ──uploaded──▶ outbox
                                                 └──given up──▶ failed; a retry has it uploaded again
"""

import json

from pombo.domain.content import ContentError
from pombo.domain.replies import reply_of
from pombo.inbox import replying
from pombo.inbox.errors import InboxError
from pombo.store import inbox_events, replies
from pombo.store.database import Connection
from pombo.store.replies import Uploaded


async def send_uploaded(connection: Connection, limit: int) -> int:
    """In one transaction; returns how many replies no longer wait."""
    taken = await replies.take_uploaded(connection, limit)
    for each in taken:
        await _send(connection, each)
    await inbox_events.append(connection, updated=[(each.workspace_id, each.id) for each in taken])
    return len(taken)


async def _send(connection: Connection, uploaded: Uploaded) -> None:
    workspace_id, id = uploaded.workspace_id, uploaded.id
    locked = await replying.lock_own(connection, workspace_id, id)
    assert locked is not None  # messages are never deleted
    found, conversation = locked
    if uploaded.file is None:
        await replies.fail(connection, workspace_id, id, uploaded.error_code, uploaded.error_title or "")
        return
    try:
        said = reply_of(found.text, json.loads(found.content), found.reply_to)
        message_id = await replying.queue(connection, workspace_id, conversation, said)
    except (InboxError, ContentError) as error:
        # The window has closed meanwhile.
        await replies.fail(connection, workspace_id, id, None, error.sentence)
    else:
        await replies.queue_again(connection, workspace_id, id, message_id)
        await replying.wait_for_file(connection, workspace_id, conversation, id, said, message_id)
