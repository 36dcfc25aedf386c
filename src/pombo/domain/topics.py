"""What a browser can follow: `messages:7`, one conversation's messages; `conversations:all`; `agents:presence`."""

CONVERSATIONS = "conversations:all"
PRESENCE = "agents:presence"

# Python's `$` alone would let a line's end pass.
PATTERN = r"^(messages:[1-9][0-9]{0,17}|conversations:all|agents:presence)$(?!\n)"


def messages_of(conversation_id: int) -> str:
    return f"messages:{conversation_id}"


CONVERSATION_UPDATED = "conversation.updated"


def heard_in(topic: str, name: str) -> tuple[str, ...]:
    """Where an event is heard: what happens to a conversation, in its own topic and in the list."""
    return (topic, CONVERSATIONS) if name.startswith("conversation.") and topic != CONVERSATIONS else (topic,)


def conversation_of(topic: str) -> int | None:
    """The conversation of a `messages:` topic."""
    kind, _, which = topic.partition(":")
    return int(which) if kind == "messages" else None
