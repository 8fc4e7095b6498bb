"""Training: turns a recipe and a manifest into a model folder."""

from crossband.core.limits import check_whole_numbers

# Launchers of several processes set these. Lightning reads some of them while it is imported.
check_whole_numbers(
    *("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("MASTER_PORT", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS"),
)
