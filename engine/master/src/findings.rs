//! What the parts of the master have found out that an operator should know, for `braidcast doctor`.

use std::collections::BTreeMap;
use std::sync::Mutex;

use braidcast_proto::v1;

use crate::limits::FINDINGS_PER_TOPIC;
use crate::sync::lock;

/// Something that is wrong, or may become so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: v1::Severity,
    /// The part that is concerned, in a few words.
    pub(crate) what: String,
    /// What was found, and what to do about it.
    pub(crate) why: String,
}

impl Finding {
    pub(crate) fn warning(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { severity: v1::Severity::Warning, what: what.into(), why: why.into() }
    }

    pub(crate) fn failure(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { severity: v1::Severity::Failure, what: what.into(), why: why.into() }
    }
}

impl From<Finding> for v1::Finding {
    fn from(finding: Finding) -> Self {
        Self { severity: finding.severity.into(), what: finding.what, why: finding.why }
    }
}

/// The findings of all parts. Each part has a topic of its own and replaces what it said before.
#[derive(Debug, Default)]
pub(crate) struct Findings(Mutex<BTreeMap<&'static str, Vec<Finding>>>);

impl Findings {
    /// Says what is wrong about `topic` from now on; an empty list says that nothing is. Of more than
    /// [`FINDINGS_PER_TOPIC`] the rest is only counted.
    pub(crate) fn set(&self, topic: &'static str, mut findings: Vec<Finding>) {
        if let Some(more) = findings.len().checked_sub(FINDINGS_PER_TOPIC).filter(|more| *more > 0) {
            findings.truncate(FINDINGS_PER_TOPIC);
            findings.push(Finding::warning(topic, format!("{more} more findings of this kind are not shown")));
        }
        lock(&self.0).insert(topic, findings);
    }

    /// All findings, in the order of their topics.
    pub(crate) fn all(&self) -> Vec<Finding> {
        lock(&self.0).values().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_replaces_what_it_said_before_and_is_bounded() {
        let findings = Findings::default();
        findings.set("b", vec![Finding::failure("disk", "full")]);
        findings.set("a", vec![Finding::warning("clock", "off"); FINDINGS_PER_TOPIC + 3]);
        let all = findings.all();
        assert_eq!(all.len(), FINDINGS_PER_TOPIC + 2);
        assert!(all[FINDINGS_PER_TOPIC].why.starts_with("3 more"), "{all:?}");
        findings.set("a", Vec::new());
        assert_eq!(findings.all(), [Finding::failure("disk", "full")]);
    }
}
