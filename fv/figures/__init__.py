"""Figures: a DataFrame as a matplotlib figure of one paper column. Needs the extra `figures`."""

try:
    import matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError("Figures need matplotlib: pip install 'function-vectors[figures]'.") from error
