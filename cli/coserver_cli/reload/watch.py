"""The files whose changes cause a reload, and the thread that watches them with watchfiles."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

#: Suffixes of an app's files. An environment file is ``.env``, ``.env.local`` or ``staging.env``.
ENDINGS = frozenset({".py", ".toml", ".env"})
#: Folders without hand-written files of the app.
PASSED_OVER = frozenset(
    {"__pycache__", ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "site-packages", ".tox", ".nox", ".idea"}
    | {".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints"}
)
#: Milliseconds of quiet that end a burst of changes: an editor's "save all", a formatter, a checkout.
QUIET = 50

MISSING = "a reload needs watchfiles, which is not installed"
INSTALL = "pip install 'coserver[dev]', or run coserver serve without --reload"


def can_watch() -> bool:
    return find_spec("watchfiles") is not None


class WatchedFolders:
    """Watched folders, and the files in them that count."""

    def __init__(self, folders: Iterable[Path]) -> None:
        resolved = {folder.resolve() for folder in folders}
        #: None lies inside another, so each change is reported once.
        self.folders = sorted(one for one in resolved if not any(one != two and two in one.parents for two in resolved))
        # A virtual environment may have any name; this file marks it.
        self._environments = {file.parent for folder in self.folders for file in folder.glob("*/pyvenv.cfg")}

    def counts(self, file: Path) -> bool:
        """Whether a change of this file causes a reload."""
        if file.suffix not in ENDINGS and not file.name.startswith(".env"):
            return False
        folder = next((folder for folder in self.folders if folder in file.parents), None)
        if folder is None or any(one in file.parents for one in self._environments):
            return False
        # Only below the watched folder: the project itself may lie in a node_modules.
        return PASSED_OVER.isdisjoint(file.relative_to(folder).parts[:-1])

    def watch(self, changed: Callable[[dict[Path, str]], None], failed: Callable[[str], None]) -> Callable[[], None]:
        """Start a thread that calls ``changed`` with each burst: files, and "added", "modified" or "deleted".

        It calls ``failed`` if the system cannot watch. Returns a function that ends the thread.
        """
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop, changed, failed), name="coserver watch", daemon=True)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join()

        return end

    def _run(
        self, stop: threading.Event, changed: Callable[[dict[Path, str]], None], failed: Callable[[str], None]
    ) -> None:
        from watchfiles import watch

        try:
            for burst in watch(
                *self.folders,
                watch_filter=lambda _, path: self.counts(Path(path)),
                step=QUIET,
                stop_event=stop,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                changed({Path(path): change.name for change, path in burst})
        except OSError as error:  # most often: no inotify watches are left
            failed(str(error))
