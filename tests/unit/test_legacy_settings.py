"""Old variables are named with their successors, and none of them is one that works."""

import pytest

from pombo.legacy_settings import FAMILIES, SUCCESSORS, legacy_notices
from pombo.settings import Settings

# Row A15: read as they are.
STILL_WORKING = {
    "WORKER_CONCURRENCY", "MAX_SOCKETS", "LOG_BATCH_SIZE", "LOG_BATCH_INTERVAL_MS", "LOG_RETENTION_DAYS",
    "RATE_LIMIT_MAX_JOBS_PER_SECOND", "RATE_LIMIT_PER_PAGE", "CIRCUIT_BREAKER_ENABLED", "CIRCUIT_BREAKER_THRESHOLD",
    "CIRCUIT_BREAKER_TIMEOUT_MS", "DATABASE_URL", "DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME", "PORT",
    "WORKER_SECRET",
}  # fmt: skip


def test_an_environment_without_old_variables_gives_no_notice() -> None:
    assert legacy_notices({"PATH": "/bin", "MAX_SOCKETS": "500", "DATABASE_URL": "postgresql://localhost/pombo"}) == []


@pytest.mark.parametrize(
    ("name", "notice"),
    [
        ("REDIS_URL", "REDIS_URL is ignored: Pombo needs no Redis."),
        ("REDIS_MAX_RETRIES", "REDIS_MAX_RETRIES is ignored: Pombo needs no Redis."),
        (
            "FB_VERIFY_TOKEN",
            "FB_VERIFY_TOKEN is not read: give it to `pombo channel add messenger --verify-token`.",
        ),
        (
            "WHATSAPP_ACCESS_TOKEN",
            "WHATSAPP_ACCESS_TOKEN is not read: give it to `pombo channel add whatsapp --token`.",
        ),
    ],
)
def test_an_old_variable_is_named_with_its_successor(name: str, notice: str) -> None:
    assert legacy_notices({name: "anything"}) == [notice]


def test_the_phone_number_id_is_read_from_the_old_api_address() -> None:
    (notice,) = legacy_notices({"WHATSAPP_API_URL": "https://graph.facebook.com/v17.0/106540352242922/messages"})
    assert "`pombo channel add whatsapp --external-id 106540352242922`" in notice
    assert "v17.0" not in notice


def test_an_old_api_address_without_a_number_still_gets_its_notice() -> None:
    (notice,) = legacy_notices({"WHATSAPP_API_URL": "https://graph.facebook.com"})
    assert "--external-id ID`" in notice


def test_notices_come_by_name_one_for_each_variable() -> None:
    notices = legacy_notices({"SUPABASE_URL": "x", "LOG_SCHEMA": "message_logs", "FB_SOMETHING_ELSE": "x"})
    assert [notice.split()[0] for notice in notices] == ["FB_SOMETHING_ELSE", "LOG_SCHEMA", "SUPABASE_URL"]


def test_an_empty_value_is_none_and_case_does_not_matter() -> None:
    assert legacy_notices({"REDIS_URL": ""}) == []
    assert legacy_notices({"redis_url": "x"}) == ["REDIS_URL is ignored: Pombo needs no Redis."]


def test_no_value_is_ever_repeated_but_the_public_number() -> None:
    values = {name: f"value-of-{number}" for number, name in enumerate([*SUCCESSORS, *(f"{f}X" for f in FAMILIES)])}
    notices = legacy_notices(values)
    assert len(notices) == len(values)
    assert not any("value-of-" in notice for notice in notices)


def test_the_variables_said_to_work_are_settings_and_the_others_are_not() -> None:
    settings = {name.upper() for name in Settings.model_fields}
    assert settings >= STILL_WORKING
    assert [name for name in settings if legacy_notices({name: "x"})] == []
