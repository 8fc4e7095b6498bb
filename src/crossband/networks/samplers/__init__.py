"""Samplers: generators that start from noise and ask a learned field step by step."""
