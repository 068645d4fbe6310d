//! Bytes as the diagrams of PROTOCOL.md read: groups of hexadecimal digits.

/// The bytes of `spaced`; white space between the digits means nothing.
pub(crate) fn bytes(spaced: &str) -> Vec<u8> {
    let digits: Vec<u8> = spaced
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).expect("golden bytes are hexadecimal") as u8)
        .collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty(), "golden bytes come in whole bytes");
    pairs.iter().map(|[high, low]| high << 4 | low).collect()
}

/// `N` consecutive values from `first`: keys that nobody takes for real ones.
pub(crate) fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|i| first + i as u8)
}
