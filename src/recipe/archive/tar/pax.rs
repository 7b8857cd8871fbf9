//! The records of a pax extended header, as far as they change what an entry is.
//!
//! Refuses to know times, owners and extended attributes: an image has its own.

/// What a pax header says about the next entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    /// Bytes of content in the archive.
    pub(super) size: Option<u64>,
    pub(super) sparse: Option<Sparse>,
}

/// What a pax header says about a sparse file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    /// Bytes of the file with its holes.
    pub(super) real_size: Option<u64>,
    /// `GNU.sparse.major` and `.minor`.
    pub(super) version: (u64, u64),
}

impl Pax {
    /// Parses records of the form `LENGTH KEY=VALUE\n`, or returns nothing when one is malformed.
    ///
    /// The length rules, because a value can contain newlines.
    pub(super) fn parse(mut records: &[u8]) -> Option<Pax> {
        let mut pax = Pax::default();
        while !records.is_empty() {
            let blank = records.iter().position(|byte| *byte == b' ')?;
            let length = usize::try_from(number(&records[..blank])?).ok()?;
            let record = records.get(blank + 1..length)?.strip_suffix(b"\n")?;
            records = &records[length..];
            let equals = record.iter().position(|byte| *byte == b'=')?;
            pax.take(&record[..equals], &record[equals + 1..])?;
        }
        Some(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        // POSIX: an empty value means that the header block rules.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" if value.is_empty() => self.size = None,
            b"size" => self.size = Some(number(value)?),
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    let sparse = self.sparse.get_or_insert_default();
                    match key {
                        b"name" => sparse.name = text(),
                        b"major" => sparse.version.0 = number(value)?,
                        b"minor" => sparse.version.1 = number(value)?,
                        b"realsize" => sparse.real_size = Some(number(value)?),
                        // Those of the forms 0.0 and 0.1, which the version gives away.
                        _ => {}
                    }
                }
            }
        }
        Some(())
    }
}

/// A decimal number without sign or blanks.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_contain_newlines_and_look_like_records() {
        let records = b"26 SCHILY.xattr.a=1\n\n11 b\n10 path=p\n11 size=00\n";
        let pax = Pax::parse(records).unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"p"[..]));
        assert_eq!(pax.size, Some(0));
        let pax = Pax::parse(b"26 comment=\n13 path=evil\n\n").unwrap();
        assert_eq!(pax, Pax::default());
    }

    #[test]
    fn malformed_records_are_refused() {
        for records in [
            &b"x"[..],
            b"10 path=p",
            b"11 path=p\n",
            b"8 path=p\n",
            b"0 path=p\n",
            b"2 path=p\n",
            b" path=p\n",
            b"+10 path=p\n",
            b"99999999999999999999999 path=p\n",
            b"9 pathp\n\n",
            b"11 size=-1\n",
            b"12 size=0x1\n",
            b"10 path=p\n\0\0",
        ] {
            assert_eq!(Pax::parse(records), None, "{}", records.escape_ascii());
        }
    }

    #[test]
    fn an_empty_value_gives_the_header_its_say() {
        let pax = Pax::parse(b"10 path=p\n8 path=\n8 size=\n").unwrap();
        assert_eq!(pax, Pax::default());
    }
}
