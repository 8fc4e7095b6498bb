"""Samplers: generators that transform noise with a learned field, step by step."""
