//! The names a repository is made of: components, folders, image files, architectures, digests.
//!
//! Owns what each name may look like, because a name that a client refuses makes it refuse the
//! whole manifest. Knows nothing of where names come from or what they stand for.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A name that cannot be used, and what would be right.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// A component, folder or file name with a character outside the safe set.
    #[error("{what} `{name}` {problem}")]
    Malformed {
        /// What kind of name it is.
        what: &'static str,
        /// The name, control characters escaped.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An architecture that systemd has no such name for.
    #[error("unknown architecture `{name}`{}", hint.map(|h| format!("\nhint: systemd calls it {h}")).unwrap_or_default())]
    Architecture {
        /// The name as it was written.
        name: String,
        /// systemd's name for it, where the name is another project's.
        hint: Option<Arch>,
    },
    /// Not 64 hexadecimal digits.
    #[error("`{0}` is not a SHA-256 digest (64 hexadecimal digits)")]
    Digest(String),
}

fn malformed(what: &'static str, name: &str, problem: &'static str) -> NameError {
    NameError::Malformed { what, name: name.escape_debug().to_string(), problem }
}

/// True for the characters that every known client takes in a name: `[A-Za-z0-9.,_+-]`.
///
/// systemd 262 also takes `~` and `^`; 257 drops such lines silently.
#[must_use]
pub fn is_portable(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | ',' | '_' | '+' | '-')
}

fn check_portable(what: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(malformed(what, name, "is empty"));
    }
    if name.len() > 255 {
        return Err(malformed(what, name, "is longer than 255 bytes"));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(malformed(what, name, "must start with a letter or a digit"));
    }
    if !name.chars().all(is_portable) {
        return Err(malformed(
            what,
            name,
            "has a character outside A-Z a-z 0-9 . , _ + -, which clients refuse",
        ));
    }
    Ok(())
}

macro_rules! string_newtype {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                name.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

/// The name of a component: `tailscale`. Also the name under which a node merges its image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ComponentName(String);
string_newtype!(ComponentName);

impl FromStr for ComponentName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        check_portable("component name", name)?;
        Ok(Self(name.to_owned()))
    }
}

/// The name of a file that a manifest may list: `tailscale-1.58.1-x86-64.raw`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);
string_newtype!(FileName);

impl FileName {
    /// The name without its last ending: what a client looks for in the extension-release.
    #[must_use]
    pub fn stem(&self) -> &str {
        self.0.rsplit_once('.').map_or(&self.0, |(stem, _)| stem)
    }
}

impl FromStr for FileName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        check_portable("file name", name)?;
        Ok(Self(name.to_owned()))
    }
}

/// A folder of the repository, relative to its root, without a final slash: `ts` or `tools/ts`.
///
/// No segment starts with a dot, so that none is `..` or publish's own `.publish`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[A-Za-z0-9]", "examples" = ["tools/ts"]))]
pub struct Folder(String);
string_newtype!(Folder);

impl FromStr for Folder {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        let trimmed = name.strip_suffix('/').unwrap_or(name);
        if trimmed.split('/').any(|segment| segment.starts_with("SHA256SUMS")) {
            return Err(malformed("folder", name, "has the name of a manifest"));
        }
        for segment in trimmed.split('/') {
            check_portable("folder", segment)
                .map_err(|_| malformed("folder", name, "must be relative, of segments that start with a letter or a digit and hold only A-Z a-z 0-9 . , _ + -"))?;
        }
        Ok(Self(trimmed.to_owned()))
    }
}

impl From<&ComponentName> for Folder {
    fn from(name: &ComponentName) -> Self {
        Self(name.0.clone())
    }
}

macro_rules! architectures {
    ($($variant:ident = $name:literal $(| $alias:literal)*),* $(,)?) => {
        /// A processor architecture, under systemd's name for it (`ConditionArchitecture=` in
        /// systemd.unit(5); what `%a` stands for in sysupdate.d(5)).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "&'static str")]
        #[schemars(extend("pattern" = concat!("^(", $("|", $name,)* ")$").replacen('|', "", 1)))]
        pub enum Arch {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Arch {
            /// Every architecture, in the order of this page.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// systemd's name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What other projects call an architecture: `amd64`, `aarch64`.
            fn from_alias(name: &str) -> Option<Self> {
                match name { $($($alias => Some(Self::$variant),)*)* _ => None }
            }
        }
    };
}

architectures! {
    X86_64 = "x86-64" | "amd64" | "x86_64" | "x64",
    X86 = "x86" | "i386" | "i486" | "i586" | "i686" | "386",
    Arm64 = "arm64" | "aarch64" | "armv8",
    Arm = "arm" | "armhf" | "armv7" | "armv7l" | "armv6" | "armv6l" | "armel",
    Riscv64 = "riscv64" | "riscv" | "riscv64gc",
    Riscv32 = "riscv32",
    Loongarch64 = "loongarch64" | "loong64",
    Ppc64Le = "ppc64-le" | "ppc64le" | "powerpc64le" | "ppc64el",
    Ppc64 = "ppc64" | "powerpc64",
    S390x = "s390x",
    Mips64Le = "mips64-le" | "mips64le" | "mips64el",
    MipsLe = "mips-le" | "mipsle" | "mipsel",
}

impl Arch {
    /// What stands for all of them, where a file is for no one in particular and its name says none.
    pub const ANY: Self = Self::ALL[0];

    /// The architecture of the machine this program was built for, if systemd knows it.
    #[must_use]
    pub fn native() -> Option<Self> {
        let name = std::env::consts::ARCH;
        name.parse().ok().or_else(|| Self::from_alias(name))
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Arch {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::ALL.iter().copied().find(|arch| arch.as_str() == name).ok_or_else(|| {
            NameError::Architecture {
                name: name.escape_debug().to_string(),
                hint: Self::from_alias(&name.to_ascii_lowercase()),
            }
        })
    }
}

impl TryFrom<String> for Arch {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        name.parse()
    }
}

impl From<Arch> for &'static str {
    fn from(arch: Arch) -> Self {
        arch.as_str()
    }
}

/// A SHA-256 digest: 32 bytes, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-9A-Fa-f]{64}$"))]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of bytes that are already in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The result of a hasher that was fed elsewhere.
    #[must_use]
    pub fn from_hasher(hasher: sha2::Sha256) -> Self {
        use sha2::Digest;
        Self(hasher.finalize().into())
    }

    /// The digest as it is.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest and length in bytes of all that `reader` gives.
    ///
    /// # Errors
    /// Whatever reading fails with.
    pub fn of_reader(reader: &mut dyn std::io::Read) -> std::io::Result<(Self, u64)> {
        use sha2::Digest;
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        let mut size = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok((Self::from_hasher(hasher), size)),
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    size += n as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || {
            NameError::Digest(text.chars().take(80).collect::<String>().escape_debug().to_string())
        };
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16);
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(bad());
            };
            *byte = u8::try_from(high << 4 | low).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<[u8; 32]> for Sha256 {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_architecture_is_told_systemds_name() {
        for (foreign, ours) in [("amd64", "x86-64"), ("x86_64", "x86-64"), ("aarch64", "arm64")] {
            let error = foreign.parse::<Arch>().unwrap_err().to_string();
            assert!(error.contains(&format!("systemd calls it {ours}")), "{error}");
        }
        assert_eq!("vax".parse::<Arch>().unwrap_err().to_string(), "unknown architecture `vax`");
    }

    #[test]
    fn names_that_break_a_manifest_are_refused() {
        for bad in ["", "..", ".hidden", "a b", "a/b", "a\nb", "a%b", "a~b", "-a", "ä"] {
            assert!(bad.parse::<FileName>().is_err(), "{bad:?} was taken");
        }
        assert!("x".repeat(256).parse::<FileName>().is_err());
        assert_eq!("a-1.0-x86-64.raw".parse::<FileName>().unwrap().stem(), "a-1.0-x86-64");
    }

    #[test]
    fn folders_stay_below_the_root() {
        for bad in [
            "SHA256SUMS",
            "a/SHA256SUMS.gpg",
            "",
            "/",
            "/abs",
            "a//b",
            "../a",
            "a/..",
            ".publish",
            "a/.b",
        ] {
            assert!(bad.parse::<Folder>().is_err(), "{bad:?} was taken");
        }
        assert_eq!("tools/ts/".parse::<Folder>().unwrap().as_str(), "tools/ts");
    }

    #[test]
    fn digests_read_either_case_and_print_lower() {
        let empty = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
        assert_eq!(empty.parse::<Sha256>().unwrap(), Sha256::of(b""));
        assert_eq!(Sha256::of(b"").to_string(), empty.to_lowercase());
        assert!(empty[1..].parse::<Sha256>().is_err());
        assert!("+3".repeat(32).parse::<Sha256>().is_err());
    }
}
