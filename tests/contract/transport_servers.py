"""HTTP servers for the transport's tests: real sockets on loopback, every byte scripted by the test."""

import asyncio
import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pombo.meta.transport import Answer, Result, Transport

# Long enough for a busy machine; nothing waits for it to pass.
PATIENCE_S = 20.0
REQUEST = b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"


class Clock:
    """Stands in for the loop's clock."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def of(cls, accepted: socket.socket, ssl_context: ssl.SSLContext) -> "Peer":
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=ssl_context)
        return cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    async def request(self) -> bytes:
        """The next request, whole. Raises asyncio.IncompleteReadError when there is none."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return head + await self._reader.readexactly(length)

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Close so that the other side gets ECONNRESET."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def shut_down_at_once(self) -> None:
        """End the stream without giving any event loop the chance to notice."""
        duplicate = socket.socket(fileno=os.dup(self._socket.fileno()))
        duplicate.shutdown(socket.SHUT_RDWR)
        duplicate.close()

    async def ended(self) -> None:
        """Return when the client has closed or reset its side."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65536):
                pass

    async def was_reset(self) -> bool:
        try:
            while await self._reader.read(65536):
                pass
        except ConnectionResetError:
            return True
        return False

    @property
    def _socket(self) -> socket.socket:
        return self._writer.get_extra_info("socket")  # type: ignore[no-any-return]


Script = Callable[[Peer], Awaitable[None]]


class Server:
    """Runs the script for each connection; an end of the client's side ends the script quietly."""

    def __init__(self, script: Script, ssl_context: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._ssl_context = ssl_context
        self._scheme = "http" if ssl_context is None else "https"
        self._tasks: set[asyncio.Task[None]] = set()
        self.peers: list[Peer] = []

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port, ssl=self._ssl_context)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"{self._scheme}://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self.peers:
            peer._writer.transport.abort()
        await asyncio.sleep(0)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await self._script(peer)


@contextlib.asynccontextmanager
async def serving(script: Script, ssl_context: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Server]:
    server = Server(script, ssl_context)
    await server.start(port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def transport_to(url: str, **settings: object) -> AsyncIterator[Transport]:
    transport = Transport(url, **settings)  # type: ignore[arg-type]
    await transport.start()
    try:
        yield transport
    finally:
        await transport.close()


def ok(body: bytes = b'{"message_id":"m_1"}', *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def answer_all(peer: Peer) -> None:
    """The script of a server that answers every request."""
    while True:
        await peer.request()
        peer.write(ok())


async def never_answer(peer: Peer) -> None:
    """The script of a server that listens and says nothing."""
    await peer.ended()


def answered(result: Result) -> Answer:
    assert isinstance(result, Answer), result
    return result


class Results:
    """Collects results by context, and sees to it that each comes once."""

    def __init__(self) -> None:
        self.by_context: dict[object, Result] = {}
        self._changed = asyncio.Event()

    def __call__(self, result: Result, context: object) -> None:
        assert context not in self.by_context, "a second result for one request"
        self.by_context[context] = result
        self._changed.set()

    async def of(self, context: object) -> Result:
        async with asyncio.timeout(PATIENCE_S):
            while context not in self.by_context:
                self._changed.clear()
                await self._changed.wait()
        return self.by_context[context]


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something that gives no signal has happened."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def self_signed(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The context of a server with a certificate of its own for 127.0.0.1, and that of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "certificate.pem", directory / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate_file, key_file)
    return server, ssl.create_default_context(cafile=str(certificate_file))
