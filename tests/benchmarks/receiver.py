"""A receiver of webhooks as a process: ``python -m tests.benchmarks.receiver FILE``. It prints its port.

It accepts everything by keep-alive, and appends ``PATH N TIME`` to FILE for each arrival, by the clock that all processes of
a machine share; what goes to ``/dead`` is never answered. Not a server for anything else: it looks at the request line, at
the length, and at the number of the event.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from pathlib import Path

ACCEPTED = b"HTTP/1.1 204 No Content\r\n\r\n"
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
NUMBER = re.compile(rb'"order_id":(\d+)')


def main() -> None:
    with Path(sys.argv[1]).open("ab", buffering=0) as arrivals:

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = LENGTH.search(head)
                    body = await reader.readexactly(int(length[1]) if length else 0)
                    target, number = head.split(b" ", 2)[1], NUMBER.search(body)
                    arrivals.write(b"%b %b %f\n" % (target, number[1] if number else b"0", time.monotonic()))
                    if target == b"/dead":
                        await reader.read()
                        return
                    writer.write(ACCEPTED)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass  # who sent has gone
            finally:
                writer.close()

        async def listen() -> None:
            server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2_000)
            print(server.sockets[0].getsockname()[1], flush=True)
            await server.serve_forever()

        asyncio.run(listen())


if __name__ == "__main__":
    main()
