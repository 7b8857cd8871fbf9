//! `[image] verity`: whether an image protects itself, and who signs that it is what it was.
//!
//! Owns how that is written, and what a certificate is. Refuses to know how anything is signed: a key
//! is only named here.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use der::{Decode, Encode};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use super::SecretAt;
use crate::name::Sha256;

/// How the block of a certificate in text form is called.
const LABEL: &str = "CERTIFICATE";
/// The longest file that is read for one, in bytes.
const LONGEST: u64 = 1 << 20;

/// How an image protects itself.
#[derive(Debug, Clone)]
pub enum Verity {
    /// With a hash tree.
    Tree,
    /// With a hash tree, the root of which is signed.
    Signed(Arc<SealRule>),
}

/// Who signs.
#[derive(Debug, Clone)]
pub struct SealRule {
    /// With what.
    pub by: SealedBy,
    /// Where the certificate of the key is.
    pub at: SecretAt,
    /// The certificate itself, once the configuration was read.
    pub certificate: Option<Certificate>,
    /// Where files and programs are looked for, once the configuration was read.
    pub folder: PathBuf,
}

/// What signs.
#[derive(Debug, Clone)]
pub enum SealedBy {
    /// We, with this key.
    Key(SecretAt),
    /// A program: it reads what is to be signed, and writes the signature.
    Command(Vec<String>),
}

/// `[image.verity]`: who signs the root of the tree.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Table {
    /// The secret key, an RSA key in PEM.
    key: Option<SecretAt>,
    /// A program that signs instead: it reads what is to be signed, and writes the signature.
    command: Option<Vec<String>>,
    /// The certificate of the key, which nodes have in `/etc/verity.d`.
    certificate: SecretAt,
}

impl TryFrom<Table> for SealRule {
    type Error = &'static str;
    fn try_from(Table { key, command, certificate: at }: Table) -> Result<Self, Self::Error> {
        let by = match (key, command) {
            (Some(key), None) => SealedBy::Key(key),
            (None, Some(command)) if command.first().is_some_and(|program| !program.is_empty()) => {
                SealedBy::Command(command)
            }
            (None, Some(_)) => {
                return Err("`command` names no program\nhint: such as [\"./sign.sh\"]");
            }
            (Some(_), Some(_)) => {
                return Err("`key` and `command` are two who sign\nhint: leave one out");
            }
            (None, None) => {
                return Err(
                    "who signs?\nhint: add key = { env = \"NAME\" } or { file = \"FILE\" }, or command = [\"PROGRAM\"]; verity = true signs nothing",
                );
            }
        };
        Ok(Self { by, at, certificate: None, folder: PathBuf::new() })
    }
}

/// `true`, `false`, or a table.
pub(super) fn verity<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Verity>, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = Option<Verity>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("`true`, or `{ key = …, certificate = … }`")
        }
        fn visit_bool<E: serde::de::Error>(self, wanted: bool) -> Result<Self::Value, E> {
            Ok(wanted.then_some(Verity::Tree))
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            let raw = Table::deserialize(MapAccessDeserializer::new(map))?;
            let rule = SealRule::try_from(raw).map_err(serde::de::Error::custom)?;
            Ok(Some(Verity::Signed(Arc::new(rule))))
        }
    }
    from.deserialize_any(Either)
}

impl Verity {
    /// The certificate that images are signed for.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        match self {
            Self::Tree => None,
            Self::Signed(rule) => rule.certificate.as_ref(),
        }
    }
}

impl Verity {
    /// Reads the certificate that it names, looked for from the folder of the component's file.
    pub(super) fn load(&mut self, folder: &Path) -> Result<(), String> {
        let Self::Signed(rule) = self else { return Ok(()) };
        let rule = Arc::make_mut(rule);
        folder.clone_into(&mut rule.folder);
        let (named, bytes) = match &rule.at {
            SecretAt::Env(name) => {
                let value = std::env::var(name).ok().filter(|value| !value.trim().is_empty());
                let lacking = || {
                    format!(
                        "the environment has no `{name}`\nhint: it is the certificate itself, in PEM form"
                    )
                };
                (name.clone(), value.ok_or_else(lacking)?.into_bytes())
            }
            SecretAt::File(file) => {
                let named = file.display().to_string();
                let bytes = read(&folder.join(file)).map_err(|error| {
                    format!("`{named}` cannot be read: {error}\nhint: the path is relative to the folder of this file")
                })?;
                (named, bytes)
            }
            SecretAt::Credential(name) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY").unwrap_or_default();
                let bytes = read(&Path::new(&folder).join(name)).map_err(|error| {
                    format!("the credential `{name}` cannot be read: {error}\nhint: LoadCredential= of the service gives it")
                })?;
                (name.clone(), bytes)
            }
        };
        let certificate = Certificate::parse(&bytes).and_then(|certificate| {
            certificate.key()?;
            Ok(certificate)
        });
        rule.certificate = Some(
            certificate.map_err(|error| format!("`{named}` {error}\nhint: {}", error.hint()))?,
        );
        Ok(())
    }
}

/// Reads a file that somebody names, unless it is none or too long to be a certificate.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe would wait for somebody to write.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("it is longer than {LONGEST} bytes")));
    }
    Ok(bytes)
}

/// Something that is no certificate.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    File(io::Error),
    /// It is a secret.
    #[error("is a key, and no certificate")]
    Key,
    /// It is something else.
    #[error("is no certificate in PEM or DER form")]
    Other,
    /// It has no key that images can be signed with.
    #[error(
        "is for no RSA key: the kernel takes others too, but what they sign is never the same twice"
    )]
    NotRsa,
}

impl CertificateError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File(_) => "it is a text that begins with -----BEGIN CERTIFICATE-----",
            Self::Key | Self::Other | Self::NotRsa => MADE,
        }
    }
}

/// How one is had.
const MADE: &str = "`openssl req -x509 -newkey rsa:3072 -nodes -keyout verity.key -out verity.crt -days 3650 -subj /CN=NAME` makes a key and its certificate";

/// An X.509 certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    /// The same, taken apart.
    read: Box<x509_cert::Certificate>,
}

impl Certificate {
    /// Reads the one in a file.
    ///
    /// # Errors
    /// There is none.
    pub fn open(path: &Path) -> Result<Self, CertificateError> {
        read(path).map_err(CertificateError::File).and_then(|bytes| Self::parse(&bytes))
    }

    /// Reads the first one of a text, or one alone in binary form.
    ///
    /// # Errors
    /// There is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        if !bytes.starts_with(b"0") {
            let (label, der) =
                der::pem::decode_vec(first_block(bytes)).map_err(|_| CertificateError::Other)?;
            if label.ends_with("PRIVATE KEY") {
                return Err(CertificateError::Key);
            }
            if label != LABEL {
                return Err(CertificateError::Other);
            }
            return Self::from_der(der);
        }
        Self::from_der(bytes.to_vec())
    }

    /// Reads one in binary form.
    ///
    /// # Errors
    /// It is none.
    pub fn from_der(der: Vec<u8>) -> Result<Self, CertificateError> {
        let read = x509_cert::Certificate::from_der(&der).map_err(|_| CertificateError::Other)?;
        // It is written into every signature as it was read.
        if read.to_der().ok().as_ref() != Some(&der) {
            return Err(CertificateError::Other);
        }
        Ok(Self { der, read: Box::new(read) })
    }

    /// Its bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// As text.
    #[must_use]
    pub fn pem(&self) -> String {
        der::pem::encode_string(LABEL, der::pem::LineEnding::LF, &self.der)
            .expect("a certificate is short")
    }

    /// All of it.
    #[must_use]
    pub fn read(&self) -> &x509_cert::Certificate {
        &self.read
    }

    /// Which one it is.
    #[must_use]
    pub fn fingerprint(&self) -> Sha256 {
        Sha256::of(&self.der)
    }

    /// Whose it is.
    #[must_use]
    pub fn subject(&self) -> String {
        self.read.tbs_certificate.subject.to_string()
    }

    /// Its RSA key, as PKCS#1 writes it.
    ///
    /// # Errors
    /// It has another one.
    pub fn key(&self) -> Result<&[u8], CertificateError> {
        let key = &self.read.tbs_certificate.subject_public_key_info;
        let bytes = key.subject_public_key.as_bytes();
        bytes
            .filter(|_| key.algorithm.oid == der::oid::db::rfc5912::RSA_ENCRYPTION)
            .ok_or(CertificateError::NotRsa)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, {})", self.subject(), self.fingerprint())
    }
}

/// The first block of a text, of several behind each other.
pub(crate) fn first_block(text: &[u8]) -> &[u8] {
    let end = text.windows(9).position(|at| at == b"-----END ");
    let Some(end) = end else { return text };
    let line = text[end..].iter().position(|byte| *byte == b'\n');
    line.map_or(text, |line| &text[..=end + line])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Rule {
        #[serde(deserialize_with = "verity")]
        verity: Option<Verity>,
    }

    fn read(text: &str) -> Result<Option<Verity>, String> {
        toml::from_str::<Rule>(&format!("verity = {text}"))
            .map(|rule| rule.verity)
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn verity_is_a_word_or_a_table() {
        assert!(matches!(read("true"), Ok(Some(Verity::Tree))));
        assert!(matches!(read("false"), Ok(None)));
        let at = "certificate = { file = \"verity.crt\" }";
        let Ok(Some(Verity::Signed(rule))) =
            read(&format!("{{ key = {{ env = \"KEY\" }}, {at} }}"))
        else {
            panic!("it is signed");
        };
        assert!(matches!(&rule.by, SealedBy::Key(SecretAt::Env(name)) if name == "KEY"));
        let Ok(Some(Verity::Signed(rule))) = read(&format!("{{ command = [\"sign\"], {at} }}"))
        else {
            panic!("it is signed");
        };
        assert!(matches!(&rule.by, SealedBy::Command(command) if command == &["sign"]));
    }

    #[test]
    fn who_signs_is_one_and_has_a_certificate() {
        let at = "certificate = { file = \"verity.crt\" }";
        let key = "key = { env = \"KEY\" }";
        for text in [
            format!("{{ {at} }}"),
            format!("{{ {key} }}"),
            format!("{{ {key}, command = [\"sign\"], {at} }}"),
            format!("{{ command = [], {at} }}"),
            format!("{{ {key}, {at}, salt = 1 }}"),
            "\"yes\"".to_owned(),
        ] {
            assert!(read(&text).is_err(), "{text}");
        }
        // Whoever writes the key itself there does not see it again.
        let error = read(&format!("{{ key = \"-----BEGIN\", {at} }}")).unwrap_err();
        assert!(!error.contains("BEGIN"), "{error}");
    }
}
