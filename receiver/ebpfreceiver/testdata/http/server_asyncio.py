# The server of the tests of the group http, with callbacks of one thread.
import asyncio
import random
import urllib.parse


async def serve(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(head.split()[1]).query, keep_blank_values=True)
            await asyncio.sleep(random.uniform(0, 0.01))
            host, _, port = query["to"][0].partition(":")
            try:
                await asyncio.open_connection(host, int(port))
            except OSError:
                pass
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=128)
    print("127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
