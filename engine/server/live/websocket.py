"""The WebSocket: clients announce what they understand, and receive the state of the queue and of their own jobs."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

from aiohttp import WSMsgType, web

from engine.server.comfyui.prompts import left
from engine.server.comfyui.userdata import features_of
from engine.server.http.connections import CONNECTIONS
from engine.server.http.limits import SMALL
from engine.server.http.routes import Routes
from engine.server.http.settings import SETTINGS
from engine.server.jobs.workers import WORKERS
from engine.server.live.broadcast import BROADCASTER
from engine.server.live.clients import CLIENTS, Client, understood
from engine.server.own.control import overview

routes = Routes("socket")
HEARTBEAT = 30.0
LARGEST_MESSAGE = SMALL
"""Bytes; all that clients send is what they understand."""


@routes.get("/ws", gives="websocket")
async def connect(request: web.Request) -> web.WebSocketResponse:
    """A WebSocket; it receives the progress of jobs that are submitted with its `clientId`."""
    app = request.app
    if len(app[CLIENTS]) >= app[CONNECTIONS].most_sockets:
        raise web.HTTPServiceUnavailable(text="there are as many WebSocket clients as the server can have")
    sid = request.query.get("clientId", "")[:200] or uuid.uuid4().hex
    # each client would compress each message anew, and need more memory for that than for everything else
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=LARGEST_MESSAGE, compress=False)
    await socket.prepare(request)
    assert request.transport
    client, remaining = Client(sid, socket, request.transport.abort), await left(app)
    status = {"status": {"exec_info": {"queue_remaining": remaining}}, "sid": sid}
    client.enqueue(json.dumps({"type": "status", "data": status}))  # first of all: clients wait for their id
    for kind, data in app[BROADCASTER].catch_up(sid):
        client.enqueue(json.dumps({"type": kind, "data": data}))
    app[CLIENTS].add(client)
    sending = asyncio.create_task(client.send())
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await _handle(app, client, message.data)
    finally:
        app[CLIENTS].remove(client)
        app[WORKERS].show_previews(app[CLIENTS].wants_previews)
        sending.cancel()
    return socket


async def _handle(app: web.Application, client: Client, text: str) -> None:
    """Handle a client's message; unknown ones are ignored, as clients may be newer or older than the server."""
    try:
        message: Any = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not (isinstance(message, dict) and isinstance(message.get("data"), dict)):
        return
    if message.get("type") == "feature_flags":
        client.features = understood(message["data"])
        client.enqueue(json.dumps({"type": "feature_flags", "data": features_of(app[SETTINGS])}))
        app[WORKERS].show_previews(app[CLIENTS].wants_previews)
        if client.is_native:
            client.enqueue(json.dumps({"type": "queue", "data": await overview(app)}))
