//! Random bytes from the operating system, by way of AWS-LC's generator.

/// Draws `N` bytes.
///
/// # Panics
/// If the operating system gives no randomness: nothing that the master does is safe then.
pub(crate) fn draw<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Draws `N` bytes and writes them in hex.
pub(crate) fn draw_hex<const N: usize>() -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(2 * N);
    for byte in draw::<N>() {
        write!(text, "{byte:02x}").expect("a String takes everything");
    }
    text
}
