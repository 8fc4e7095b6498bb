"""Pages of the site that follow from the code; every build writes them into `docs/generated/`."""
