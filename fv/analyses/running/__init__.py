"""What all analyses share: their base, the run they read, and the runner."""
