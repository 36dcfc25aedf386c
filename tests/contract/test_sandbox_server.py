"""The sandbox as a process of its own."""

import asyncio
import signal
import sys

import pytest

from tests.sandbox_server import SandboxHandle


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_says_where_it_listens_and_ends_on_a_signal(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pombo.sandbox", "--port", "0", stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async with asyncio.timeout(30):
        line = (await process.stderr.readline()).decode()
        assert line.startswith("sandbox listens at http://127.0.0.1:")
        async with SandboxHandle(line.split()[-1]) as sandbox:
            page = await sandbox.add_page(await sandbox.add_app())
            assert (await sandbox.send_text(page, "7012345678901234")).status_code == 200
            process.send_signal(number)
            assert await process.wait() == 0
            await process.stderr.read()


async def test_a_port_that_is_taken_is_an_error(sandbox: SandboxHandle) -> None:
    port = sandbox.base_url.rpartition(":")[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pombo.sandbox", "--port", port, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode != 0
    assert b"address already in use" in errors
