"""The programs under load. Each answers GET / with "ok" as text/plain, or gives the answer of its load."""
