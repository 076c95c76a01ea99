"""Reports of a run: the closing tables, and a page with figures."""
