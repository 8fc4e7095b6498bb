"""What every recipe of docs/systems.md is given: samples, crop, batch, seeds."""

#: Samples that a recipe sees, for each task: five times those of version 0.1.
BUDGET = {
    "rgb2nir": 10_000,
    "sar2optical": 20_000,
    "rgb2thermal": 7_500,
    "super-resolution": 20_000,
}
SEEDS = (0, 1, 2)
CROP, BATCH = 64, 4
#: Recipes that need a guide, or another scale than the others of their task.
LEFT_OUT = ("guided", "sharpen", "photographs")
#: What every recipe of radar to colour takes and gives in a comparison.
RADAR = {
    "source": ["vv", "vh"],
    "target": ["red", "green", "blue"],
    "units": {
        "db": {
            "source": [[-25, 5], [-32, -2]],
            "target": [[0, 0.5]] * 3,
            "target_unit": "reflectance",
        }
    },
}
