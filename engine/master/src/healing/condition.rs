//! What is wrong with an asset's durable copy. Pure.

use std::collections::BTreeSet;
use std::fmt;

use braidcast_media::{AssetId, PackLayout};
use braidcast_proto::v1;

use crate::limits::PUSH_RANGES_MAX;

/// Why a durable copy is not sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The pack is not in the origin's folder.
    Lost,
    /// Something else stands in the pack's place, in these words.
    Displaced { found: String },
    /// The file in the pack's place does not show that it is this pack, for this reason. It may be the pack all the same,
    /// and the only copy of its extents: nothing is written to it, and it stays until a whole pack takes its place.
    Unrecognised { reason: String },
    /// The file cannot be opened or read, for a reason that is not in its bytes.
    Unreadable { reason: String },
    /// The pack is there, and parts of it are wrong.
    Parts(Parts),
}

/// Parts of a pack that are not what the header's hash vouches for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The header does not match its hash. What else is damaged is found once the header is back.
    pub(crate) header: bool,
    /// The file is shorter or longer than the pack.
    pub(crate) length: bool,
    /// Extents that do not match their hashes, or cannot be read; numbered within the pack.
    pub(crate) extents: BTreeSet<u32>,
    /// The pack came back, or was unsound before, and not all of its extents have been checked since.
    pub(crate) unchecked: bool,
}

impl Parts {
    /// Whether nothing is wrong.
    pub(crate) fn is_sound(&self) -> bool {
        !self.header && !self.length && !self.unchecked && self.extents.is_empty()
    }

    /// The damage, if there is any.
    pub(crate) fn into_damage(self) -> Option<Damage> {
        (!self.is_sound()).then_some(Damage::Parts(self))
    }
}

/// What one server is asked to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The pack is written from the start, not in place.
    pub(crate) is_whole: bool,
    pub(crate) header: bool,
    /// First and last of each run of extents, in ascending order.
    pub(crate) extents: Vec<(u32, u32)>,
}

impl Damage {
    /// Of a pack whose outline is right and whose extents are still to be checked.
    pub(crate) fn unchecked() -> Self {
        Self::Parts(Parts { unchecked: true, ..Parts::default() })
    }

    /// Whether there is no pack that could be read.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost | Self::Displaced { .. })
    }

    /// Whether all that is left to do is to check the extents.
    pub(crate) fn is_only_unchecked(&self) -> bool {
        *self == Self::unchecked()
    }

    /// What heals this damage of a pack with this layout. Of damage in very many places only the first part is asked
    /// for; the rest is asked for when that is healed. `None`: no server's parts are what is missing.
    pub(crate) fn request(&self, layout: &PackLayout) -> Option<Request> {
        match self {
            Self::Lost | Self::Unrecognised { .. } => {
                let extents = layout.extents().checked_sub(1).map(|last| (0, last));
                Some(Request { is_whole: true, header: true, extents: extents.into_iter().collect() })
            }
            Self::Parts(parts) if !self.is_only_unchecked() => {
                Some(Request { is_whole: false, header: parts.header, extents: runs(&parts.extents, PUSH_RANGES_MAX) })
            }
            Self::Displaced { .. } | Self::Unreadable { .. } | Self::Parts(_) => None,
        }
    }

    /// What is left of this damage after `request` was fulfilled.
    pub(crate) fn without(self, request: &Request) -> Option<Self> {
        match self {
            Self::Lost | Self::Displaced { .. } | Self::Unrecognised { .. } | Self::Unreadable { .. } => {
                (!request.is_whole).then_some(self)
            }
            Self::Parts(parts) => {
                let healed =
                    |extent: &u32| request.extents.iter().any(|(first, last)| (first..=last).contains(&extent));
                let extents = parts.extents.into_iter().filter(|extent| !healed(extent)).collect();
                // Only now can the extents be checked.
                let unchecked = parts.unchecked || (parts.header && request.header);
                Parts { header: parts.header && !request.header, length: false, extents, unchecked }.into_damage()
            }
        }
    }

    /// Its name in the catalogue.
    pub(crate) fn condition(&self) -> v1::Condition {
        match self {
            Self::Lost | Self::Displaced { .. } => v1::Condition::Lost,
            Self::Unrecognised { .. } | Self::Unreadable { .. } | Self::Parts(_) => v1::Condition::Damaged,
        }
    }
}

impl Request {
    /// The order to the server that is to send it.
    pub(crate) fn order(&self, asset: AssetId) -> v1::PushOrder {
        let extents = self.extents.iter().map(|&(first, last)| v1::PackExtents { first, last }).collect();
        v1::PushOrder { asset: asset.0, header: self.header, extents }
    }

    /// Every extent that is asked for, in ascending order.
    pub(crate) fn each_extent(&self) -> impl Iterator<Item = u32> + use<> {
        self.extents.clone().into_iter().flat_map(|(first, last)| first..=last)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("its pack is gone from the origin"),
            Self::Displaced { found } => write!(f, "{found} stands in the place of its pack in the origin"),
            Self::Unrecognised { reason } => {
                write!(f, "the file in its place in the origin cannot be told to be its pack: {reason}")
            }
            Self::Unreadable { reason } => write!(f, "its pack cannot be read: {reason}"),
            Self::Parts(parts) => parts.fmt(f),
        }
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut found = Vec::new();
        if self.length {
            found.push("its pack has not the length that it was published with".to_owned());
        }
        if self.header {
            found.push("the header of its pack does not match its hash".to_owned());
        }
        match (self.extents.len(), self.extents.first()) {
            (0, _) | (_, None) => {}
            (1, Some(extent)) => found.push(format!("extent {extent} of its pack does not match its hash")),
            (count, Some(first)) => {
                found.push(format!("{count} extents of its pack do not match their hashes, the first is {first}"));
            }
        }
        if self.unchecked {
            found.push("its extents are not all checked since its pack was found unsound".to_owned());
        }
        f.write_str(&found.join("; "))
    }
}

/// The runs of consecutive numbers in `extents`, at most `runs_max` of them.
fn runs(extents: &BTreeSet<u32>, runs_max: usize) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &extent in extents {
        match runs.last().copied() {
            Some((first, last)) if last + 1 == extent => {
                runs.pop();
                runs.push((first, extent));
            }
            _ if runs.len() == runs_max => break,
            _ => runs.push((extent, extent)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(header: bool, extents: &[u32]) -> Damage {
        Damage::Parts(Parts { header, extents: extents.iter().copied().collect(), ..Parts::default() })
    }

    fn layout() -> PackLayout {
        // Four extents of the file, and one of stream 3.
        PackLayout::of_file(1_000_000).expect("short")
    }

    #[test]
    fn a_lost_pack_is_asked_for_whole_and_a_damaged_one_in_part() {
        let whole = Request { is_whole: true, header: true, extents: vec![(0, 4)] };
        assert_eq!(Damage::Lost.request(&layout()), Some(whole));
        let request = parts(false, &[0, 1, 3]).request(&layout()).expect("something to send");
        assert_eq!(request, Request { is_whole: false, header: false, extents: vec![(0, 1), (3, 3)] });
        assert_eq!(request.each_extent().collect::<Vec<_>>(), [0, 1, 3]);
        let empty = PackLayout::of_file(0).expect("empty");
        assert_eq!(Damage::Lost.request(&empty).expect("the header").extents, []);
    }

    #[test]
    fn what_was_not_asked_for_is_still_damaged() {
        let request = parts(false, &[0, 1]).request(&layout()).expect("something to send");
        assert_eq!(parts(false, &[0, 1]).without(&request), None);
        assert_eq!(parts(true, &[0, 1, 4]).without(&request), Some(parts(true, &[4])), "found meanwhile");
        assert_eq!(Damage::Lost.without(&request), Some(Damage::Lost), "deleted meanwhile");
        let whole = Damage::Lost.request(&layout()).expect("all of it");
        assert_eq!(Damage::Lost.without(&whole), None);
    }

    #[test]
    fn a_pack_with_a_healed_header_is_unsound_until_its_extents_are_checked() {
        let request = parts(true, &[]).request(&layout()).expect("the header");
        let left = parts(true, &[]).without(&request).expect("not sound yet");
        assert!(left.is_only_unchecked() && left.request(&layout()).is_none());
        assert!(left.to_string().contains("not all checked"), "{left}");
        assert_eq!(left.condition(), v1::Condition::Damaged);
    }

    #[test]
    fn damage_in_very_many_places_is_asked_for_bit_by_bit() {
        let places: BTreeSet<u32> = (0..10).map(|n| n * 2).collect();
        assert_eq!(runs(&places, 3), [(0, 0), (2, 2), (4, 4)]);
        assert_eq!(runs(&(0..10).collect(), 1), [(0, 9)]);
    }

    #[test]
    fn the_words_say_what_is_wrong() {
        assert_eq!(Damage::Lost.to_string(), "its pack is gone from the origin");
        assert_eq!(parts(false, &[7]).to_string(), "extent 7 of its pack does not match its hash");
        let both = parts(true, &[7, 9]).to_string();
        assert!(both.contains("header") && both.contains("2 extents") && both.contains("first is 7"), "{both}");
    }
}
