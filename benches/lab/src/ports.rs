//! Where the parts listen.

/// gRPC of the master.
pub const MASTER: u16 = 4_600;
/// Media servers, UDP and TCP.
pub const MEDIA: u16 = 4_700;
/// Web servers beside them.
pub const WEB: u16 = 8_080;
/// The sink of the blaster.
pub const SINK: u16 = 9_000;
