"""The base of all clusters: tasks, their records, the worker of a process; and Slurm's jobs."""
