"""The models that scans use, which come with packages."""

from __future__ import annotations

from importlib.metadata import version

from engine.models.digest import digest
from nodes.dataset.provenance import Model
from nodes.dataset.scan import texts
from nodes.dataset.scan.scanner import ScanSettings


def models(settings: ScanSettings) -> list[Model]:
    """The models of a scan; raises MissingError if the package that brings one isn't installed."""
    found = []
    if settings.cuts != "cascade":
        from nodes.dataset.scan import transnet

        name = f"TransNetV2 of {transnet.PACKAGE} {version(transnet.PACKAGE)}"
        found.append(Model("cuts", name, digest(transnet.weights()), {"threshold": transnet.THRESHOLD}))
    if settings.text:
        file = texts.weights()
        how = {"pixels": texts.PIXELS, "inside": texts.INSIDE, "certain": texts.CERTAIN}
        found.append(Model("find_text", f"{file.stem} of rapidocr {version('rapidocr')}", digest(file), how))
    return found
