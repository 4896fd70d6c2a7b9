"""What an ASGI application is made of: a counter, and an answer that comes in pieces."""
count = 0


async def app(scope, receive, send):
    global count
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/count":
        count += 1
        await send({"type": "http.response.body", "body": b"%d\n" % count})
        return
    total, more = 0, True
    while more:
        message = await receive()
        total = (total + sum(message.get("body", b""))) % 65536
        more = message.get("more_body", False)
    await send({"type": "http.response.body", "body": b"%d\n" % total})
