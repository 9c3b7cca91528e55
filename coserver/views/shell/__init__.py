"""Views for shells and scripts: lines in, lines out.

| file | what it holds |
|---|---|
| step | ``coserver step``: commands on stdin, held exchanges on stdout |
| trace | ``coserver trace``: finished exchanges as lines, waterfalls, curl commands, JSON or HAR |
| line_input | lines of stdin, until another thread ends them |
"""
