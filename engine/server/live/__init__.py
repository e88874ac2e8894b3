"""WebSocket clients, and what they are told."""
