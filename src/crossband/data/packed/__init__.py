"""Read packs: the files of a manifest as compressed blocks in a few large shards."""
