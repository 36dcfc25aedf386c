"""Addresses at which files can be fetched: WhatsApp's last five minutes and want the token, Messenger's are open."""

from urllib.parse import quote

from pombo.sandbox.accounts import Channel
from pombo.sandbox.clock import Clock
from pombo.sandbox.media import URL_LIFE, Media

WHATSAPP_PATH = "whatsapp_business/attachments"


class MediaUrls:
    def __init__(self, clock: Clock, base_url: str) -> None:
        self._clock = clock
        self.base_url = base_url

    def of(self, channel: Channel, media: Media) -> str:
        if channel.kind == "whatsapp":
            expiry = int(self._clock.now() + URL_LIFE)
            return f"{self.base_url}/{WHATSAPP_PATH}/?mid={media.id}&ext={expiry}&hash={media.sha256.hex()[:32]}"
        return f"{self.base_url}/attachments/{media.id}/{quote(media.filename)}"

    def is_over(self, expiry: str) -> bool:
        return not expiry.isdecimal() or int(expiry) < self._clock.now()

    def picture(self, person_id: str) -> str:
        return f"{self.base_url}/pictures/{quote(person_id)}.png"
