"""Runs in a container: says its host name to everyone who connects to port 9000, in a minimal HTTP answer."""

import asyncio
import socket


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request, one answer."""
    await reader.readuntil(b"\r\n\r\n")
    name = socket.gethostname().encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(name), name))
    await writer.drain()
    writer.close()


async def main() -> None:
    """Serve until stopped."""
    async with await asyncio.start_server(answer, "0.0.0.0", 9000) as server:
        await server.serve_forever()


asyncio.run(main())
