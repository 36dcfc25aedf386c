"""Every setting, in one place. From the environment or `.env`; a wrong value stops the start with a clear sentence.

The old programs' names (row A15) are the names here where they still mean something.
"""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from pombo.domain.doubt import DEFAULT_GRACE_S, DoubtPolicy, shortest_grace_s
from pombo.domain.opt_out import START_WORDS, STOP_WORDS


class SettingsError(Exception):
    """A setting has a value that cannot be used; the message lists each with its reason."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True)

    # Database
    database_url: str | None = Field(
        None, description="PostgreSQL 15 or newer, as postgresql://user:password@host:port/database. Unset: embedded."
    )
    db_host: str | None = Field(None, description="Alternative to DATABASE_URL, with the four that follow.")
    db_port: int = Field(5432, ge=1, le=65535, description="With DB_HOST.")
    db_user: str = Field("postgres", description="With DB_HOST.")
    db_password: SecretStr | None = Field(None, description="With DB_HOST.")
    db_name: str = Field("postgres", description="The database on DB_HOST.")
    pombo_data_dir: Path = Field(Path(".pombo"), description="Embedded database, secret key, logs.")
    pombo_secret_key: SecretStr | None = Field(
        None,
        description="Encrypts tokens and secrets at rest. Embedded default: made once, kept in the data directory.",
    )

    # Meta
    graph_api_url: str = Field("https://graph.facebook.com", description="Meta's Graph API, or the sandbox's address.")
    graph_api_version: str = Field("v26.0", pattern=r"^v\d+\.\d+$", description="The version every call names.")

    # API
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(3100, ge=0, le=65535, description="Port of the API and of Meta's webhooks.")
    worker_secret: SecretStr | None = Field(None, description="Bearer secret of /api/queue/worker, for cron services.")
    allowed_origins: str = Field(
        "",
        description="Origins whose pages may open the WebSocket besides this server's own, with commas between; "
        "* allows all.",
    )
    max_websockets: int = Field(2000, ge=1, description="Open WebSockets of one workspace at most, per API process.")
    event_retention_hours: float = Field(
        24.0, gt=0, description="How long a browser may be away and still continue from its last event."
    )
    max_body_mb: int = Field(256, ge=1, description="Largest request body of a campaign's recipients, in MB.")

    # Media
    media_max_mb: int = Field(25, ge=1, le=100, description="Largest file fetched from Meta, or uploaded, in MB.")
    media_store_url: str | None = Field(
        None,
        description="`https://<endpoint>/<bucket>[/<prefix>]` of an S3-compatible store; unset: `media` in "
        "POMBO_DATA_DIR, which all processes must then share.",
    )
    media_store_region: str = Field("us-east-1", description="With MEDIA_STORE_URL.")
    media_store_access_key: str = Field("", description="With MEDIA_STORE_URL.")
    media_store_secret_key: SecretStr | None = Field(None, description="With MEDIA_STORE_URL.")

    # Sending
    worker_concurrency: int = Field(500, ge=1, description="Requests in flight at most, per worker process.")
    max_sockets: int = Field(500, ge=1, description="Kept-alive connections to Meta at most, per worker process.")
    rate_limit_max_jobs_per_second: float | None = Field(
        None, gt=0, description="Messages/s of all channels and workers together; no such limit unless set."
    )
    rate_limit_per_page: float | None = Field(
        None, gt=0, description="Messages/s of a new channel; unset: Meta's own limit for its kind (40 or 80)."
    )
    circuit_breaker_enabled: bool = Field(True, description="Whether failures in a row pause a channel.")
    circuit_breaker_threshold: int = Field(5, ge=1, description="Failures in a row that open a channel's breaker.")
    circuit_breaker_timeout_ms: int = Field(300_000, ge=1, description="How long it stays open before one probe.")
    content_failures_in_a_row: int = Field(
        20, ge=0, description="Failures in a row that are the content's own and pause its run; 0: never."
    )
    send_attempts: int = Field(3, ge=1, le=100, description="Attempts a message gets at most.")
    answer_timeout_s: Annotated[float, Field(gt=0, description="How long Meta may take to answer.")] = 30.0
    lease_s: float = Field(8.0, gt=1, description="A worker not heard of for so long has lost its channels.")
    doubt_policy: DoubtPolicy = Field(
        DoubtPolicy.SAFE,
        description="What a new channel does with what is in doubt after the grace: safe (sent again if proven safe, "
        "else held), hold, resend, fail.",
    )
    doubt_grace_s: float = Field(
        DEFAULT_GRACE_S,
        description="How long a new channel's doubts wait for Meta's echo or status; above LEASE_S + 2 × "
        "ANSWER_TIMEOUT_S, and Meta's usual delay on top.",
        validate_default=True,
    )
    cron_batch_size: int = Field(15, ge=1, le=10_000, description="Messages one call of /api/queue/worker sends.")

    # The inbox
    assign_on_reply: bool = Field(True, description="Who answers a conversation that is nobody's gets it.")

    # Outcomes and the delivery log
    log_batch_size: int = Field(200, ge=1, description="Outcomes written in one statement at most; never above 500.")
    log_batch_interval_ms: int = Field(
        2000, ge=1, description="How long an outcome waits for others at most; never above 20 ms."
    )
    log_retention_days: int = Field(7, ge=1, description="Days the delivery log is kept.")
    webhook_retention_days: int | None = Field(
        None, ge=1, description="Days the webhook log is kept; unset: LOG_RETENTION_DAYS."
    )
    opt_out_words: str = Field(
        STOP_WORDS,
        description="A message that is one of these, separated by commas, asks for no more campaigns.",
    )
    opt_in_words: str = Field(START_WORDS, description="The same, for messages that ask for them again.")
    partition_days_ahead: int = Field(30, ge=1, description="Days for which partitions are made ahead.")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Events below this level are not logged: debug, info, warning, error."
    )

    @field_validator("database_url")
    @classmethod
    def _scheme(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if url.startswith("postgres://"):
            url = "postgresql://" + url.removeprefix("postgres://")
        if not url.startswith("postgresql://"):
            raise ValueError("must begin with postgresql://")
        return url

    @field_validator("media_store_url")
    @classmethod
    def _bucket(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not url.startswith(("http://", "https://")) or not urlsplit(url).path.strip("/"):
            raise ValueError("must begin with https:// and name a bucket after the host")
        return url.rstrip("/")

    @field_validator("graph_api_url")
    @classmethod
    def _http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("must begin with https:// (or http:// for the sandbox)")
        return url.rstrip("/")

    @field_validator("doubt_grace_s")
    @classmethod
    def _outlives_every_answer(cls, grace_s: float, info: ValidationInfo) -> float:
        if {"lease_s", "answer_timeout_s"} <= info.data.keys():
            shortest = shortest_grace_s(info.data["lease_s"], info.data["answer_timeout_s"])
            if grace_s <= shortest:
                raise ValueError(f"must be above {shortest:g}, which is LEASE_S + 2 x ANSWER_TIMEOUT_S")
        return grace_s

    @property
    def origins(self) -> list[str]:
        return [origin.strip() for origin in self.allowed_origins.split(",") if origin.strip()]

    @property
    def shortest_grace_s(self) -> float:
        return shortest_grace_s(self.lease_s, self.answer_timeout_s)

    def external_database_url(self) -> str | None:
        """DATABASE_URL, or one made of DB_HOST and its kin; None means the embedded server."""
        if self.database_url or not self.db_host:
            return self.database_url
        password = f":{quote(self.db_password.get_secret_value(), safe='')}" if self.db_password else ""
        return f"postgresql://{quote(self.db_user, safe='')}{password}@{self.db_host}:{self.db_port}/{self.db_name}"


def load_settings(**overrides: object) -> Settings:
    """Raises SettingsError with one line per wrong setting."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError("\n".join(map(_sentence, error.errors()))) from None


# What was given for these is never repeated: it may be, or hold, a password.
_SECRET = frozenset({"media_store_secret_key", "database_url", "db_password", "pombo_secret_key", "worker_secret"})


def _sentence(error: ErrorDetails) -> str:
    name = ".".join(map(str, error["loc"]))
    given = "" if name in _SECRET else f" (got {error['input']!r})"
    return f"{name.upper()}: {error['msg']}{given}"
