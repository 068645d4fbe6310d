//! Braidcast's index and decoder against FFmpeg's own programs, on clips made as they are needed.

mod clips;
mod convert;
mod decode;
mod hostile;
mod index;
mod player;
mod probe;
mod random;
mod reference;
