"""The work, as the parent describes it: which messages there are, and the request that each of them is."""

import json
import os
from typing import Any

WORK: dict[str, Any] = json.loads(os.environ["BENCH_WORK"])

HEADERS = {
    "Authorization": f"Bearer {WORK['token']}",
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
}


def job(n: int) -> bytes:
    """The n-th message as a job's payload. Messages go round the channels in turn."""
    return json.dumps(
        {
            "id": n,
            "channel": WORK["channels"][n % len(WORK["channels"])],
            "recipient": f"+{WORK['firstRecipient'] + n}",
            "text": WORK["text"],
        }
    ).encode()


def target(job: dict[str, Any]) -> str:
    return f"{WORK['url']}/{WORK['version']}/{job['channel']}/messages"


def body(job: dict[str, Any]) -> bytes:
    return json.dumps(
        {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "biz_opaque_callback_data": f"rival.{job['id']}",
            "type": "text",
            "text": {"preview_url": False, "body": job["text"]},
            "to": job["recipient"],
        },
        separators=(",", ":"),
    ).encode()
