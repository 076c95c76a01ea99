"""What a run says: the closing tables, and a page with figures."""
