"""Media: what is uploaded to a number or a Page, what Meta tells of it, and its bytes."""

from typing import Any, NamedTuple
from urllib.parse import unquote

from pombo.sandbox.accounts import Channel
from pombo.sandbox.errors import MetaError, unknown_object
from pombo.sandbox.forms import Upload
from pombo.sandbox.media import UPLOAD_LIFE, made_up
from pombo.sandbox.people import name_of
from pombo.sandbox.reply import Reply, json_reply
from pombo.sandbox.world import World

# Bytes at most, by the beginning of the type (Cloud API, media, 2026).
_MEGABYTE = 1024 * 1024
_WHATSAPP_LIMITS = (
    ("image/webp", _MEGABYTE // 2),
    ("image/", 5 * _MEGABYTE),
    ("audio/", 16 * _MEGABYTE),
    ("video/", 16 * _MEGABYTE),
    ("", 100 * _MEGABYTE),
)
_MESSENGER_LIMIT = 25 * _MEGABYTE
_KINDS = ("image", "audio", "video", "file")


def upload_to_number(world: World, channel: Channel, fields: dict[str, Any], upload: Upload | None) -> Reply:
    """`POST /{phone}/media`, multipart with `messaging_product`, `file` and perhaps `type`."""
    if fields.get("messaging_product") != "whatsapp":
        raise MetaError("whatsapp", 100, message="(#100) The parameter messaging_product is required.")
    if upload is None:
        raise MetaError("whatsapp", 100, message="(#100) The parameter file is required.")
    mime_type = str(fields.get("type") or upload.content_type).partition(";")[0].strip()
    most = next(limit for beginning, limit in _WHATSAPP_LIMITS if mime_type.startswith(beginning))
    if not mime_type or mime_type == "application/octet-stream":
        details = "Param file must be a file with one of the supported types."
        raise MetaError("whatsapp", 100, message=f"(#100) {details}")
    if len(upload.content) > most:
        raise MetaError("whatsapp", 131053, details=f"The file has {len(upload.content)} bytes: at most {most}")
    media = world.media.add(channel.id, mime_type, upload.content, upload.filename, life=UPLOAD_LIFE)
    return json_reply({"id": media.id})


def upload_to_page(world: World, channel: Channel, fields: dict[str, Any], upload: Upload | None) -> Reply:
    """`POST /{page}/message_attachments`: a file in the request, or the address of one, which is not fetched."""
    message = fields.get("message")
    attachment = message.get("attachment") if isinstance(message, dict) else None
    if not isinstance(attachment, dict) or attachment.get("type") not in _KINDS:
        raise MetaError("messenger", 100, message="(#100) Param message[attachment][type] is missing or unknown.")
    payload = attachment.get("payload")
    url = payload.get("url") if isinstance(payload, dict) else None
    if upload is None:
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise MetaError("messenger", 100, 2018008, message="(#100) Failed to fetch the file from the url.")
        mime_type = f"{attachment['type']}/*" if attachment["type"] != "file" else "application/octet-stream"
        media = world.media.add(channel.id, mime_type, made_up(mime_type, 0, url), life=UPLOAD_LIFE)
        return json_reply({"attachment_id": media.id})
    if len(upload.content) > _MESSENGER_LIMIT:
        raise MetaError("messenger", 100, 2018109, message="(#100) The attachment is larger than 25 MB.")
    media = world.media.add(channel.id, upload.content_type, upload.content, upload.filename, life=UPLOAD_LIFE)
    return json_reply({"attachment_id": media.id})


def read_media(world: World, method: str, media_id: str, token: str) -> Reply | None:
    """`GET` or `DELETE /{media}`; None where there is none that this token may see."""
    media = world.media.find(media_id)
    channel = None if media is None else world.accounts.channels.get(media.owner)
    if media is None or channel is None or channel.token != token or channel.kind != "whatsapp":
        return None
    if method == "DELETE":
        world.media.remove(media_id)
        return json_reply({"success": True})
    return json_reply(
        {
            "messaging_product": "whatsapp",
            "url": world.urls.of(channel, media),
            "mime_type": media.mime_type,
            "sha256": media.sha256.hex(),
            "file_size": len(media.content),
            "id": media.id,
        }
    )


class Download(NamedTuple):
    node: str
    edge: str
    query: dict[str, str]
    token: str | None


def download(world: World, wanted: Download) -> Reply:
    """The bytes behind an address that a webhook or a profile gave. WhatsApp's want the channel's token."""
    if wanted.node == "pictures":
        person_id = unquote(wanted.edge).removesuffix(".png")
        return Reply(made_up("image/png", 0, person_id), content_type=b"image/png")
    is_whatsapp = wanted.node == "whatsapp_business"
    media = world.media.find(wanted.query.get("mid", "") if is_whatsapp else wanted.edge.partition("/")[0])
    channel = None if media is None else world.accounts.channels.get(media.owner)
    if media is None or channel is None or (channel.kind == "whatsapp") is not is_whatsapp:
        return _missing()
    if is_whatsapp and (channel.token != wanted.token or world.urls.is_over(wanted.query.get("ext", ""))):
        return _missing()
    return Reply(media.content, content_type=media.mime_type.encode("latin-1", "replace"))


def read_profile(world: World, channel: Channel, person_id: str, query: dict[str, str]) -> Reply:
    """`GET /{psid}`; who has none (a phone contact, or nobody) is 2018218."""
    person = channel.person(person_id)
    if person.standing == "unknown":
        raise MetaError("messenger", 100, 2018218)
    first, last = name_of(person_id, person)
    told = {
        "id": person_id,
        "name": f"{first} {last}".strip(),
        "first_name": first,
        "last_name": last,
        "profile_pic": world.urls.picture(person_id),
        "locale": "pt_BR",
        "timezone": -3,
    }
    wanted = query.get("fields", "first_name,last_name,profile_pic").split(",")
    return json_reply({name: told[name] for name in dict.fromkeys((*map(str.strip, wanted), "id")) if name in told})


def _missing() -> Reply:
    reply = unknown_object("media", "GET").reply()
    reply.status = 404
    return reply
