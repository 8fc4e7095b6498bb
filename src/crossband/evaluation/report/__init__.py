"""The report of an evaluation: tables, plots and pictures. Only this package draws them."""
