//! The master's word on what a pack is.

use braidcast_media::AssetId;
use braidcast_media::hashes::Hash;
use braidcast_media::layout::SEALED_EXTENT_BYTES;
use braidcast_proto::v1::HoldOrder;

use crate::limits;

/// An asset that the master wants held, and what vouches for its pack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    pub(crate) asset: AssetId,
    /// BLAKE3 of the pack's header, which holds the hashes of all else.
    pub(crate) header_hash: Hash,
    pub(crate) header_bytes: u64,
    pub(crate) pack_bytes: u64,
}

/// An order that cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("the order to hold {asset} has a header hash of {found} bytes instead of 32")]
    HashLength { asset: AssetId, found: usize },
    #[error("the order to hold {asset} has lengths that no pack has: header {header_bytes}, pack {pack_bytes}")]
    Lengths { asset: AssetId, header_bytes: u64, pack_bytes: u64 },
    #[error(
        "the header of {asset} has {header_bytes} bytes; this server reads {max} at most",
        max = limits::HEADER_BYTES_MAX
    )]
    HeaderTooLong { asset: AssetId, header_bytes: u64 },
}

impl Order {
    /// How many extents the pack has.
    pub(crate) fn extents(&self) -> u64 {
        (self.pack_bytes - self.header_bytes) / SEALED_EXTENT_BYTES as u64
    }

    /// How many of the permits for fills this one takes: a large pack as many as several small ones.
    pub(crate) fn fill_permits(&self) -> u32 {
        if self.extents() <= limits::SMALL_FILL_EXTENTS {
            return 1;
        }
        (limits::SMALL_FILLS_MAX / limits::FILLS_MAX) as u32
    }
}

impl TryFrom<HoldOrder> for Order {
    type Error = OrderError;

    fn try_from(order: HoldOrder) -> Result<Self, OrderError> {
        let HoldOrder { asset, header_hash, header_bytes, pack_bytes } = order;
        let asset = AssetId(asset);
        let found = header_hash.len();
        let header_hash = header_hash.try_into().map_err(|_| OrderError::HashLength { asset, found })?;
        if header_bytes > limits::HEADER_BYTES_MAX {
            return Err(OrderError::HeaderTooLong { asset, header_bytes });
        }
        let whole_extents =
            pack_bytes.checked_sub(header_bytes).is_some_and(|bytes| bytes % SEALED_EXTENT_BYTES as u64 == 0);
        if header_bytes == 0 || !whole_extents {
            return Err(OrderError::Lengths { asset, header_bytes, pack_bytes });
        }
        Ok(Self { asset, header_hash, header_bytes, pack_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(header_bytes: u64, pack_bytes: u64) -> HoldOrder {
        HoldOrder { asset: 7, header_hash: vec![1; 32], header_bytes, pack_bytes }
    }

    #[test]
    fn orders_with_possible_lengths_pass_and_others_do_not() {
        let extent = SEALED_EXTENT_BYTES as u64;
        assert_eq!(Order::try_from(order(4_096, 4_096 + 2 * extent)).map(|o| o.extents()), Ok(2));
        assert_eq!(Order::try_from(order(4_096, 4_096)).map(|o| o.extents()), Ok(0));
        for (header, pack) in [(0, extent), (4_096, 4_095), (4_096, 4_097), (4_096, extent)] {
            assert!(matches!(Order::try_from(order(header, pack)), Err(OrderError::Lengths { .. })), "{header} {pack}");
        }
        let longest = limits::HEADER_BYTES_MAX;
        assert!(Order::try_from(order(longest, longest)).is_ok());
        let over = Order::try_from(order(longest + 1, longest + 1));
        assert!(matches!(over, Err(OrderError::HeaderTooLong { .. })));
        let short = HoldOrder { header_hash: vec![1; 31], ..order(4_096, 4_096) };
        assert_eq!(Order::try_from(short), Err(OrderError::HashLength { asset: AssetId(7), found: 31 }));
    }
}
