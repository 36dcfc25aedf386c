"""Where this Pombo lives: its database (embedded, or the one given) and the key that its secrets are sealed with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pombo.settings import Settings, SettingsError
from pombo.store import embedded
from pombo.store.secrets import SecretBox, load_or_make_key


@dataclass(frozen=True, slots=True)
class Place:
    database_url: str
    secret_key: str
    server: embedded.EmbeddedServer | None = None
    """The embedded one, held by this process."""

    @property
    def box(self) -> SecretBox:
        return SecretBox(self.secret_key)

    def environment(self) -> dict[str, str]:
        """What a child process needs to find the same place."""
        return {"DATABASE_URL": self.database_url, "POMBO_SECRET_KEY": self.secret_key}


@contextmanager
def open_place(settings: Settings) -> Iterator[Place]:
    """Holds the embedded server while open. Raises SettingsError, SecretError or DatabaseUnavailable."""
    given = settings.external_database_url()
    key = settings.pombo_secret_key.get_secret_value() if settings.pombo_secret_key else None
    if given is not None:
        if key is None:
            raise SettingsError(
                "POMBO_SECRET_KEY is needed with a database of your own, the same on every machine: "
                "`openssl rand -base64 32` makes one."
            )
        yield _checked(Place(given, key))
        return
    key = key or load_or_make_key(settings.pombo_data_dir / "secret.key")
    with embedded.start(settings.pombo_data_dir / "postgres") as server:
        yield _checked(Place(server.url, key, server))


def _checked(place: Place) -> Place:
    """Raises SecretError for a key that is too short, before anything is stored under it."""
    assert place.box
    return place
