"""Work: units, the stages and flows that they come in, and who has them computed."""
