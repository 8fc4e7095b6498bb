"""Generators: one file is one family of networks that translate."""
