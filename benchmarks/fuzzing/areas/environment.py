"""Variables of the environment: they change no pixel, or are named in one line."""

from __future__ import annotations

from fuzzing.case import Case, Draw, listed
from fuzzing.scenes import LINE, compare, draw_layout, draw_scene, translate

_NAMES = listed(
    """
    GDAL_CACHEMAX GDAL_NUM_THREADS GDAL_DATA PROJ_LIB PROJ_DATA GDAL_DISABLE_READDIR_ON_OPEN
    GDAL_TIFF_INTERNAL_MASK GTIFF_HONOUR_NEGATIVE_SCALEY GDAL_PAM_ENABLED GDAL_SKIP
    GDAL_DRIVER_PATH CPL_TMPDIR GDAL_HTTP_MAX_RETRY GTIFF_IGNORE_READ_ERRORS GDAL_HTTP_TIMEOUT
    CPL_VSIL_CURL_CACHE_SIZE GTIFF_REPORT TMPDIR HOME LC_ALL LANG LANGUAGE TERM COLUMNS LINES
    NO_COLOR TZ LRU_CACHE_CAPACITY ONEDNN_PRIMITIVE_CACHE_CAPACITY OMP_NUM_THREADS
    MKL_NUM_THREADS TORCH_HOME HF_HOME HF_HUB_OFFLINE SLURM_PROCID SLURM_NTASKS SLURM_JOB_ID
    PYTHONPATH PYTHONWARNINGS PYTHONIOENCODING XDG_CACHE_HOME MPLBACKEND PATH http_proxy
    AWS_S3_ENDPOINT CROSSBAND_DATA CROSSBAND_MAX_ROWS CROSSBAND_MAX_TABLE_MIB
    CROSSBAND_MAX_WEIGHTS_MIB CROSSBAND_MAX_ONNX_MIB CUDA_VISIBLE_DEVICES
    """
)
_VALUES = ("", "x", "0", "-1", "/none", ".", "ON", "OFF", "C", "de_DE.UTF-8", None)


def case(draw: Draw) -> Case:
    """Draw a case."""
    scene = draw_scene(draw)
    given: dict[str, str | None] = {}
    for name in draw.sample(_NAMES, draw.randint(1, 4)):
        given[name] = draw.choice(_VALUES) if draw.chance(0.7) else draw.number()[:100]
    data = scene.file(draw, draw_layout(draw, scene.stored.dtype.name))
    return Case(
        translate(),
        {**LINE.files(), "in.tif": data},
        check=lambda folder: compare(folder / "out.tif", scene),
        environment=given,
    )
