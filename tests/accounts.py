"""A workspace with channels and a campaign, for tests that send nothing to Meta."""

from dataclasses import dataclass

from pombo.domain.channels import ChannelKind
from pombo.domain.content import Content, Text
from pombo.domain.ids import CampaignId, ChannelId, RunId, WorkspaceId
from pombo.store import accounts, audience, campaigns, channels, runs
from pombo.store.audience import RejectedLine, StagedLine
from pombo.store.database import Database
from pombo.store.secrets import SecretBox

HELLO = Text("Hello {{ first_name }}")


@dataclass(frozen=True, slots=True)
class Account:
    workspace_id: WorkspaceId
    page: ChannelId
    number: ChannelId
    campaign_id: CampaignId
    """Sends HELLO from the number."""


async def add_account(database: Database, box: SecretBox, name: str = "acme") -> Account:
    async with database.transaction() as connection:
        workspace_id = await accounts.ensure_workspace(connection, name)
        app = await accounts.ensure_app(connection, box, workspace_id, "app", f"the secret of {name}", None)
        made = [
            await channels.save_channel(
                connection,
                box,
                workspace_id=workspace_id,
                kind=kind,
                external_id=external_id,
                name=f"{name} {kind}",
                app_id=app.id,
                token="token",
                rate_per_second=40,
            )
            for kind, external_id in ((ChannelKind.MESSENGER, "1001"), (ChannelKind.WHATSAPP, "2001"))
        ]
        campaign = await campaigns.create_campaign(connection, workspace_id, "Spring", HELLO, [made[1]])
    return Account(workspace_id, made[0], made[1], campaign.id)


async def stage_run(
    database: Database,
    account: Account,
    recipients: list[tuple[ChannelId, str]],
    *,
    variables: str | None = None,
    rejects: list[RejectedLine] | None = None,
    content: Content = HELLO,
) -> RunId:
    """A pending run of the account's campaign with these (channel, recipient) lines."""
    lines = [StagedLine(n, channel, recipient, variables) for n, (channel, recipient) in enumerate(recipients, 1)]
    async with database.transaction() as connection:
        run_id = await audience.open_upload(connection, account.workspace_id)
        await audience.stage(connection, account.workspace_id, run_id, lines, rejects or [])
        await audience.close_upload(connection, account.workspace_id, run_id)
        made = await runs.start_run(
            connection,
            workspace_id=account.workspace_id,
            campaign_id=account.campaign_id,
            content=content,
            channel_ids=sorted({channel for channel, _ in recipients}) or [account.number],
            source=runs.Source.STAGED,
            audience_size=len(recipients),
            run_id=run_id,
            rejected=len(rejects or []),
        )
    assert made == run_id
    return run_id
