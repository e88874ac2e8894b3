"""The server behind `kinograph serve`: ComfyUI's protocol, and what that lacks under /api/kinograph/.

    routes → what a request may hold, and what is answered     openapi → the same, as a document
    guard  → who may ask: Host, Origin, token, limits          hub     → WebSocket clients
    crew   → the worker processes, and what they tell           told    → events as the protocol's messages

Nothing here computes, and nothing here imports torch: jobs wait in `engine.jobs`, and `engine.worker` does them.
"""
