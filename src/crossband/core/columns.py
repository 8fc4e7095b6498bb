"""Names of a manifest's columns that more than one package reads."""

#: What a row says of its guide: its path, and how it is read.
GUIDE = ("guide", "guide_sensor", "guide_bands", "guide_datetime")
