//! Where a service puts what is to be sent.

use std::collections::VecDeque;

use crate::limits::TRAINS_MAX;
use crate::train::Train;

/// Trains to be sent, in order; at most [`TRAINS_MAX`].
#[derive(Debug)]
pub struct Outbox {
    trains: VecDeque<Train>,
}

impl Outbox {
    /// An empty outbox. A shard has its own; this one is for driving a service by hand.
    pub fn new() -> Self {
        Self { trains: VecDeque::with_capacity(TRAINS_MAX) }
    }

    /// How many trains can be pushed now; at least one whenever the service is called.
    pub fn room(&self) -> usize {
        TRAINS_MAX.saturating_sub(self.trains.len())
    }

    /// Takes `train` for sending.
    ///
    /// # Errors
    /// Gives it back if there is no room.
    #[expect(
        clippy::result_large_err,
        reason = "the train itself, which must not be lost; a box would be an allocation"
    )]
    pub fn push(&mut self, train: Train) -> Result<(), Train> {
        if self.room() == 0 {
            return Err(train);
        }
        self.trains.push_back(train);
        Ok(())
    }

    /// The oldest train, which is then no longer in the outbox.
    pub fn pop(&mut self) -> Option<Train> {
        self.trains.pop_front()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.trains.is_empty()
    }

    /// Takes back a train that was popped and could not be sent yet; its place is the first again.
    pub(crate) fn put_back(&mut self, train: Train) {
        self.trains.push_front(train);
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}
