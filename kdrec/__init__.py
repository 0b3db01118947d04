"""kdrec: distil a recommender and see whom the compression hurts."""

__version__ = "0.1.0"
