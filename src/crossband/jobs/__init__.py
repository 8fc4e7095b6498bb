"""Many scenes with one model: which they are, what they are called, who does which, how it went.

`sources` expands inputs, `names` names the outputs, `shards` cuts the list, `run` does it, and
`summary` remembers it.
"""
