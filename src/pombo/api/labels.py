"""Labels of conversations, with their colours."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field, StringConstraints
from starlette.responses import Response

from pombo.api.errors import ApiError
from pombo.api.inbox_shapes import raw, raw_list
from pombo.api.shapes import Given, Id, Name, RequestShape, Shape, Workspace
from pombo.store import labels

LabelId = Annotated[Id, Path(alias="labelId")]
router = APIRouter(prefix="/api/labels", tags=["inbox"])

Colour = Annotated[str, StringConstraints(pattern="^#[0-9a-fA-F]{6}$", to_lower=True), Field(examples=["#2f9e44"])]


class LabelShape(Shape):
    id: int
    version: int
    name: str
    colour: str
    created_at: datetime


class LabelList(Shape):
    labels: list[LabelShape]


class NewLabel(RequestShape):
    name: Name
    colour: Colour


class LabelChange(RequestShape):
    name: Name | None = None
    colour: Colour | None = None


@router.get("", response_model=LabelList)
async def list_labels(workspace: Workspace, given: Given) -> Response:
    async with given.database.tenant(workspace) as connection:
        return raw_list("labels", await labels.list_labels(connection, workspace))


@router.post("", status_code=201, response_model=LabelShape)
async def add_label(label: NewLabel, workspace: Workspace, given: Given) -> Response:
    async with given.database.tenant(workspace) as connection:
        return raw(await labels.add_label(connection, workspace, label.name, label.colour), 201)


@router.patch("/{labelId}", response_model=LabelShape)
async def change_label(label_id: LabelId, change: LabelChange, workspace: Workspace, given: Given) -> Response:
    async with given.database.tenant(workspace) as connection:
        changed = await labels.change_label(connection, workspace, label_id, change.name, change.colour)
    if changed is None:
        raise _not_found(label_id)
    return raw(changed)


@router.delete("/{labelId}", status_code=204)
async def delete_label(label_id: LabelId, workspace: Workspace, given: Given) -> None:
    """It is gone at once; conversations lose it within a minute or so."""
    async with given.database.tenant(workspace) as connection:
        if not await labels.delete_label(connection, workspace, label_id):
            raise _not_found(label_id)


def _not_found(label_id: int) -> ApiError:
    return ApiError("label_not_found", f"There is no label {label_id}; GET /api/labels lists them.")
