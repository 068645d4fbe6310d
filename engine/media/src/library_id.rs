//! The id of a library, which keeps the copies of one library apart from those of another.

use std::fmt;
use std::str::FromStr;

/// Bytes of a library's id: two ids that were drawn at random never meet.
pub const LIBRARY_ID_BYTES: usize = 16;

/// Names one library: a master's database together with the packs that its keys open. The master draws it once; it
/// stands in the database, in the origin's folder and in the folder of each media server. It is no secret.
///
/// Its text is 32 hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LibraryId(pub [u8; LIBRARY_ID_BYTES]);

/// A text that is no id of a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a library's id is {} hexadecimal digits in lower case", 2 * LIBRARY_ID_BYTES)]
pub struct LibraryIdError;

impl fmt::Display for LibraryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LibraryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LibraryId({self})")
    }
}

impl FromStr for LibraryId {
    type Err = LibraryIdError;

    fn from_str(text: &str) -> Result<Self, LibraryIdError> {
        // `from_str_radix` alone would take a sign and capitals: each id has one text.
        let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        if text.len() != 2 * LIBRARY_ID_BYTES || !text.as_bytes().iter().all(is_digit) {
            return Err(LibraryIdError);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| LibraryIdError)?;
        Ok(Self(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_is_printed() {
        let id = LibraryId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff]);
        assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn every_other_text_is_refused() {
        let good = "0123456789abcdef0123456789abcdef";
        assert!(good.parse::<LibraryId>().is_ok());
        let with_newline = format!("{good}\n");
        let with_sign = format!("+{}", &good[1..]);
        for bad in ["", &good[1..], &with_newline, &with_sign, &good.to_uppercase(), "ééééééééééééééée"]
        {
            assert_eq!(bad.parse::<LibraryId>(), Err(LibraryIdError), "{bad:?}");
        }
    }
}
