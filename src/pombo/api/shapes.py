"""Types that requests and answers are made of: camelCase JSON, ids that fit the database, texts that can be stored."""

from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from pombo.api.gate import Caller
from pombo.api.services import Services
from pombo.campaigns.reading import storable
from pombo.domain.ids import WorkspaceId


class Shape(BaseModel):
    """Unknown fields are refused: a misspelt one would otherwise be lost unseen."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


def _storable(text: str) -> str:
    if not storable(text):
        raise ValueError("holds a NUL character; remove it")
    return text


Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
"""A number, or a string of digits (the old programs' way)."""
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_storable)]

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


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Asking = Annotated[Caller | None, Depends(_caller)]
Workspace = Annotated[WorkspaceId, Depends(_workspace)]
Given = Annotated[Services, Depends(_services)]
