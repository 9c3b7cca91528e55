"""``--reload``: restart the app after each change of a file, without a refused connection.

| file | what it holds |
|---|---|
| supervisor | the parent: watches files, starts children, keeps the listening sockets |
| child | the serving process: takes the sockets, reports to its parent |
| standin | answers 503 while no child can serve |
| watch | which files count, and the thread that watches them |
"""
