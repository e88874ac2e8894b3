"""The server behind `kinograph serve`: ComfyUI's protocol, and Kinograph's own routes under /api/kinograph/.

    http     settings, who may ask, what a request may hold, the OpenAPI document
    files    where the files are that requests name, and their previews
    jobs     the queue, the worker processes, the check of what clients send
    comfyui  ComfyUI's routes, and its messages
    own      Kinograph's own routes
    live     WebSocket clients, and what they are sent

Each imports only those above it. Nothing here computes, and nothing here imports torch: jobs wait in
`engine.work.queue`, and worker processes (`engine.work.worker`) do them.
"""
