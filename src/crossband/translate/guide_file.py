"""Open the file of a guide, as its options say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from crossband.errors import BandError, InputError, UnitError
from crossband.raster.open import is_one_unnamed_band, open_scene
from crossband.raster.scene import Scene
from crossband.translate.options import GuideOptions

#: Below this correlation of result and guide (see `agreement.Agreement`) the run ends with a line.
POOR = 0.1


def open_guide_file(
    options: GuideOptions,
    target: Sequence[str],
    source: Sequence[str],
    also: Sequence[str] = (),
) -> Scene:
    """Open the guide; errors name the options of the guide, as --guide-sensor.

    Args:
        options: the guide, and how it is read.
        target: bands that it must have.
        source: bands of the model, which the options may name.
        also: bands that are taken too, if it has all of them.
    """
    assert options.guide is not None
    path, read = options.guide, options.read_options

    def opened_alone() -> Scene:
        try:
            return opened(target)
        except BandError:
            # One band can only be the one that is asked for.
            if len(target) > 1 or read.bands or not is_one_unnamed_band(path, read.sensor):
                raise
            return open_scene(path, replace(read, bands={target[0]: 1}), needed=target)

    def opened(wanted: Sequence[str]) -> Scene:
        # A name that the model does not know stays, and is refused.
        unknown = set(read.bands or ()) - {*source, *target}
        return open_scene(path, read.only({*wanted, *unknown}), needed=wanted)

    wanted = tuple(dict.fromkeys((*also, *target)))
    try:
        if len(wanted) > len(target):
            try:
                return opened(wanted)
            except BandError:
                pass  # without the model's own bands
        return opened_alone()
    except (BandError, UnitError) as error:
        words = str(error).replace("--sensor", "--guide-sensor").replace("--bands", "--guide-bands")
        words = words.replace(", or --guide-sensor reflectance with --scale and --offset", "")
        raise type(error)(f"--guide: {words}") from error
    except InputError as error:
        raise InputError(f"--guide: {error}") from error
