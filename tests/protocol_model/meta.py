"""Meta and the network: requests on their way, the ledger of what was accepted, echoes on their way back."""

from collections import defaultdict
from dataclasses import dataclass
from enum import Enum, auto
from itertools import count


class Verdict(Enum):
    """What becomes of a request, as its worker hears it."""

    ACCEPTED = auto()
    REFUSED = auto()
    """For good, and that proves that it was not accepted."""
    NOT_NOW = auto()
    """Refused with proof, worth another attempt."""
    ERROR = auto()
    """Accepted, and yet answered with an error that proves nothing."""
    NO_ANSWER = auto()
    """The connection broke, or the answer's time was over."""
    NEVER_WRITTEN = auto()


ACCEPTING = (Verdict.ACCEPTED, Verdict.ERROR)


@dataclass(slots=True, eq=False)
class Request:
    """Bytes that left a worker. They arrive, or not, whatever becomes of the worker."""

    message: int
    key: str
    left_at: float
    verdict: Verdict | None = None
    provider_id: str = ""


@dataclass(slots=True, eq=False)
class Echo:
    """A webhook that carries the send key of an accepted message."""

    message: int
    key: str
    provider_id: str
    left_at: float
    due_by: float


class Meta:
    def __init__(self) -> None:
        self.on_the_way: list[Request] = []
        self.accepted: defaultdict[int, list[str]] = defaultdict(list)
        """The ledger: message → provider ids."""
        self.echoes: list[Echo] = []
        self._ids = count(1)

    def send(self, message: int, key: str, now: float) -> Request:
        request = Request(message, key, now)
        self.on_the_way.append(request)
        return request

    def decide(self, request: Request, verdict: Verdict, at: float, echo_s: float) -> None:
        """It arrives, or with NO_ANSWER is lost on the way."""
        self.on_the_way.remove(request)
        request.verdict = verdict
        if verdict in ACCEPTING:
            request.provider_id = f"m_{next(self._ids)}"
            self.accepted[request.message].append(request.provider_id)
            self.echoes.append(Echo(request.message, request.key, request.provider_id, request.left_at, at + echo_s))
