//! Series of what is no longer configured: a reload takes them off `/metrics`.
//!
//! What still counts into one goes on doing so, unseen: the request that was in flight at the reload needs no lock for that.

use std::collections::HashMap;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};

/// The labels of one series.
pub struct Labels<'a>(HashMap<&'a str, &'a str>);

impl Labels<'_> {
    /// The value of `label`; empty where the family has no such label.
    #[must_use]
    pub fn get(&self, label: &str) -> &str {
        self.0.get(label).copied().unwrap_or_default()
    }
}

/// Takes off every series of `family` whose labels `keep` does not want. The others keep their values.
pub fn retain<B>(family: &MetricVec<B>, keep: impl Fn(&Labels<'_>) -> bool)
where
    B: MetricVecBuilder,
    MetricVec<B>: Collector,
{
    for collected in family.collect() {
        for series in collected.get_metric() {
            let pairs = series.get_label().iter();
            let labels = Labels(pairs.map(|pair| (pair.name(), pair.value())).collect());
            if !keep(&labels) {
                // An error says that it is gone already.
                let _ = family.remove(&labels.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{IntCounterVec, Opts};

    use super::*;

    #[test]
    fn what_is_kept_keeps_its_value_and_what_is_not_is_gone() {
        let family = IntCounterVec::new(Opts::new("f", "help"), &["upstream", "code"]).unwrap();
        family.with_label_values(&["lms", "200"]).inc_by(3);
        let removed = family.with_label_values(&["old", "200"]);
        retain(&family, |labels| labels.get("upstream") == "lms");
        removed.inc();
        let collected = family.collect();
        let series = collected[0].get_metric();
        assert_eq!(series.len(), 1);
        assert_eq!(family.with_label_values(&["lms", "200"]).get(), 3);
        assert_eq!(family.with_label_values(&["old", "200"]).get(), 0);
    }
}
