"""Translate many scenes with one model.

`inputs` expands patterns, lists and manifests to scenes, `names` names their outputs, `shards`
divides the list among jobs, `run` translates them, and `summary` records the outcome of each.
"""
