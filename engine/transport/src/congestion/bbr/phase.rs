//! The states of the model, and what is asked of the path in each.

/// What is left in flight meanwhile, in round trips (the draft, section 2.14.2: BBRProbeRTTCwndGain).
pub(super) const PROBE_RTT_WINDOW: f64 = 0.5;

/// States (the draft, section 4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    Rival,
    ProbeRtt,
}

impl Phase {
    /// Rate that is asked for, in parts of what the path delivers.
    pub(super) fn pacing_gain(self) -> f64 {
        match self {
            // The draft, section 2.4: 4 ln 2 doubles the rate in each round.
            Self::Startup => 2.77,
            Self::Drain => 0.35,
            Self::Down => 0.9,
            Self::Cruise | Self::Refill | Self::ProbeRtt => 1.0,
            Self::Up => 1.25,
            // Linux, tcp_pacing_ca_ratio: the window is what holds the rate back.
            Self::Rival => 1.2,
        }
    }

    /// Bytes in flight, in parts of what fills the path.
    pub(super) fn window_gain(self) -> f64 {
        match self {
            Self::Up => 2.25,
            Self::ProbeRtt => PROBE_RTT_WINDOW,
            _ => 2.0,
        }
    }

    /// For people and traces.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Drain => "drain",
            Self::Down => "down",
            Self::Cruise => "cruise",
            Self::Refill => "refill",
            Self::Up => "up",
            Self::Rival => "rival",
            Self::ProbeRtt => "probe-rtt",
        }
    }
}
