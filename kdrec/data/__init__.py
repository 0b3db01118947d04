"""Interactions, data sets, splits, negatives and groups."""
