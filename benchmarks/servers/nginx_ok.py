"""nginx that answers by itself, with `return 200`: `python -m benchmarks.servers.nginx_ok PORT`."""

import os
import sys
import tempfile
from pathlib import Path

from benchmarks.backend import CONFIGURATION, find_nginx

if __name__ == "__main__":
    folder = tempfile.mkdtemp(prefix="nginx-ok-")
    path = Path(folder, "nginx.conf")
    path.write_text(CONFIGURATION.format(folder=folder, port=sys.argv[1]))
    nginx = find_nginx()
    os.execv(nginx, [nginx, "-e", "stderr", "-p", folder, "-c", str(path)])
