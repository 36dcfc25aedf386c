"""How a process of the bench and its parent talk: JSON documents, one a line, over stdin and stdout."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any


def tell(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


async def heard() -> AsyncIterator[dict[str, Any]]:
    """What the parent says, until it has closed the line."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)
