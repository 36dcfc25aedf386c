"""What a batch says of deliveries, in one transaction: evidence settles, receipts move, the rest is kept."""

from typing import NamedTuple

from pombo.ingest.gathering import Findings, waves
from pombo.ingest.status_errors import heed
from pombo.store import channel_evidence, early_receipts, own_messages, receipts, settlement
from pombo.store.database import Connection
from pombo.store.early_receipts import AcceptedMessage
from pombo.store.receipts import Located, Receipt
from pombo.store.settlement import Evidence


class Settlement(NamedTuple):
    accepted: list[AcceptedMessage]
    """Of the evidence that told something new."""
    unknown: list[Evidence]
    """Of no message of ours."""
    unmatched: list[Receipt]
    """Of no message that is known yet; kept, like all watermarks."""
    renamed: list[Located]
    """Whose recipient is called otherwise than the message was addressed."""


async def settle(connection: Connection, findings: Findings) -> Settlement:
    """After the commit, the caller must `early_receipts.catch_up` with what is accepted or unmatched, and the marks."""
    evidence, heard = await receipts.sift(connection, findings.evidence)
    for wave in waves(evidence):
        await settlement.settle_evidence(connection, wave)
    left, confirmed = await receipts.sift(connection, evidence)
    unknown = await own_messages.unknown(connection, left)
    await heed(connection, findings.failures)
    unmatched, renamed = await receipts.apply(connection, findings.receipts)
    await early_receipts.keep(connection, unmatched, findings.watermarks)
    accepted = [AcceptedMessage(e.workspace_id, e.channel_id, e.message_id, e.provider_id, e.day) for e in evidence]
    if accepted:
        # Applied again after a crash, the evidence is not new: only what others keep at this moment is left to the look
        # after the commit.
        await early_receipts.catch_up(connection, settled=accepted)
    await channel_evidence.note(connection, heard + confirmed)
    return Settlement(accepted, unknown, unmatched, renamed)
