"""Function vectors: what they are made of, what they are called, their controls, their files."""
