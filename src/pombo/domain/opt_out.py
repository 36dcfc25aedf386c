"""Words by which people say that they want no more, or want it again.

A message counts when it is nothing but such a word: "stop", "STOP.", "Stop!" do, "please don't stop" does not.
"""

import unicodedata

STOP_WORDS = (
    "stop, stop all, stopall, unsubscribe, opt out, optout, parar, sair, descadastrar, cancelar inscrição, baja, "
    "darse de baja, cancelar suscripción, arrêter, désabonner, se désabonner, stopp, abmelden, abbestellen, "
    "disiscriviti, annulla iscrizione, afmelden, uitschrijven, отписаться, стоп"
)
"""Of a few languages, separated by commas; the setting OPT_OUT_WORDS replaces them."""
START_WORDS = "start, unstop, subscribe"
"""The setting OPT_IN_WORDS replaces them."""

# Longer messages are no command; so most need not be looked at.
_LONGEST = 40


class OptWords:
    def __init__(self, stop: str = STOP_WORDS, start: str = START_WORDS) -> None:
        self._stop = _words(stop)
        self._start = _words(start) - self._stop

    def wish(self, text: str | None) -> bool | None:
        """False: no more messages; True: again; None: it says neither."""
        if not text or len(text) > _LONGEST:
            return None
        word = _plain(text)
        if word in self._stop:
            return False
        return True if word in self._start else None


def _words(text: str) -> frozenset[str]:
    return frozenset(filter(None, map(_plain, text.split(","))))


def _plain(text: str) -> str:
    """Without accents, case and whatever stands around it."""
    letters = (c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join("".join(c if c.isalnum() else " " for c in letters).split())
