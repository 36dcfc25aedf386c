import pytest

from pombo.domain.content import Content, Raw, Template, Text
from pombo.domain.ids import CampaignId
from pombo.store import campaigns
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.accounts import add_account


@pytest.mark.parametrize(
    "content",
    [
        Text("Olá {{ first_name }} 🐦", preview_url=True),
        Template("order_ready", "pt_BR", [{"type": "body", "parameters": [{"type": "text", "text": "{{ name }}"}]}]),
        Raw({"type": "image", "image": {"link": "https://example.com/a.png"}}),
        None,
    ],
)
async def test_a_campaign_comes_back_as_it_was_made(
    database: Database, box: SecretBox, content: Content | None
) -> None:
    account = await add_account(database, box)
    async with database.tenant(account.workspace_id) as connection:
        made = await campaigns.create_campaign(connection, account.workspace_id, "Sale", content, [account.page])
        found = await campaigns.get_campaign(connection, account.workspace_id, made.id)

    assert found == made
    assert (made.name, made.content, made.channel_ids) == ("Sale", content, [account.page])


async def test_a_campaign_is_invisible_to_another_workspace(database: Database, box: SecretBox) -> None:
    mine, theirs = await add_account(database, box), await add_account(database, box, "other")
    async with database.tenant(mine.workspace_id) as connection:
        assert await campaigns.get_campaign(connection, theirs.workspace_id, theirs.campaign_id) is None
        assert await campaigns.get_campaign(connection, mine.workspace_id, theirs.campaign_id) is None


async def test_campaigns_are_listed_newest_first_page_by_page(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    async with database.tenant(account.workspace_id) as connection:
        for n in range(4):
            await campaigns.create_campaign(connection, account.workspace_id, f"c{n}", None, [account.page])
        first = await campaigns.list_campaigns(connection, account.workspace_id, None, 3)
        second = await campaigns.list_campaigns(connection, account.workspace_id, first[-1].id, 3)

    assert [c.name for c in first] == ["c3", "c2", "c1"]
    assert [c.name for c in second] == ["c0", "Spring"]


async def test_only_a_campaign_without_content_adopts_that_of_a_send(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    async with database.tenant(account.workspace_id) as connection:
        bare = await campaigns.create_campaign(connection, account.workspace_id, "bare", None, [account.page])
        for text in ("first", "second"):
            await campaigns.adopt_content(connection, account.workspace_id, bare.id, Text(text))
        found = await campaigns.get_campaign(connection, account.workspace_id, CampaignId(bare.id))

    assert found is not None
    assert found.content == Text("first")
