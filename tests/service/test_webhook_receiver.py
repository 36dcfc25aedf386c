import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import date, timedelta
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from pombo.api.webhooks import WebhookReceiver
from pombo.meta.signature import sign, verify
from pombo.store import accounts
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.delivery_log import SECRET, House

BODY = b'{"object":"page","entry":[]}'


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.borrow() as borrowed:
        yield borrowed


@pytest.fixture
async def house(connection: Connection, box: SecretBox) -> House:
    return await House.build(connection, box)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def receiver(database: Database, box: SecretBox, house: House, clock: Clock) -> AsyncIterator[WebhookReceiver]:
    made = WebhookReceiver(database, box, clock)
    yield made
    await made.close()


@pytest.fixture
async def client(receiver: WebhookReceiver) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(receiver), base_url="http://pombo") as made:
        yield made


async def post(client: httpx.AsyncClient, body: bytes = BODY, secret: str = SECRET) -> httpx.Response:
    return await client.post("/webhook", content=body, headers={"x-hub-signature-256": sign(secret.encode(), body)})


async def logged(connection: Connection) -> list[tuple[int, int, bytes]]:
    rows = await connection.fetch(
        """SELECT workspace_id, app_id, body FROM webhook_log JOIN webhook_queue USING (workspace_id, id, day)
           ORDER BY id"""
    )
    return [tuple(row) for row in rows]


def handshake(token: str, challenge: str = "1158201444", mode: str = "subscribe") -> dict[str, Any]:
    return {"hub.mode": mode, "hub.challenge": challenge, "hub.verify_token": token}


async def test_a_signed_webhook_is_stored_as_its_bytes_came_before_it_is_answered(
    client: httpx.AsyncClient, connection: Connection, house: House
) -> None:
    body = b'{"text":"\\u00e4\\/",  "not": json \xff\x00'

    answer = await post(client, body)

    assert (answer.status_code, answer.content) == (200, b"")
    assert await logged(connection) == [(house.workspace_id, house.app_id, body)]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "signature_missing"),
        ({"x-hub-signature-256": sign(b"another secret", BODY)}, 403, "signature_wrong"),
        ({"x-hub-signature-256": sign(SECRET.encode(), BODY + b" ")}, 403, "signature_wrong"),
        ({"x-hub-signature-256": "sha256="}, 403, "signature_wrong"),
    ],
)
async def test_what_no_secret_signed_is_refused_and_leaves_no_trace(
    client: httpx.AsyncClient,
    receiver: WebhookReceiver,
    connection: Connection,
    clock: Clock,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    await post(client)  # The keys are known from here.
    clock.now += 2

    answer = await client.post("/webhook", content=BODY, headers=headers)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["details"]) == (status, code, None)
    assert len(await logged(connection)) == 1
    assert receiver.counts.refused == 1


async def test_webhooks_that_wait_together_are_stored_in_one_batch(
    client: httpx.AsyncClient, receiver: WebhookReceiver, connection: Connection
) -> None:
    await post(client)

    answers = await asyncio.gather(*(post(client, b"%d" % n) for n in range(50)))

    assert {answer.status_code for answer in answers} == {200}
    assert len(await logged(connection)) == 51
    assert receiver.counts.stored == 51
    # The first of the fifty went alone or with a few; the others waited for its commit.
    assert receiver.counts.batches <= 6


async def test_an_app_registered_in_two_workspaces_brings_its_webhooks_to_both(
    client: httpx.AsyncClient, connection: Connection, house: House, box: SecretBox
) -> None:
    sister = await House.build(connection, box, "sister")

    assert (await post(client)).status_code == 200

    assert sorted(await logged(connection)) == sorted(
        [(house.workspace_id, house.app_id, BODY), (sister.workspace_id, sister.app_id, BODY)]
    )


async def test_a_webhook_is_logged_for_the_app_whose_secret_signed_it(
    client: httpx.AsyncClient, connection: Connection, house: House, box: SecretBox
) -> None:
    other = await House.build(connection, box, "other", "the other's secret")

    for secret in (SECRET, "the other's secret", "the other's secret", SECRET):
        assert (await post(client, secret=secret)).status_code == 200

    apps = [app_id for _, app_id, _ in await logged(connection)]
    assert apps == [house.app_id, other.app_id, other.app_id, house.app_id]


async def test_of_many_apps_the_one_that_signed_for_this_page_before_is_tried_first(
    client: httpx.AsyncClient, connection: Connection, box: SecretBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    for n in range(5):
        await House.build(connection, box, f"house {n}", f"secret {n}")
    bodies = [f'{{"object":"page","entry":[{{"time":{n},"id":"{n}7"}}]}}'.encode() for n in range(5)]
    for n, body in enumerate(bodies):
        assert (await post(client, body, f"secret {n}")).status_code == 200

    def counted(secrets: Sequence[bytes], header: str | None, body: bytes) -> int | None:
        tried.append(len(secrets))
        return verify(secrets, header, body)

    monkeypatch.setattr("pombo.meta.signature.verify", counted)
    for n, body in enumerate(bodies):
        assert (await post(client, body, f"secret {n}")).status_code == 200
    assert tried == [1] * 5


async def test_both_secrets_are_good_while_one_is_being_replaced(
    client: httpx.AsyncClient, connection: Connection, house: House, box: SecretBox
) -> None:
    await connection.execute(
        "UPDATE meta_apps SET previous_app_secret = app_secret, app_secret = $1",
        box.seal(house.workspace_id, "the new one"),
    )

    assert (await post(client)).status_code == 200
    assert (await post(client, secret="the new one")).status_code == 200


async def test_an_app_added_after_the_keys_were_read_works_at_once(
    client: httpx.AsyncClient, connection: Connection, box: SecretBox, clock: Clock
) -> None:
    await post(client)
    clock.now += 1
    await House.build(connection, box, "new", "a new secret")

    assert (await post(client, secret="a new secret")).status_code == 200
    assert (await client.get("/webhook", params=handshake("verify new"))).status_code == 200


async def test_a_secret_that_was_taken_away_is_refused_after_a_few_seconds(
    client: httpx.AsyncClient, connection: Connection, house: House, box: SecretBox, clock: Clock
) -> None:
    assert (await post(client)).status_code == 200
    await connection.execute("UPDATE meta_apps SET app_secret = $1", box.seal(house.workspace_id, "the new one"))
    clock.now += 11

    assert (await post(client)).status_code == 403


async def test_forgeries_in_a_flood_cost_a_look_at_the_database_together(
    client: httpx.AsyncClient, connection: Connection, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post(client)
    clock.now += 1
    looks = 0

    async def counted(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return await list_apps(*arguments)

    list_apps = accounts.list_apps
    monkeypatch.setattr(accounts, "list_apps", counted)
    answers = await asyncio.gather(*(post(client, secret="forged") for _ in range(200)))

    assert {answer.status_code for answer in answers} == {403}
    assert looks == 1


async def test_the_handshake_returns_the_challenge_for_any_apps_verify_token(
    client: httpx.AsyncClient, connection: Connection, box: SecretBox
) -> None:
    await House.build(connection, box, "other", "the other's secret")

    for token in ("verify acme", "verify other"):
        answer = await client.get("/api/webhooks/whatsapp/status", params=handshake(token))
        assert (answer.status_code, answer.text) == (200, "1158201444")
        assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "parameters", [handshake("wrong"), handshake(""), {}, handshake("verify acme", mode="unsubscribe")]
)
async def test_a_handshake_with_another_token_or_mode_is_refused(
    client: httpx.AsyncClient, parameters: dict[str, str]
) -> None:
    answer = await client.get("/webhook", params=parameters)

    assert answer.status_code == 403
    assert "1158201444" not in answer.text


async def test_a_body_above_the_limit_is_refused_and_one_of_metas_largest_is_not(
    client: httpx.AsyncClient, receiver: WebhookReceiver, connection: Connection
) -> None:
    largest = b"x" * (3 * 1024 * 1024)
    assert (await post(client, largest)).status_code == 200

    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * (1024 * 1024)

    signed = {"x-hub-signature-256": "sha256=00"}
    told = await client.post("/webhook", content=b"x" * (5 * 1024 * 1024), headers=signed)
    untold = await client.post("/webhook", content=in_pieces(), headers=signed)

    assert (told.status_code, untold.status_code) == (413, 413)
    assert told.json()["error"]["code"] == "body_too_large"
    assert receiver.counts.too_large == 2
    assert len(await logged(connection)) == 1


async def test_other_methods_are_not_allowed(client: httpx.AsyncClient) -> None:
    assert (await client.delete("/webhook")).status_code == 405


async def test_without_the_database_meta_is_asked_to_send_again(
    client: httpx.AsyncClient, receiver: WebhookReceiver, database: Database, connection: Connection, clock: Clock
) -> None:
    await post(client)
    await database.worker.expire_connections()
    database.worker.terminate()

    refused = await post(client)
    clock.now += 60
    also = await client.get("/webhook", params=handshake("verify acme"))

    assert (refused.status_code, also.status_code) == (503, 503)
    for answer in (refused, also):
        error = answer.json()["error"]
        assert (error["code"], error["details"]) == ("database_unavailable", None)
        assert answer.headers["retry-after"] == "2"
    assert receiver.counts.unavailable == 2


async def test_a_database_that_is_away_costs_one_line_a_second_however_many_webhooks_come(
    client: httpx.AsyncClient, database: Database, connection: Connection, clock: Clock
) -> None:
    await post(client)
    await database.worker.expire_connections()
    database.worker.terminate()

    with capture_logs() as lines:
        for _ in range(5):
            await post(client)
        clock.now += 1
        await post(client)
        clock.now += 60  # The keys are too old from here.
        for _ in range(5):
            await post(client)
        clock.now += 1
        await post(client)

    for line in lines:
        assert line.pop("reason").startswith("The database does not answer")
        assert not line.pop("exc_info", False)
    assert lines == [
        {"event": "webhooks_not_stored", "log_level": "warning", "webhooks": 1},
        {"event": "webhooks_not_stored", "log_level": "warning", "webhooks": 6},
        {"event": "webhook_keys_unavailable", "log_level": "warning", "failures": 1},
        {"event": "webhook_keys_unavailable", "log_level": "warning", "failures": 6},
    ]


async def test_a_day_without_a_partition_is_answered_503_and_the_next_batch_is_not_harmed(
    client: httpx.AsyncClient, connection: Connection, url: str
) -> None:
    name = await connection.fetchval("SELECT 'webhook_log_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    await connection.execute("SET ROLE NONE")
    await connection.execute(f"ALTER TABLE webhook_log DETACH PARTITION {name}")
    with capture_logs() as lines:
        assert [(await post(client)).status_code for _ in range(3)] == [503] * 3
    assert [(line["event"], line["log_level"], line["webhooks"]) for line in lines] == [
        ("webhook_storing_failed", "error", 1)
    ]

    day = date.fromisoformat(name[-8:])
    await connection.execute(
        f"ALTER TABLE webhook_log ATTACH PARTITION {name} FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
    )
    assert (await post(client)).status_code == 200


async def test_closing_waits_until_what_was_taken_in_is_stored(
    client: httpx.AsyncClient, receiver: WebhookReceiver, connection: Connection
) -> None:
    await post(client)
    waiting = [asyncio.create_task(post(client, b"%d" % n)) for n in range(10)]
    while not receiver._intake._writer:
        await asyncio.sleep(0)

    await receiver.close()
    late = await post(client)

    taken = [answer.status_code for answer in await asyncio.gather(*waiting)]
    assert taken.count(200) == len(await logged(connection)) - 1
    assert set(taken) <= {200, 503}
    assert late.status_code == 503


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_forgotten(
    receiver: WebhookReceiver, connection: Connection
) -> None:
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "headers": [(b"x-hub-signature-256", b"sha256=00")]}
    await receiver(scope, receive, send)

    assert sent == []
    assert await logged(connection) == []
