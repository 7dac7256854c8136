"""A FastCGI responder (one request per connection): a page, `/echo`, and `/ping` for the healthcheck."""

import asyncio
import hashlib
import json
import os
import signal
import socket

PORT = 9000
RELEASE, HEALTH, INSTANCE = os.environ["RELEASE"], os.environ["HEALTH"], socket.gethostname()
END, PARAMS, STDIN, STDOUT = 3, 4, 5, 6


def record(kind: int, content: bytes) -> bytes:
    return bytes([1, kind, 0, 1, *len(content).to_bytes(2, "big"), 0, 0]) + content


def pairs(data: bytes) -> dict[str, str]:
    """Names and values, each with a length of one byte or four."""
    found, at = {}, 0
    while at < len(data):
        sizes = []
        for _ in range(2):
            long = data[at] >> 7
            sizes.append(int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF if long else data[at])
            at += 4 if long else 1
        name, value = data[at : at + sizes[0]], data[at + sizes[0] : at + sum(sizes)]
        found[name.decode()] = value.decode("latin-1")
        at += sum(sizes)
    return found


async def read_request(reader: asyncio.StreamReader) -> tuple[dict[str, str], bytes]:
    parts: dict[int, bytes] = {PARAMS: b"", STDIN: b""}
    while True:
        _, kind, _, _, high, low, padding, _ = await reader.readexactly(8)
        content = await reader.readexactly((high << 8) + low)
        await reader.readexactly(padding)
        if kind in parts:
            parts[kind] += content
        if kind == STDIN and not content:
            return pairs(parts[PARAMS]), parts[STDIN]


def answer(path: str, body: bytes) -> tuple[int, dict[str, object]]:
    if path == "/ping" and HEALTH != "good":
        return 503, {"status": HEALTH}
    if path == "/echo":
        return 200, {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return 200, {"release": RELEASE, "instance": INSTANCE}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        params, body = await read_request(reader)
        status, said = answer(params.get("DOCUMENT_URI", ""), body)
        head = f"Status: {status} X\r\nContent-Type: application/json\r\nX-Shop-Release: {RELEASE}\r\n"
        text = f"{head}X-Shop-Instance: {INSTANCE}\r\n\r\n{json.dumps(said)}".encode()
        writer.write(record(STDOUT, text) + record(STDOUT, b"") + record(END, bytes(8)))
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError) as error:
        print(f"a connection ended early: {error!r}")
    finally:
        writer.close()


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(serve, "0.0.0.0", PORT, backlog=1024)
    print(f"release {RELEASE} ({HEALTH}) listens on {PORT}")
    await stop.wait()
    server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        await asyncio.wait(tasks, timeout=10)


if __name__ == "__main__":
    asyncio.run(main())
