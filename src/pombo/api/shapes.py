"""Types that requests and answers are made of: camelCase JSON, ids that fit the database, texts that can be stored."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from pombo.api.gate import Caller
from pombo.api.services import Services
from pombo.campaigns.reading import storable
from pombo.domain.ids import AgentId, WorkspaceId


class Shape(BaseModel):
    """An answer, or a part of one: made by its fields' Python names, shown by the JSON ones."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid")


class RequestShape(Shape):
    """Read by its JSON names alone. Unknown ones are refused: a misspelt field would otherwise be lost unseen."""

    model_config = ConfigDict(validate_by_name=False)


def storable_text(text: str) -> str:
    """A validator of texts that go into the database."""
    if not storable(text):
        raise ValueError("holds a NUL character; remove it")
    return text


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("lies outside the calendar") from error


_DIGITS = re.compile("[0-9]+")


def _whole(value: object) -> object:
    # Left alone, `true` and 1.0 would name whatever has the id 1.
    if isinstance(value, bool | float) or (isinstance(value, str) and not _DIGITS.fullmatch(value)):
        raise ValueError("must be a whole number, or a string of digits")
    return value


Id = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=2**63 - 1)]
"""A number, or a string of digits (the old programs' way)."""
LongText = Annotated[str, StringConstraints(min_length=1, max_length=10_000), AfterValidator(storable_text)]
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(storable_text)
]
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]

# Verified by the gate before any route runs; here only so that the OpenAPI document tells of it.
_bearer = HTTPBearer(auto_error=False, scheme_name="API key", description="`pombo key create --name NAME` makes one.")


async def _caller(request: Request, documented: Annotated[Any, Security(_bearer)]) -> Caller | None:
    caller: Caller | None = request.state.caller
    return caller


async def _workspace(caller: Annotated[Caller | None, Depends(_caller)]) -> WorkspaceId:
    # The gate lets nobody without a workspace through to a route that asks for one.
    assert caller is not None
    assert caller.workspace_id is not None
    return caller.workspace_id


async def _agent(caller: Annotated[Caller | None, Depends(_caller)]) -> AgentId | None:
    return None if caller is None else caller.agent_id


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Asking = Annotated[Caller | None, Depends(_caller)]
Workspace = Annotated[WorkspaceId, Depends(_workspace)]
ActingAgent = Annotated[AgentId | None, Depends(_agent)]
"""None when the key is a program's."""
Given = Annotated[Services, Depends(_services)]
