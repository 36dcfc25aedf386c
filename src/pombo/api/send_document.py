"""How `POST /api/campaigns/send` looks in the OpenAPI document: its body streams, so the framework never sees it."""

from typing import Any, Literal

from pydantic import Field

from pombo.api.contents import WithContent
from pombo.api.runs import Reject
from pombo.api.shapes import Id, RequestShape, Shape


class SendAnswer(Shape):
    run_id: int
    campaign_id: int
    status: Literal["pending"]
    accepted: int = Field(description="Recipients that will be sent to; duplicates among them are counted in the run.")
    rejected: int
    rejects: list[Reject] = Field(description="The first 100; all of them at /api/runs/{runId}/rejects.")
    notice: str | None = Field(
        default=None, description="Says so when nothing was sent because it had been sent before."
    )


class RecipientShape(RequestShape):
    recipient: str = Field(examples=["+919876543210"])
    variables: dict[str, Any] = Field(default={}, examples=[{"first_name": "Ana"}])
    channel_id: Id | None = Field(default=None, description="Needed when the campaign sends from several channels.")


class SendBody(WithContent):
    campaign_id: Id
    recipients: list[str | RecipientShape] = Field(
        default=[],
        description="Phone numbers or page-scoped ids; a million of them are fine.",
        examples=[["+919876543210"]],
    )
    audience: Literal["contacts"] | None = Field(
        default=None, description="All contacts of the campaign's channels instead."
    )


_REFERENCE = "#/components/schemas/{model}"
_CSV = "recipient,first_name\n+919876543210,Ana\n"

SEND_DOCUMENT: dict[str, Any] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            "description": "The same key gives the same answer for 24 hours. Default: the campaign and its body.",
        },
        {
            "name": "campaignId",
            "in": "query",
            "schema": {"type": "integer"},
            "description": "With a CSV body; a JSON body names it itself.",
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": _REFERENCE.format(model=SendBody.__name__)}},
            "text/csv": {
                "schema": {"type": "string"},
                "example": _CSV,
            },
        },
    },
}


def add_send_body(document: dict[str, Any]) -> None:
    """Adds the shapes of the body to the document's, where SEND_DOCUMENT refers to them."""
    body = SendBody.model_json_schema(ref_template=_REFERENCE)
    schemas = document["components"]["schemas"]
    for name, schema in body.pop("$defs", {}).items():
        schemas.setdefault(name, schema)
    schemas[SendBody.__name__] = body
