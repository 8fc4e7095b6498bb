"""Process a raster with the map processor of Deepness; a Python with QGIS starts this.

    python deepness_session.py SRC MODEL RASTER RESULT.npy [SCALING]

SRC is the folder `src` of a checkout. Saves what the processor returns, before it is a layer.
SCALING is its box "output scaling"; without it that which the file states.
"""

from __future__ import annotations

import sys
from unittest.mock import MagicMock

import numpy as np


def parameters(model, layer):
    """Return what the dialog of Deepness makes of the metadata of a file."""
    from deepness.common.channels_mapping import ChannelsMapping, ImageChannelStandaloneBand
    from deepness.common.processing_overlap import ProcessingOverlap, ProcessingOverlapOptions
    from deepness.common.processing_parameters.map_processing_parameters import ProcessedAreaType

    channels = ChannelsMapping()
    bands = range(1, layer.bandCount() + 1)
    channels.set_image_channels([ImageChannelStandaloneBand(n, str(n)) for n in bands])
    channels.set_number_of_model_inputs_same_as_image_channels()
    overlap = ProcessingOverlap(
        ProcessingOverlapOptions.OVERLAP_IN_PERCENT, percentage=model.get_metadata_tiles_overlap()
    )
    stated = model.get_metadata_regression_output_scaling()
    return {
        "resolution_cm_per_px": model.get_metadata_resolution(),
        "tile_size_px": model.get_metadata_tile_size(),
        "batch_size": 1,
        "local_cache": False,
        "processed_area_type": ProcessedAreaType.ENTIRE_LAYER,
        "mask_layer_id": None,
        "input_layer_id": layer.id(),
        "input_channels_mapping": channels,
        "output_scaling": float(sys.argv[5]) if len(sys.argv) > 5 else stated,
        "processing_overlap": overlap,
        "model": model,
    }


def main():
    """Run the processor that the file asks for."""
    # Only QGIS' Python has it, and pytest imports this file for its doctests.
    from qgis.core import QgsApplication, QgsRasterLayer

    src, file, raster, result = sys.argv[1:5]
    sys.path.insert(0, src)
    application = QgsApplication([], True)
    application.initQgis()
    from deepness.processing.models.regressor import Regressor
    from deepness.processing.models.superresolution import Superresolution

    layer, model = QgsRasterLayer(raster, "scene"), Regressor(file)
    kind = model.get_metadata_model_type()
    if kind == "Regressor":
        from deepness.common.processing_parameters.regression_parameters import (
            RegressionParameters as Parameters,
        )
        from deepness.processing.map_processor.map_processor_regression import (
            MapProcessorRegression as Processor,
        )

        given = parameters(model, layer)
    else:
        from deepness.common.processing_parameters.superresolution_parameters import (
            SuperresolutionParameters as Parameters,
        )
        from deepness.processing.map_processor.map_processor_superresolution import (
            MapProcessorSuperresolution as Processor,
        )

        model = Superresolution(file)
        given = parameters(model, layer) | {"scale_factor": model.get_output_shapes()[0][-1]}
        given["scale_factor"] //= given["tile_size_px"]
    model.check_loaded_model_outputs()
    processor = Processor(
        rlayer=layer, vlayer_mask=None, map_canvas=MagicMock(), params=Parameters(**given)
    )
    processor.run()
    np.save(result, processor.get_result_img())


if __name__ == "__main__":
    main()
