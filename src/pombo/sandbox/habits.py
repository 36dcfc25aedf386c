"""What people do by themselves with the messages they get: shares of 1, decided by the seed and never by timing."""

from typing import Annotated

import msgspec

from pombo.sandbox.acts import Act, MediaSpec
from pombo.sandbox.chance import Chance
from pombo.sandbox.errors import Kind
from pombo.sandbox.threads import Choice

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0)]

_REACTIONS = ("❤", "👍", "😆", "😮", "🙏")
_TEXTS = (
    "Thank you!",
    "Obrigado! 😊",
    "When will it arrive?",
    "Can I change the address?",
    "Quanto custa a entrega?",
    "Is it still available?",
    "Yes, please",
    "Who is this?",
)


class Habits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rates are of the messages that were delivered; `media_rate` and `edit_rate` of the replies.

    The reply follows the last sign of the message (read, or delivered) after `delay_ms` and up to `jitter_ms`.
    """

    reply_rate: Share = 0.0
    click_rate: Share = 0.0
    """Of those that have something to tap; whoever taps does not also reply."""
    reaction_rate: Share = 0.0
    media_rate: Share = 0.0
    edit_rate: Share = 0.0
    opt_out_rate: Share = 0.0
    delay_ms: Milliseconds = 1500.0
    jitter_ms: Milliseconds = 4000.0
    texts: tuple[str, ...] = _TEXTS

    def acts(
        self, kind: Kind, chance: Chance, about: str, message_id: str, choices: tuple[Choice, ...], *, marketing: bool
    ) -> list[Act]:
        """What one person does about one message."""
        opting_out, tapping, replying, reacting = chance.rolls(f"habit\x1f{about}")
        delay, which, media, edit = chance.rolls(f"answer\x1f{about}")
        after = self.delay_ms + delay * self.jitter_ms
        if opting_out < self.opt_out_rate:
            # Marketing templates bring their own button; everybody else writes a word.
            if kind == "whatsapp" and marketing:
                return [Act(type="opt_out", after_ms=after)]
            return [Act(type="text", text="STOP", after_ms=after)]
        found: list[Act] = []
        if reacting < self.reaction_rate:
            emoji = _REACTIONS[int(which * len(_REACTIONS))]
            found.append(Act(type="reaction", emoji=emoji, message_id=message_id, after_ms=after))
        if choices and tapping < self.click_rate:
            choice = choices[int(which * len(choices))]
            tap = Act(
                type="tap",
                tap=choice.kind,
                title=choice.title,
                payload=choice.payload,
                message_id=message_id,
                after_ms=after,
            )
            found.append(tap)
        elif replying < self.reply_rate and self.texts:
            text = self.texts[int(which * len(self.texts))]
            if media < self.media_rate:
                return [*found, Act(type="image", text=text, media=MediaSpec(), after_ms=after)]
            found.append(Act(type="text", text=text, after_ms=after))
            if edit < self.edit_rate:
                found.append(Act(type="edit", text=f"{text} (please)", after_ms=2000))
        return found
