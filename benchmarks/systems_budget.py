"""What every recipe of docs/systems.md is given: samples, crop, batch, seeds."""

#: Samples that a recipe sees, for each task.
BUDGET = {"rgb2nir": 2000, "sar2optical": 4000, "rgb2thermal": 1500, "super-resolution": 4000}
SEEDS = (0, 1, 2)
CROP, BATCH = 64, 4
