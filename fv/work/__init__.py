"""Work: units, the stages and flows that consist of them, and the drivers that have them computed."""
