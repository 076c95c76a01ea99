"""What all clusters share: stages of tasks, the records of them, and what a worker does with one; and Slurm's jobs."""
