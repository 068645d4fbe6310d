//! Names of videos.

use std::fmt;

use crate::limits::NAME_BYTES_MAX;

/// The name of a video. Fit to be a file's name on every system, because `get` writes files under it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct VideoName(String);

/// A name that no video can have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NameError {
    #[error("a video needs a name: give one")]
    Empty,
    #[error("the name is {found} bytes long in UTF-8, and at most {NAME_BYTES_MAX} are allowed: give a shorter one")]
    TooLong { found: usize },
    #[error("the name {name:?} holds the control character {found:?}: give one without line breaks and the like")]
    Control { name: String, found: char },
    #[error("the name {name:?} holds a `{found}`, and a name is no path: give the file's own name only")]
    Separator { name: String, found: char },
    #[error("the name {name:?} means a folder: give the file's own name")]
    Folder { name: String },
}

impl VideoName {
    /// Checks a name. Spaces and all of Unicode but control characters are fine.
    pub(crate) fn parse(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong { found: name.len() });
        }
        let name = name.to_owned();
        if let Some(found) = name.chars().find(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
            return Err(NameError::Control { name, found });
        }
        if let Some(found) = name.chars().find(|c| matches!(c, '/' | '\\')) {
            return Err(NameError::Separator { name, found });
        }
        if matches!(name.as_str(), "." | "..") {
            return Err(NameError::Folder { name });
        }
        Ok(Self(name))
    }

    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VideoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spaces_unicode_and_255_bytes_pass() {
        let longest = ["x".repeat(255), "é".repeat(127)];
        let short = ["a", "holiday film.mp4", "фильм 映画 🎬.mkv", "...", "..a"];
        for good in short.into_iter().chain(longest.iter().map(String::as_str)) {
            assert!(VideoName::parse(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn what_is_no_file_name_is_refused_and_named() {
        assert_eq!(VideoName::parse(""), Err(NameError::Empty));
        assert_eq!(VideoName::parse(&"x".repeat(256)), Err(NameError::TooLong { found: 256 }));
        assert_eq!(VideoName::parse(&"é".repeat(128)), Err(NameError::TooLong { found: 256 }));
        assert!(matches!(VideoName::parse("../up"), Err(NameError::Separator { found: '/', .. })));
        assert!(matches!(VideoName::parse("a\\b"), Err(NameError::Separator { found: '\\', .. })));
        assert!(matches!(VideoName::parse("two\nlines"), Err(NameError::Control { found: '\n', .. })));
        assert!(matches!(VideoName::parse("nul\0"), Err(NameError::Control { found: '\0', .. })));
        for folder in [".", ".."] {
            assert!(matches!(VideoName::parse(folder), Err(NameError::Folder { .. })));
        }
    }

    proptest! {
        #[test]
        fn a_name_that_passes_stays_in_its_folder(text in "\\PC{0,80}|[./\\\\\\n a]{0,8}") {
            if let Ok(name) = VideoName::parse(&text) {
                let path = std::path::Path::new("folder").join(name.as_str());
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("folder")));
                prop_assert_eq!(path.file_name().and_then(|f| f.to_str()), Some(text.as_str()));
            }
        }
    }
}
