"""Edits of the last prompt token, the engines that run them, what is read off, and the proof at load that edits act."""
