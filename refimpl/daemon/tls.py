"""TLS for the TCP listener: files become credentials, or an error that names the file. Clauses DMN-031, DMN-032."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from refimpl.daemon.sockets import ListenError


def credentials(certificate: str, key: str, authority: str = "") -> grpc.ServerCredentials:
    """Credentials of a server.

    Args:
        certificate, key, authority: PEM files; with an authority, clients need a certificate that it signed.

    Raises:
        ListenError: a file that cannot be read, or a key that does not belong to the certificate.
    """
    pair = _read(key), _read(certificate)
    try:
        # gRPC would only log a pair that does not fit, and refuse each client later.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise ListenError(f"tls: private key does not match public key ({certificate}, {key}): {error}") from error
    if not authority:
        return grpc.ssl_server_credentials([pair])
    try:
        roots = _read(authority)
    except ListenError as error:
        raise ListenError(f"failed to load CA file: {error}") from error
    return grpc.ssl_server_credentials([pair], roots, require_client_auth=True)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ListenError(f"open {path}: {(error.strerror or '').lower()}") from error
