"""Results as layers, under names that say synthetic, with style and metadata."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from qgis.core import (
    QgsLayerMetadata,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsRasterLayer,
)

from .styling import style

#: Tags of a file that its layer's metadata repeat.
_TOLD = (
    "CROSSBAND_MODEL",
    "CROSSBAND_WEIGHTS_SHA256",
    "CROSSBAND_SOURCE",
    "CROSSBAND_VERSION",
    "CROSSBAND_EXACT",
    "CROSSBAND_SEED",
    "CROSSBAND_UNFAMILIAR",
    "CROSSBAND_GUIDED",
    "CROSSBAND_INTERVAL",
)


class Finisher(QgsProcessingLayerPostProcessorInterface):
    """Styles a layer when QGIS has loaded it.

    Args:
        model: name of the model.
    """

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model

    def postProcessLayer(
        self, layer: Any, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Give the layer its name, style and metadata."""
        if isinstance(layer, QgsRasterLayer):
            finish(layer, self._model)


#: QGIS does not own post-processors; a load of many layers needs each until its end.
_KEPT: list[Finisher] = []


def show(paths: Sequence[str], context: QgsProcessingContext, model: str) -> None:
    """Have files loaded as styled layers where QGIS loads the results of this run.

    Args:
        paths: the first one may be an output that QGIS loads anyway.
        context: of the run.
        model: name of the model.
    """
    project = context.project()
    loads = any(context.willLoadLayerOnCompletion(path) for path in paths)
    wanted = loads or bool(context.layersToLoadOnCompletion())
    del _KEPT[:-100]
    for path in paths if wanted else ():
        if not context.willLoadLayerOnCompletion(path):
            details = QgsProcessingContext.LayerDetails(_stem(path), project, _stem(path))
            context.addLayerToLoadOnCompletion(path, details)
        finisher = Finisher(model)
        _KEPT.append(finisher)
        context.layerToLoadOnCompletionDetails(path).setPostProcessor(finisher)


def finish(layer: QgsRasterLayer, model: str) -> None:
    """Give a layer of Crossband its name, style and metadata."""
    tags = tags_of(layer.source())
    bands = band_names(layer)
    layer.setName(f"{', '.join(bands)} (synthetic, {tags.get('CROSSBAND_MODEL', model)})")
    style(layer, bands, tags)
    _describe(layer, bands, tags, model)
    layer.triggerRepaint()


def band_names(layer: QgsRasterLayer) -> list[str]:
    """Return the names of the bands, as the file has them."""
    names = [layer.bandName(number) for number in range(1, layer.bandCount() + 1)]
    return [name.partition(": ")[2] or name for name in names]  # QGIS writes "Band 1: nir"


def tags_of(path: str) -> dict[str, str]:
    """Return the tags of a GeoTIFF; none where QGIS' own GDAL cannot be imported."""
    try:
        from osgeo import gdal

        dataset = gdal.Open(path)
        return dict(dataset.GetMetadata() or {}) if dataset else {}
    except Exception:  # noqa: BLE001 - whatever is wrong with that module, the layer is shown
        return {}


def _describe(
    layer: QgsRasterLayer, bands: Sequence[str], tags: dict[str, str], model: str
) -> None:
    """Fill the metadata of a layer from the tags of its file."""
    metadata = QgsLayerMetadata()
    metadata.setIdentifier(os.path.basename(layer.source()))
    metadata.setType("dataset")
    metadata.setTitle(layer.name())
    lines = [f"Synthetic: {', '.join(bands)}. No sensor measured these values."]
    lines += [f"{name}: {value}" for name, value in sorted(tags.items()) if name in _TOLD]
    metadata.setAbstract("\n".join(line[:500] for line in lines))
    metadata.setKeywords({"crossband": ["synthetic", tags.get("CROSSBAND_MODEL", model), *bands]})
    metadata.addHistoryItem(f"Made by Crossband {tags.get('CROSSBAND_VERSION', '')}".strip())
    metadata.setCrs(layer.crs())
    layer.setMetadata(metadata)


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
