"""Who is judged, how sure the numbers are, and who is better: what `evaluate` is made of.

A judge needs no network of ours: files that another tool made are judged like a model's answers.
"""
