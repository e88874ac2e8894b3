"""The server behind `kinograph serve`: ComfyUI's protocol, and Kinograph's own routes under /api/kinograph/.

    http     settings, access control, route declarations, the OpenAPI document
    files    the files that requests name, and their previews
    jobs     the queue, the worker processes, checking submitted workflows
    comfyui  ComfyUI's routes and messages
    own      Kinograph's own routes
    live     WebSocket clients, and what they are sent

Each imports only those above it. Nothing here computes or imports torch: jobs are queued in `engine.work.queue`, and
worker processes (`engine.work`) run them.
"""
