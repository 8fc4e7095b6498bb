"""A fuzzer of the command: small inputs, valid and hostile, with answers that are known.

It is written from outside. It imports nothing of crossband but the entry point, writes and reads
its files with code of its own, and computes the answers with NumPy from the documentation.
"""
