//! TLS on a listener as written.

use super::super::listener::{Certificate, ClientCertificates, Tls, TlsVersion};
use super::key::{Entry, Key, Must, Or, Section, Table, section};
use super::kinds::{Choice, File, Flag, Lasting, MINUTE, WATCHED, Whole, choice, lasting, whole};
use super::shapes::{List, Sub, Switch, list, sub, switch, values};

section! {
    /// TLS on a listener.
    pub(super) TLS: TlsKeys {
        /// Certificates with their keys; the first is the default for unknown or missing SNI.
        certificates: List<Sub<Certificate>> = list(sub(&CERTIFICATE, certificate)), Or("[]");
        /// Oldest version of the protocol.
        min_version: Choice<TlsVersion> = choice(&[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)]), Or("'1.2'");
        /// Client certificates (mTLS).
        client_certificates: Switch<Sub<ClientCertificates>> = switch(sub(&CLIENTS, client_certificates)), Or("false");
        /// Longest handshake.
        handshake_timeout: Lasting = lasting(100, 5 * MINUTE), Or("'10s'");
        /// Handshakes under way at once, over all workers; further ones wait their turn, within `handshake_timeout`.
        max_handshakes: Whole<usize> = whole(1, 1_000_000), Or("1_000");
    }
}

/// What `tls` means. Whether it has certificates is for the listener to say, which may have them itself.
pub(super) fn tls(table: &Table<'_>) -> Option<Tls> {
    let certificates = table.get(&TLS.certificates).map(values);
    let min_version = table.get(&TLS.min_version);
    let client_certificates = table.get(&TLS.client_certificates);
    let handshake_timeout = table.get(&TLS.handshake_timeout);
    let max_handshakes = table.get(&TLS.max_handshakes);
    Some(Tls {
        certificates: certificates?,
        min_version: min_version?,
        client_certificates: client_certificates?,
        handshake_timeout: handshake_timeout?,
        max_handshakes: max_handshakes?,
    })
}

section! {
    /// A certificate chain with its key.
    CERTIFICATE: CertificateKeys {
        /// PEM file, leaf first.
        certificate: File = WATCHED, Must();
        /// PEM file: PKCS#8, PKCS#1 or SEC1.
        key: File = WATCHED, Must();
    }
}

fn certificate(table: &Table<'_>) -> Option<Certificate> {
    let (certificate, key) = (table.get(&CERTIFICATE.certificate), table.get(&CERTIFICATE.key));
    Some(Certificate { certificate: certificate?, key: key? })
}

section! {
    /// Certificates of clients (mTLS).
    CLIENTS: ClientsKeys {
        /// PEM file of the authorities that sign them.
        authorities: File = WATCHED, Must();
        /// Whether a client without one is refused in the handshake.
        required: Flag = Flag, Or("true");
    }
}

fn client_certificates(table: &Table<'_>) -> Option<ClientCertificates> {
    let (authorities, required) = (table.get(&CLIENTS.authorities), table.get(&CLIENTS.required));
    Some(ClientCertificates { authorities: authorities?, required: required? })
}
