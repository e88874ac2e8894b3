"""ComfyUI's protocol."""
