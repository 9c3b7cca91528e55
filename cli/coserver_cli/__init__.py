"""The command ``coserver``: parse the command line, call the library, print the result.

| file | what it holds |
|---|---|
| overview | the names of the commands, all that ``--help`` and ``--version`` need; commands of other programs |
| commands | all commands and their options, but for the three below |
| attach_commands | top, step, trace: commands that attach to a running server |
| attach | the work of these three: find the server, run the view, choose the exit code |
| options | flags, made from the table of options; the help's headings |
| console | lines on stderr: started, stopping, warnings, errors |
| tables | tables and JSON on stdout |
| streams | stdout and stderr that cannot take a character, or anything at all |
| log | the process's log: levels, text format, JSON format |
| log_writer | the thread that writes log lines to stderr |
| routes | ``coserver routes`` |
| new | ``coserver new`` |
| har/ | ``coserver open`` and ``replay``: HAR files |
| dev_cert | ``coserver dev-cert`` |
| serve/ | ``coserver serve`` and ``dev`` |
| reload/ | ``--reload``: a supervisor, its child, a stand-in |
| config/ | ``coserver config check``, ``show`` and ``reference`` |
| doctor/ | ``coserver doctor`` |
| demo/ | ``coserver demo``: a small shop with traffic |
"""

__all__ = ["main"]


def main() -> None:
    """The entry point of the script ``coserver``."""
    try:
        import sys

        from .streams import one_line_errors, prepare

        prepare(as_json="--json" in sys.argv)
        with one_line_errors():
            from .overview import answer

            if not answer(sys.argv[1:]):
                from .commands import run  # slow enough for a Ctrl+C

                run()
    except KeyboardInterrupt:  # before the server handles signals
        raise SystemExit(130) from None
