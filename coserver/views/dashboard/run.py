"""``coserver top``: the dashboard in a terminal. Its loop never waits for the server: a Session's threads do."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from ...control.client import Client
from ...observe.snapshot.snapshot import Snapshot
from ..live import TABLES, UPSTREAMS
from . import editor, screen
from .keys import press
from .model import Command, Dashboard
from .session import REFRESH, Session
from .terminal import Terminal


def run(client: Client, filter: str = "", *, ended: Callable[[], bool] = lambda: False, out: int | None = None,
    quits: str = "quit",
) -> None:
    """Run until a person quits, or ``ended()`` is true. ``out`` is the terminal's descriptor, if it is not stdout.

    ``quits`` is what the key q does, in words.
    Raises FilterError; OSError without a terminal.
    """
    board = Dashboard(filter)
    board.quits = quits
    with Terminal(out) as terminal:
        session = Session(client, board, terminal.wake, terminal.copy)
        session.start()
        try:
            while not board.ended and not ended():
                try:
                    _once(terminal, session)
                except KeyboardInterrupt:
                    if board.prompt is None:
                        break
                    board.prompt = None  # Ctrl+C leaves only the prompt
                    terminal.redraw()
        except KeyboardInterrupt:
            pass
        finally:
            session.stop()


def _once(terminal: Terminal, session: Session) -> None:
    """Draw, and carry out the pressed keys."""
    board = session.board
    with session.lock:
        width, height = terminal.size
        found = screen.lines(board, width, height)
    terminal.draw(found)
    for key in terminal.keys(REFRESH):
        with session.lock:
            command = press(board, key)
        if command is not None and command.what == "redraw":
            terminal.redraw()
        elif command is not None and command.what == "copy":
            terminal.copy(command.given["text"])
        elif command is not None and command.what == "editor":
            _edit(terminal, session, command.given["which"])
        elif command is not None:
            session.commands.put(command)
    if session.failure is not None:
        raise session.failure


def _edit(terminal: Terminal, session: Session, which: int) -> None:
    """Edit in the user's editor. Text with an error is kept for the next try."""
    board = session.board
    with session.lock:
        held = board.held.get(which)
    if held is None:
        return
    draft = board.draft[1] if board.draft is not None and board.draft[0] == which else None
    try:
        text = editor.edit(terminal, held, editor.as_text(held) if draft is None else draft)
        with session.lock:
            board.draft = (which, text)
        changes = editor.changes_in(held, text)
    except (OSError, ValueError) as error:
        with session.lock:
            board.say(str(error), wrong=True)
        return
    if changes:
        session.commands.put(Command("edit", {"which": which, "changes": changes}))
    else:
        with session.lock:
            board.draft = None
            board.say("nothing is changed")


def print_snapshot(snapshot: Snapshot) -> None:
    """Print a snapshot as tables."""
    console = Console(highlight=False, emoji=False)
    for view in TABLES:
        if view is UPSTREAMS and not snapshot.upstreams:
            continue
        console.print(view.render(snapshot))
        console.print()
