"""What Meta tells of templates, accounts and Pages: kept once, and heeded."""

import json

from pombo.ingest.ingester import Ingester
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.inbox_story import PAGE, account, holdings, milliseconds, page, seconds
from tests.service.test_inbox_ingest import apply, build, connection, rows

__all__ = ["connection"]  # fixture


async def test_a_paused_template_pauses_its_runs_unless_it_was_approved_since(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    ingester = Ingester(database)
    content = {"type": "template", "name": "spring", "language": "en_US"}
    await connection.execute(
        "UPDATE runs SET content = $2 WHERE workspace_id = $1", house.workspace_id, json.dumps(content)
    )

    def told(event: str, after: int, name: str = "spring") -> bytes:
        value = {
            "event": event,
            "message_template_id": 1,
            "message_template_name": name,
            "message_template_language": "en-US",
            "reason": None,
            "other_info": {"title": "FIRST_PAUSE", "description": "Too many blocked it."},
        }
        return account("message_template_status_update", value, int(seconds(after)))

    states = "SELECT state, pause_reason FROM runs WHERE workspace_id = $1 ORDER BY id"
    await apply(
        ingester, connection, house, [told("APPROVED", 20), told("PAUSED", 10), told("PAUSED", 30, "autumn")], [1]
    )
    assert {row[0] for row in await rows(connection, states, house)} == {"processing"}

    await apply(ingester, connection, house, [told("PAUSED", 40)], [])
    number, messenger = await rows(connection, states, house)
    assert number == ("pausing", "Meta has set the template spring to PAUSED: Too many blocked it.")
    # Its channel belongs to no WhatsApp account.
    assert messenger == ("processing", None)

    await connection.execute(
        "UPDATE runs SET state = 'processing', pause_reason = NULL WHERE workspace_id = $1", house.workspace_id
    )
    await apply(ingester, connection, house, [told("PAUSED", 40)], [])
    assert {row[0] for row in await rows(connection, states, house)} == {"processing"}


async def test_a_disabled_account_and_a_blocked_page_stop_their_channels(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    ban = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE", "waba_ban_date": "x"}}
    harmless = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "SCHEDULE_FOR_DISABLE"}}
    block = {
        "recipient": {"id": PAGE},
        "timestamp": milliseconds(5),
        "policy_enforcement": {"action": "block", "reason": "Spam."},
    }
    stopped = "SELECT kind, state, stop_code, stop_reason FROM channels WHERE workspace_id = $1 ORDER BY kind"
    ingester = Ingester(database)

    await apply(ingester, connection, house, [account("account_update", harmless, int(seconds(1)))], [])
    assert [row[1] for row in await rows(connection, stopped, house)] == ["active", "active"]
    await apply(ingester, connection, house, [account("account_update", ban, int(seconds(2))), page(block)], [])

    assert await rows(connection, stopped, house) == [
        ("messenger", "stopped", "messaging_policy_enforcement", "Spam."),
        ("whatsapp", "stopped", "account_update", "Meta has disabled the WhatsApp Business account."),
    ]


async def test_what_meta_tells_of_an_account_is_kept_once_for_its_channels(
    database: Database, connection: Connection, box: SecretBox
) -> None:
    house = await build(connection, box)
    quality = {"display_phone_number": "15550783881", "event": "THROUGHPUT_UPGRADE", "current_limit": "TIER_UNLIMITED"}
    bodies = [account("phone_number_quality_update", quality, int(seconds(3)))] * 3
    await apply(Ingester(database), connection, house, bodies, [2])
    held = await holdings(connection, house)
    assert [(row[0], row[1]) for row in held["notices"]] == [("phone_number_quality_update", "15550783881")]
