"""Rate limits, with the sandbox's clock stopped and moved by hand."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from pombo.sandbox.limits import Brake, PairLimit, TokenBucket
from tests.sandbox_server import ChannelHandle, SandboxHandle, text_body

PSID = "7012345678901234"
PERSON = "5511999990001"


def test_a_bucket_gives_one_second_s_worth_at_once_and_refills_at_its_rate() -> None:
    bucket = TokenBucket(80)
    assert sum(bucket.take(1000.0) for _ in range(200)) == 80
    assert sum(bucket.take(1000.5) for _ in range(200)) == 40
    assert sum(bucket.take(2000.0) for _ in range(200)) == 80


def test_the_brake_is_never_felt_at_its_rate() -> None:
    brake = Brake(40)
    assert all(brake.take(1000 + number / 40) for number in range(40 * 60))


def test_the_brake_goes_on_at_twice_the_rate_after_five_seconds() -> None:
    brake = Brake(40)
    passed = [brake.take(1000 + number / 80) for number in range(80 * 6)]
    assert all(passed[: 80 * 4])
    assert not any(passed[80 * 5 + 1 :])


def test_the_brake_stays_on_while_attempts_go_on_and_comes_off_when_volume_drops() -> None:
    brake = Brake(40)
    while brake.take(1000.0):
        pass
    assert not any(brake.take(1000 + number / 50) for number in range(50 * 60))
    assert brake.take(1000 + 60 + 2.6)


def test_a_pair_may_borrow_45_messages_and_then_gets_one_in_six_seconds() -> None:
    pairs = PairLimit()
    assert sum(pairs.take(PERSON, 1000.0) for _ in range(100)) == 45
    assert sum(pairs.take(PERSON, 1000.0 + 5.9) for _ in range(100)) == 0
    assert sum(pairs.take(PERSON, 1000.0 + 6.0) for _ in range(100)) == 1
    assert sum(pairs.take(PERSON, 1000.0 + 36.0) for _ in range(100)) == 5
    assert pairs.take("5511999990002", 1000.0)


def test_the_pair_limit_forgets_whoever_has_paid() -> None:
    pairs = PairLimit()
    for number in range(10_000):
        assert pairs.take(str(number), 1000.0)
    assert len(pairs) == 10_000
    assert pairs.take("new", 1007.0)
    assert len(pairs) == 1
    assert sum(pairs.take("0", 1007.0) for _ in range(100)) == 45


def as_text(value: Any) -> str:
    """As a form field holds it: objects as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def outcomes(answers: list[Any]) -> list[Any]:
    return [answer.json()["error"]["code"] if answer.is_error else answer.status_code for answer in answers]


async def test_messenger_takes_300_calls_a_second(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.freeze_clock()
    await sandbox.configure(page, calls_per_second=3, brake_per_second=None)
    assert outcomes([await sandbox.send_text(page, PSID) for _ in range(4)]) == [200, 200, 200, 613]
    await sandbox.advance_clock(0.5)
    assert outcomes([await sandbox.send_text(page, PSID) for _ in range(2)]) == [200, 613]
    assert (await sandbox.call("GET", "channels"))["channels"][0]["settings"]["calls_per_second"] == 3
    fresh = await sandbox.add_page(page.app)
    settings = {channel["id"]: channel["settings"] for channel in (await sandbox.call("GET", "channels"))["channels"]}
    assert (settings[fresh.id]["calls_per_second"], settings[fresh.id]["brake_per_second"]) == (300, 40)


async def test_a_call_with_audio_or_video_has_the_lower_limit(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.freeze_clock()
    await sandbox.configure(page, media_calls_per_second=1)
    video = {"type": "video", "payload": {"url": "https://example.com/a.mp4"}}
    heavy = {"recipient": {"id": PSID}, "message": {"attachment": video}}
    assert outcomes([await sandbox.post(page, heavy) for _ in range(2)]) == [200, 613]
    assert outcomes([await sandbox.send_text(page, PSID)]) == [200]


async def test_a_braked_page_cannot_send_until_its_volume_drops(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.freeze_clock()
    await sandbox.configure(page, brake_per_second=1)
    assert outcomes([await sandbox.send_text(page, PSID) for _ in range(7)]) == [200] * 5 + [80006] * 2
    await sandbox.advance_clock(4)
    assert outcomes([await sandbox.send_text(page, PSID)]) == [200]


async def test_a_number_s_throughput_is_130429_and_its_pair_limit_131056(
    sandbox: SandboxHandle, phone: ChannelHandle
) -> None:
    await sandbox.freeze_clock()
    await sandbox.configure(phone, messages_per_second=2)
    assert outcomes([await sandbox.send_text(phone, PERSON) for _ in range(3)]) == [200, 200, 130429]
    await sandbox.configure(phone, messages_per_second=None)
    assert outcomes([await sandbox.send_text(phone, PERSON) for _ in range(46)]) == [200] * 45 + [131056]
    assert outcomes([await sandbox.send_text(phone, "5511999990002")]) == [200]
    await sandbox.advance_clock(6)
    assert outcomes([await sandbox.send_text(phone, PERSON) for _ in range(2)]) == [200, 131056]


async def test_every_limit_can_be_switched_off(
    sandbox: SandboxHandle, page: ChannelHandle, phone: ChannelHandle
) -> None:
    await sandbox.freeze_clock()
    await sandbox.configure(calls_per_second=None, brake_per_second=None, messages_per_second=None, pair_limit=False)
    for channel, recipient, count in ((page, PSID, 350), (phone, PERSON, 100)):
        form = urlencode({name: as_text(value) for name, value in text_body(channel, recipient).items()})
        item = {"method": "POST", "relative_url": f"{channel.id}/messages", "body": form}
        for _ in range(count // 50):
            await sandbox.http.post("/", json={"access_token": channel.token, "batch": [item] * 50})
    assert (await sandbox.ledger())["accepted"] == 450


async def test_a_refusal_tells_the_channel_s_usage(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.freeze_clock()
    usage = {"call_count": 100, "total_time": 25, "total_cputime": 25}
    await sandbox.configure(page, calls_per_second=1, app_usage=usage, business_usage=usage | {"regain_minutes": 7})
    for expected in (200, 613):
        answer = await sandbox.send_text(page, PSID)
        assert outcomes([answer]) == [expected]
        assert answer.headers["x-app-usage"] == '{"call_count":100,"total_time":25,"total_cputime":25}'
        assert answer.headers["x-business-use-case-usage"] == (
            f'{{"{page.id}":[{{"type":"messenger","call_count":100,"total_cputime":25,"total_time":25,'
            '"estimated_time_to_regain_access":7}]}'
        )


async def test_usage_headers_are_off_by_default(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    headers = (await sandbox.send_text(page, PSID)).headers
    assert not any(name.startswith("x-") for name in headers)


@pytest.mark.parametrize("wrong", [{"calls_per_second": 0}, {"latency": 5}, {"pair_limit": "yes"}])
async def test_settings_that_make_no_sense_change_nothing(
    sandbox: SandboxHandle, page: ChannelHandle, wrong: dict[str, Any]
) -> None:
    answer = await sandbox.http.patch(f"/sandbox/channels/{page.id}", json=wrong)
    assert answer.status_code == 400
    assert "settings" in answer.json()["error"]["message"]
    assert (await sandbox.send_text(page, PSID)).status_code == 200
