//! The metric families of the signing keys: their states change with the clock, so they are read when scraped.

use std::collections::HashMap;

use prometheus::{
    core::{Collector, Desc},
    proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::keys::KeyView;

/// `bursar_signing_key_info` and `bursar_signing_key_created_timestamp_seconds`, of live keys only.
pub(super) struct SigningKeys<F> {
    info: Desc,
    created: Desc,
    keys: F,
}

impl<F: Fn() -> Vec<KeyView>> SigningKeys<F> {
    pub(super) fn new(keys: F) -> Result<Self, prometheus::Error> {
        let desc = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())
        };
        Ok(Self {
            info: desc(
                "bursar_signing_key_info",
                "The keys of client assertions: next, active, retired, or unpublished (due to sign, and not in the key set at jwks_url).",
                &["kid", "alg", "state"],
            )?,
            created: desc(
                "bursar_signing_key_created_timestamp_seconds",
                "From when on a key of keys_dir signs; of a key that stands alone, when its file was written.",
                &["kid"],
            )?,
            keys,
        })
    }
}

impl<F: Fn() -> Vec<KeyView> + Send + Sync> Collector for SigningKeys<F> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.info, &self.created]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let keys = (self.keys)();
        let info = keys.iter().map(|key| {
            let labels = [
                ("alg", key.algorithm.as_str()),
                ("kid", &key.kid),
                ("state", key.state),
            ];
            gauge(&labels, 1.0)
        });
        let created = keys
            .iter()
            .map(|key| gauge(&[("kid", &key.kid)], key.start.wall().as_secs_f64()));
        vec![
            family(&self.info, info.collect()),
            family(&self.created, created.collect()),
        ]
    }
}

/// `labels` sorted by name, as the format wants it.
fn gauge(labels: &[(&str, &str)], value: f64) -> Metric {
    let labels = labels.iter().map(|(name, value)| {
        let mut label = LabelPair::default();
        label.set_name((*name).to_owned());
        label.set_value((*value).to_owned());
        label
    });
    let mut number = Gauge::default();
    number.set_value(value);
    let mut metric = Metric::from_label(labels.collect());
    metric.set_gauge(number);
    metric
}

/// Credentials may share a key: no series stands twice.
fn family(desc: &Desc, mut metrics: Vec<Metric>) -> MetricFamily {
    let mut seen: Vec<Vec<LabelPair>> = Vec::new();
    metrics.retain(|metric| {
        let labels = metric.get_label().to_vec();
        let is_new = !seen.contains(&labels);
        if is_new {
            seen.push(labels);
        }
        is_new
    });
    let mut family = MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(MetricType::GAUGE);
    family.set_metric(metrics);
    family
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::{Registry, TextEncoder};

    use super::*;
    use crate::keys::{Algorithm, KeyStart};

    fn view(kid: &str, state: &'static str, start: u64) -> KeyView {
        KeyView {
            kid: kid.to_owned(),
            algorithm: Algorithm::Es256,
            state,
            start: KeyStart::at(Duration::from_secs(start)),
            signs_until: None,
            published_until: None,
        }
    }

    #[test]
    fn each_key_has_its_state_and_its_time_once_however_many_credentials_share_it() {
        let registry = Registry::new();
        let keys = || {
            vec![
                view("a", "retired", 1_000),
                view("b", "active", 2_000),
                view("b", "active", 2_000),
            ]
        };
        registry
            .register(Box::new(SigningKeys::new(keys).unwrap()))
            .unwrap();
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            series,
            [
                "bursar_signing_key_created_timestamp_seconds{kid=\"a\"} 1000",
                "bursar_signing_key_created_timestamp_seconds{kid=\"b\"} 2000",
                "bursar_signing_key_info{alg=\"ES256\",kid=\"a\",state=\"retired\"} 1",
                "bursar_signing_key_info{alg=\"ES256\",kid=\"b\",state=\"active\"} 1",
            ]
        );
    }
}
