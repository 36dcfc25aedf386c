from pombo.store import contacts
from pombo.store.contacts import NewContact
from pombo.store.database import Database
from pombo.store.secrets import SecretBox
from tests.accounts import add_account


async def test_saving_a_contact_again_adds_to_its_attributes(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    async with database.tenant(account.workspace_id) as connection:
        for attributes in ({"first_name": "Ana", "city": "Faro"}, {"city": "Porto"}):
            saved = await contacts.save_contacts(
                connection, account.workspace_id, [NewContact(account.page, "7", attributes)]
            )
            assert saved == 1
        rows = await connection.fetch("SELECT attributes FROM contacts")

    assert [row["attributes"] for row in rows] == ['{"city": "Porto", "first_name": "Ana"}']


async def test_another_address_of_somebody_known_makes_no_second_contact(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    async with database.tenant(account.workspace_id) as connection:
        await contacts.save_contacts(connection, account.workspace_id, [NewContact(account.number, "+351912345678")])
        await connection.execute(
            """INSERT INTO identities (workspace_id, channel_id, identity, contact_id)
               SELECT workspace_id, channel_id, identity, id FROM contacts,
                      unnest(ARRAY['+351912345678', 'PT.1']) AS identity"""
        )
        people = [NewContact(account.number, "PT.1", {"city": "Faro"}), NewContact(account.number, "PT.2")]
        assert await contacts.save_contacts(connection, account.workspace_id, people) == 2
        rows = await connection.fetch("SELECT external_id, attributes FROM contacts ORDER BY id")

    assert [tuple(row) for row in rows] == [("+351912345678", '{"city": "Faro"}'), ("PT.2", "{}")]


async def test_contacts_are_counted_by_channel_within_the_workspace(database: Database, box: SecretBox) -> None:
    mine, theirs = await add_account(database, box), await add_account(database, box, "other")
    for account in (mine, theirs):
        async with database.tenant(account.workspace_id) as connection:
            people = [NewContact(account.page, "1"), NewContact(account.page, "2"), NewContact(account.number, "3")]
            await contacts.save_contacts(connection, account.workspace_id, people)
    async with database.tenant(mine.workspace_id) as connection:
        count = contacts.count_contacts
        assert await count(connection, mine.workspace_id, [mine.page]) == 2
        assert await count(connection, mine.workspace_id, [mine.page, mine.number]) == 3
        assert await count(connection, mine.workspace_id, [theirs.page]) == 0
