"""The programs under load: each answers "ok" as text/plain to GET /, or what its load asks for."""
