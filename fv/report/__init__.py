"""What a run says: the closing tables."""
