"""The command ``coserver``: it parses, calls the library and renders what comes back. No logic of its own."""

__all__ = ["main"]


def main() -> None:
    """The entry point of the script ``coserver``."""
    try:
        from .commands import run  # takes long enough for a Ctrl+C

        run()
    except KeyboardInterrupt:  # before the server has begun to heed signals
        raise SystemExit(130) from None
