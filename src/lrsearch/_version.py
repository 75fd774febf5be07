"""The version of lrsearch, in one place."""

__version__ = "0.1.0"
