"""The TLS options of an upstream: which certificates to trust, which to show. They make an SSL context."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ..field import option
from ..keywords import checked_fields

if TYPE_CHECKING:
    from ssl import SSLContext

#: The choices for the lowest version of TLS. Older versions are broken (RFC 8996).
_VERSIONS = ("1.2", "1.3")


@checked_fields("UpstreamTls")
@dataclass(frozen=True, kw_only=True)
class UpstreamTls:
    """TLS options: ``UpstreamTls(ca_certs="our-ca.pem")``; Upstream reads the files. Raises ValueError, TypeError."""

    ca_certs: str | None = option(
        None, "a PEM file, or a folder, of the authorities that sign members' certificates; the system's if not given"
    )
    certfile: str | None = option(None, "a PEM file: the certificate, and its chain, that is shown to members")
    keyfile: str | None = option(None, "its private key, if that does not stand in the certificate's file")
    keyfile_password: str | None = option(None, "what the key is encrypted with", secret=True)
    server_name: str | None = option(
        None,
        "the name that members' certificates are for, and that they are told; the one in their address if not given",
    )
    verify: bool = option(True, "whether members' certificates are checked; false takes anybody's: for a test at most")
    min_version: str = option("1.2", "the lowest version of TLS that is spoken", of=_VERSIONS)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "verify":
                if not isinstance(value, bool):
                    raise TypeError(f"verify is True or False; got {value!r}")
            elif value is not None and (not isinstance(value, str) or not value or "\0" in value):
                raise TypeError(f"{each.name} is a text; got {'something else' if not each.repr else repr(value)}")
        if self.min_version not in _VERSIONS:
            raise ValueError(f"min_version is {' or '.join(_VERSIONS)}; got {self.min_version!r}")

    def check(self) -> None:
        """Check that the options go together. Raises ValueError."""
        if self.certfile is None and (self.keyfile or self.keyfile_password):
            raise ValueError("a key goes with its certificate: give certfile too")
        if not self.verify and self.ca_certs:
            raise ValueError("verify = false trusts everybody: leave it out, or ca_certs")

    def load(self) -> SSLContext:
        """Read the files, and make the context. Raises ValueError that says which file, why, and the way out."""
        import ssl  # 10 ms, for those who need it

        from ..transport.certificates import VERSIONS, load_pair

        self.check()
        context = ssl.create_default_context() if self.ca_certs is None else _trusting(self.ca_certs)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.minimum_version = VERSIONS[self.min_version]
        if self.certfile is not None:
            load_pair(context, self.certfile, self.keyfile or self.certfile, self.keyfile_password)
        return context


def _trusting(path: str) -> SSLContext:
    import ssl

    from ..transport.certificates import why

    try:
        if os.path.isdir(path):
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # SSLError is an OSError
        raise ValueError(
            f"no authorities can be read from {path}: {why(error)}; take a PEM file of certificates"
        ) from None
