"""The certificate of all servers under TLS, made anew for each benchmark: ECDSA P-256, as most sites have."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path


@cache
def files() -> tuple[str, str]:
    """The paths of certificate and key. The files are removed when the benchmark ends."""
    import trustme

    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    return str(certificate), str(key)
