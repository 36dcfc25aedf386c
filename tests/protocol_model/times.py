"""How long things take at most, in seconds; the promise rests on what grace is longer than."""

from datetime import UTC, date, datetime

LEASE_S = 8.0
# A worker's own reckoning of its lease ends this part of it earlier (`pombo.sending.identity`).
MARGIN = 1 / 8
# The server's time-out for an intent, and when a worker looks again for one whose answer was lost.
STATEMENT_S = 8.0
UNSURE_S = 10.0
# What the network still delivers of a request, even if its process is dead.
NETWORK_S = 30.0
# For an answer; then the attempt is uncertain.
ANSWER_S = 30.0
# Meta's echo of what it accepted, if all is well.
ECHO_S = 30.0
GRACE_S = 120.0
BREAKER_S = 20.0
# Messages/s of a channel, and by how much a worker's own clock is off at most.
RATE = 40.0
DRIFT = 0.01
ATTEMPTS = 3


def moment(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)


def day(now: float) -> date:
    return datetime.fromtimestamp(now, UTC).date()
