"""The programs under load: each answers "ok" as text/plain to GET / and does nothing else."""
