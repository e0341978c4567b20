"""Samplers: what turns prompts and weights into tokens."""
