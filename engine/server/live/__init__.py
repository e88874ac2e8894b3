"""WebSocket clients, and what they are sent."""
