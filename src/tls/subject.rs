//! The subject of a client certificate as text (RFC 4514).
//!
//! Floor 3. Whatever is not visible ASCII is written as pairs of hexadecimal digits (§2.4), so that the text is a
//! header's value as it stands and no attribute can forge another one.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{AttributeTypeAndValue, FromDer as _, X509Certificate};

use crate::head::HeaderValue;

/// Longest subject in bytes. Beyond it the certificate is refused: half a name may be somebody else's.
const MAX: usize = 2048;

/// Why a certificate has no usable subject.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubjectError {
    /// The certificate cannot be understood.
    #[error("malformed certificate")]
    Malformed,
    /// The subject exceeds [`MAX`].
    #[error("subject longer than {MAX} bytes")]
    TooLong,
}

/// The subject; empty when the certificate has none.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Result<HeaderValue, SubjectError> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| SubjectError::Malformed)?;
    let mut names: Vec<_> = certificate.subject().iter_rdn().collect();
    // RFC 4514 §2.1: starting with the last element.
    names.reverse();
    let mut text = String::new();
    for (place, name) in names.into_iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        for (place, attribute) in name.iter().enumerate() {
            if place > 0 {
                text.push('+');
            }
            write(attribute, &mut text);
            if text.len() > MAX {
                return Err(SubjectError::TooLong);
            }
        }
    }
    HeaderValue::try_from(text).map_err(|_| SubjectError::Malformed)
}

fn write(attribute: &AttributeTypeAndValue<'_>, text: &mut String) {
    let oid = attribute.attr_type().to_id_string();
    match (short_name(&oid), attribute.as_str()) {
        (Some(name), Ok(value)) => {
            text.push_str(name);
            text.push('=');
            escape(value, text);
        }
        // RFC 4514 §2.4: what has no string form is written as the hexadecimal form of its encoding.
        (name, _) => {
            text.push_str(name.unwrap_or(&oid));
            text.push_str("=#");
            let value = attribute.attr_value();
            let length = value.data.len();
            hex(u8::try_from(value.header.tag().0).unwrap_or(0), text);
            match u8::try_from(length) {
                Ok(short @ ..0x80) => hex(short, text),
                Ok(long) => [0x81, long].into_iter().for_each(|byte| hex(byte, text)),
                Err(_) => {
                    hex(0x82, text);
                    // Certificates are at most 64 KiB in TLS.
                    let length = u16::try_from(length).unwrap_or(u16::MAX);
                    length.to_be_bytes().into_iter().for_each(|byte| hex(byte, text));
                }
            }
            // Beyond the bound it is refused anyway.
            value.data.iter().take(MAX).for_each(|byte| hex(*byte, text));
        }
    }
}

/// RFC 4514 §3, and the one that OpenSSL adds.
fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

/// Writes a value so that it stands for itself (RFC 4514 §2.4).
fn escape(value: &str, text: &mut String) {
    let last = value.len().saturating_sub(1);
    for (place, byte) in value.bytes().enumerate().take(MAX + 1) {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' ' if place == 0 || place == last => text.push_str("\\ "),
            b'#' if place == 0 => text.push_str("\\#"),
            0x20..=0x7e => text.push(char::from(byte)),
            _ => {
                text.push('\\');
                hex(byte, text);
            }
        }
    }
}

fn hex(byte: u8, text: &mut String) {
    for digit in [byte >> 4, byte & 15] {
        text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase());
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn named(attributes: &[(DnType, &str)]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn subject_begins_with_the_most_specific_name() {
        let certificate =
            named(&[(DnType::CountryName, "DE"), (DnType::OrganizationName, "Ops"), (DnType::CommonName, "ana")]);

        assert_eq!(subject(&certificate).unwrap(), "CN=ana,O=Ops,C=DE");
    }

    #[test]
    fn value_cannot_pose_as_another_attribute_or_leave_the_line() {
        let certificate = named(&[(DnType::CommonName, " eve,O=Admins+UID=0\r\nx: ü ")]);

        assert_eq!(subject(&certificate).unwrap(), r"CN=\ eve\,O\=Admins\+UID\=0\0D\0Ax: \C3\BC\ ");
    }

    #[test]
    fn unknown_attribute_is_written_in_hexadecimal() {
        let certificate = named(&[(DnType::CustomDnType(vec![2, 5, 4, 5]), "7")]);

        assert_eq!(subject(&certificate).unwrap(), "2.5.4.5=#0C0137");
    }

    #[test]
    fn overlong_subject_is_refused() {
        let certificate = named(&[(DnType::CommonName, &"x".repeat(3000))]);

        assert!(matches!(subject(&certificate), Err(SubjectError::TooLong)));
    }
}
