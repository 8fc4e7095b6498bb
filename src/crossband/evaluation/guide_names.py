"""Names of the rows and of the classes in the tables of a guided evaluation; see `guides`."""

#: Rows beside a guided model.
UNGUIDED, ENLARGED, LINE = "unguided", "guide enlarged", "guide + per-pixel line"
#: Columns by which the scores are broken down; the size is in pixels of the result.
AGE, RATIO = "age of the guide", "size of a pixel of the guide"
