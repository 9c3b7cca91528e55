"""A folder served below a prefix. Whatever a client writes, it gets a file inside the folder, or nothing."""

from __future__ import annotations

import errno
import os
from os import PathLike

from ..server.handler.bodies import FileBody
from ..server.handler.errors import HTTPException, SetupError
from ..server.handler.request import Request
from ..server.handler.response import Response

#: What the file system says of a path that leads to no file: to a client it is not there. A pipe or a device is EINVAL.
_NOWHERE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO,
     errno.EISDIR})  # fmt: skip
#: Segments that are no name.
_ASTRAY = frozenset({"", ".", ".."})


class StaticFolder:
    """``root`` is the folder's real path; ``index`` what a directory is answered with, None for nothing.

    ``hidden``: whether what begins with a dot is served; by default not, for there lie keys and repositories.
    """

    def __init__(self, folder: str | PathLike[str], index: str | None, hidden: bool) -> None:
        """Raises SetupError."""
        path = os.fsdecode(folder)
        if not os.path.isdir(path):
            raise SetupError(f"a static folder must exist when it is named; got {path!r}, in {os.getcwd()!r}")
        if index is not None and (not index or os.path.basename(index) != index):
            raise SetupError(f"index is the name of a file, or None; got {index!r}")
        self.root = os.path.realpath(path)
        self._below_root = os.path.join(self.root, "")
        self.index = index
        self.hidden = hidden

    def __repr__(self) -> str:
        return f"<StaticFolder {self.root!r}>"

    async def serve_root(self, request: Request) -> Response:
        return self._serve(request, "")

    async def serve(self, request: Request, path: str) -> Response:
        return self._serve(request, path)

    def _serve(self, request: Request, path: str) -> Response:
        """The file at ``path``, its percent-encoding undone. Raises HTTPException (403, 404), OSError."""
        raw = request.head.path
        # An encoded separator is part of a name to some and a separator to others; no file's name holds one.
        if "%" in raw and ("%2f" in raw.lower() or "%5c" in raw.lower()):
            raise HTTPException(404)
        try:
            return self._response(request, path)
        except PermissionError as error:
            raise HTTPException(403) from error
        except OSError as error:
            if error.errno in _NOWHERE:
                raise HTTPException(404) from error
            raise
        except ValueError as error:  # the file system's encoding has no such name
            raise HTTPException(404) from error

    def _response(self, request: Request, path: str) -> Response:
        """Raises HTTPException (404), OSError."""
        self._check(path)
        index = f"{path.rstrip('/')}/{self.index}".lstrip("/") if self.index else ""
        if not request.head.path.endswith("/"):
            try:
                return self._open(path)
            except IsADirectoryError:
                if index and self._open(index):
                    return _with_slash(request)
        elif index:
            return self._open(index)
        raise HTTPException(404)

    def _check(self, path: str) -> None:
        """Refuse what could only lead astray. Raises HTTPException (404)."""
        for segment in path.removesuffix("/").split("/") if path else ():
            if segment in _ASTRAY or "\0" in segment or "\\" in segment or (segment[0] == "." and not self.hidden):
                raise HTTPException(404)

    def _open(self, path: str) -> Response:
        """It is opened first and then looked at, where it lies: no link can be turned in between.

        Raises HTTPException (404), OSError.
        """
        response = Response.file(self._below_root + path)
        assert isinstance(response.body, FileBody)
        if not response.body.real_path().startswith(self._below_root):
            response.body.close()
            raise HTTPException(404)
        return response


def _with_slash(request: Request) -> Response:
    """Relative to where the client is: no prefix is lost on the way, and no name is taken for a host or a scheme."""
    name = request.head.path.rpartition("/")[2]
    query = f"?{request.query_string}" if request.query_string else ""
    return Response.redirect(f"./{name}/{query}")
