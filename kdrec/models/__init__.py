"""Recommenders: anything that scores items for users."""
