"""The libraries of the extra `curate`, which not everyone installs."""

from __future__ import annotations

from importlib.util import find_spec

from engine.errors import MissingError

LIBRARIES = {
    "cv2": "opencv-python-headless",
    "jinja2": "jinja2",
    "onnxruntime": "onnxruntime",
    "pyarrow": "pyarrow",
    "rapidocr": "rapidocr",
    "scenedetect": "scenedetect-headless",
    "threadpoolctl": "threadpoolctl",
}
"""The packages that provide them, by module."""


def require() -> None:
    """Raise MissingError if one isn't installed."""
    if missing := [package for module, package in LIBRARIES.items() if find_spec(module) is None]:
        raise MissingError(
            f"curation needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            hint='pip install "kinograph[curate]"',
        )
