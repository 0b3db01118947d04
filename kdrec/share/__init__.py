"""Finished splits and runs, shared between machines by a folder or any fsspec address."""
