"""A folder served below a prefix. No path leads a client to a file outside the folder."""

from __future__ import annotations

import errno
import os
from os import PathLike

from ..server.handler.bodies import FileBody
from ..server.handler.errors import HTTPException, SetupError
from ..server.handler.request import Request
from ..server.handler.response import Response

#: Errors of the file system that mean 404: the path leads to no file. A pipe or a device raises EINVAL.
_NOT_FOUND = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO,
     errno.EISDIR})  # fmt: skip
#: Segments that are no file names.
_NO_NAMES = frozenset({"", ".", ".."})


class StaticFolder:
    """``root`` is the folder's real path. ``index`` is the file that answers for a directory; None: 404.

    ``hidden``: whether names that begin with a dot are served. Such files may be keys and repositories.
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
        # Some programs take an encoded separator for a separator, others for a part of a name. No file name holds it.
        if "%" in raw and ("%2f" in raw.lower() or "%5c" in raw.lower()):
            raise HTTPException(404)
        try:
            return self._response(request, path)
        except PermissionError as error:
            raise HTTPException(403) from error
        except OSError as error:
            if error.errno in _NOT_FOUND:
                raise HTTPException(404) from error
            raise
        except ValueError as error:  # the file system's encoding cannot express the name
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
        """Refuse segments that are no names, or hidden ones. Raises HTTPException (404)."""
        for segment in path.removesuffix("/").split("/") if path else ():
            if segment in _NO_NAMES or "\0" in segment or "\\" in segment or (segment[0] == "." and not self.hidden):
                raise HTTPException(404)

    def _open(self, path: str) -> Response:
        """Open the file first, then check its real path, so that no link can be changed in between.

        Raises HTTPException (404), OSError.
        """
        response = Response.file(self._below_root + path)
        assert isinstance(response.body, FileBody)
        if not response.body.real_path().startswith(self._below_root):
            response.body.close()
            raise HTTPException(404)
        return response


def _with_slash(request: Request) -> Response:
    """Redirect to the same path with a slash, by a relative location.

    That keeps a proxy's prefix, and no name in it can be taken for a host or a scheme.
    """
    name = request.head.path.rpartition("/")[2]
    query = f"?{request.query_string}" if request.query_string else ""
    return Response.redirect(f"./{name}/{query}")
