"""Experiments: one file each, configuration and wiring."""
