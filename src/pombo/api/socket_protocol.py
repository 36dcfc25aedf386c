"""uvicorn's WebSocket protocol, with a short way out for frames that are the same bytes for many sockets.

By ASGI each frame would be encoded again for each socket, and wake a task of its own to be sent by.
"""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

WIRE = "pombo.wire"
"""Where in the state of the ASGI scope the application finds the socket's `pombo.realtime.outgoing.Wire`."""


class SocketProtocol(WebSocketsSansIOProtocol):
    async def run_asgi(self) -> None:
        self.scope["state"][WIRE] = self
        try:
            await super().run_asgi()
        finally:
            # Or each closed socket would wait for the collector.
            del self.scope["state"][WIRE]

    def write(self, frame: bytes) -> bool:
        if not self.writable.is_set() or self._is_over():
            return False
        self.transport.write(frame)
        return True

    async def until_writable(self) -> None:
        await self.writable.wait()
        if self._is_over():
            raise ConnectionResetError("The client has left, or the closing handshake has begun.")

    def _is_over(self) -> bool:
        return self.conn.state is not State.OPEN or self.transport.is_closing()
