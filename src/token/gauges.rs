//! The gauges of the `bursar_token_*` families, read from the tokens when they are scraped: a gauge that was set at
//! the last refresh would go on claiming a valid token after its expiry.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use prometheus::{
    GaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// 9999-12-31T23:59:59Z, as RFC 5280 section 4.1.2.5 writes "no well-defined expiration date": the expiry of a static
/// token. With 0 ("none") the usual alert on `expiry - time()` would fire for ever.
pub const NEVER: Duration = Duration::from_secs(253_402_300_799);

/// Whoever knows the state of credentials.
pub trait Watched: Send + Sync {
    /// Reads it now.
    fn credentials(&self) -> Vec<CredentialGauges>;
}

/// What is scraped of one credential. Times are since the Unix epoch; zero: none.
#[derive(Clone, Debug, PartialEq)]
pub struct CredentialGauges {
    /// Its name.
    pub credential: Arc<str>,
    /// `grant`.
    pub grant: &'static str,
    /// `auth_method`.
    pub auth_method: &'static str,
    /// `None` where no token is kept warm: there is nothing that could be valid or not, and no sample.
    pub warm: Option<WarmGauges>,
    /// Local minus server, in seconds; 0 while unknown.
    pub clock_skew: f64,
}

/// What is scraped of the warm tokens of one credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarmGauges {
    /// Every one is usable.
    pub valid: bool,
    /// When the first of them expires; [`NEVER`] for a static token.
    pub expiry: Duration,
    /// When the oldest of them was issued.
    pub issued: Duration,
    /// When a token request brought a token for the last time, of the one for which that is longest ago.
    pub last_success: Duration,
    /// Failures in a row, of the one with the most.
    pub consecutive_failures: u32,
    /// A person must log in for one of them.
    pub needs_login: bool,
}

/// Collects the gauges.
#[derive(Clone)]
pub struct Gauges {
    families: Families,
    watched: Arc<Mutex<Vec<Weak<dyn Watched>>>>,
}

#[derive(Clone)]
struct Families {
    info: GaugeVec,
    valid: GaugeVec,
    expiry: GaugeVec,
    issued: GaugeVec,
    last_success: GaugeVec,
    consecutive_failures: GaugeVec,
    clock_skew: GaugeVec,
    reauth_required: GaugeVec,
}

impl WarmGauges {
    /// The worse of both in every respect.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            valid: self.valid && other.valid,
            expiry: self.expiry.min(other.expiry),
            issued: self.issued.min(other.issued),
            last_success: self.last_success.min(other.last_success),
            consecutive_failures: self.consecutive_failures.max(other.consecutive_failures),
            needs_login: self.needs_login || other.needs_login,
        }
    }
}

impl Gauges {
    /// Watches nothing yet.
    ///
    /// # Errors
    ///
    /// When a name is no metric name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let gauge = |name, help| GaugeVec::new(Opts::new(name, help), &["credential"]);
        Ok(Self {
            families: Families {
                info: GaugeVec::new(
                    Opts::new(
                        "bursar_credential_info",
                        "The credentials in use; always 1.",
                    ),
                    &["credential", "grant", "auth_method"],
                )?,
                valid: gauge(
                    "bursar_token_valid",
                    "Whether a usable token is held (0 or 1).",
                )?,
                expiry: gauge(
                    "bursar_token_expiry_timestamp_seconds",
                    "When the token held expires; 0 when there is none.",
                )?,
                issued: gauge(
                    "bursar_token_issued_timestamp_seconds",
                    "When the token held was issued; 0 when there is none.",
                )?,
                last_success: gauge(
                    "bursar_token_last_refresh_success_timestamp_seconds",
                    "When a token request last brought a token; 0 for never.",
                )?,
                consecutive_failures: gauge(
                    "bursar_token_refresh_consecutive_failures",
                    "Token requests that failed since one succeeded.",
                )?,
                clock_skew: gauge(
                    "bursar_clock_skew_seconds",
                    "The local clock minus that of the authorization server.",
                )?,
                reauth_required: gauge(
                    "bursar_token_reauth_required",
                    "Whether a person must log in (0 or 1).",
                )?,
            },
            watched: Arc::default(),
        })
    }

    /// Reads from `watched` too, for as long as it lives.
    pub fn watch(&self, watched: Weak<dyn Watched>) {
        self.watched().push(watched);
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Weak<dyn Watched>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Families {
    const COUNT: usize = 8;

    fn all(&self) -> [&GaugeVec; Self::COUNT] {
        [
            &self.info,
            &self.valid,
            &self.expiry,
            &self.issued,
            &self.last_success,
            &self.consecutive_failures,
            &self.clock_skew,
            &self.reauth_required,
        ]
    }

    fn set(&self, of: &CredentialGauges) {
        let labels = [&*of.credential];
        self.info
            .with_label_values(&[&*of.credential, of.grant, of.auth_method])
            .set(1.0);
        self.clock_skew
            .with_label_values(&labels)
            .set(of.clock_skew);
        let set = |family: &GaugeVec, value| family.with_label_values(&labels).set(value);
        let needs_login = of.warm.is_some_and(|warm| warm.needs_login);
        set(&self.reauth_required, f64::from(u8::from(needs_login)));
        let Some(warm) = of.warm else { return };
        set(&self.valid, f64::from(u8::from(warm.valid)));
        set(&self.expiry, warm.expiry.as_secs_f64());
        set(&self.issued, warm.issued.as_secs_f64());
        set(&self.last_success, warm.last_success.as_secs_f64());
        set(
            &self.consecutive_failures,
            f64::from(warm.consecutive_failures),
        );
    }
}

impl Collector for Gauges {
    fn desc(&self) -> Vec<&Desc> {
        self.families
            .all()
            .into_iter()
            .flat_map(Collector::desc)
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The lock is held to the end, so that two scrapes at once do not empty each other's families.
        let mut watched = self.watched();
        watched.retain(|watched| watched.strong_count() > 0);
        for family in self.families.all() {
            family.reset();
        }
        for credential in watched
            .iter()
            .filter_map(Weak::upgrade)
            .flat_map(|watched| watched.credentials())
        {
            self.families.set(&credential);
        }
        self.families
            .all()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Registry, TextEncoder};

    use super::*;

    struct Fixed(Mutex<Vec<CredentialGauges>>);

    impl Watched for Fixed {
        fn credentials(&self) -> Vec<CredentialGauges> {
            self.0.lock().unwrap().clone()
        }
    }

    fn d2l(warm: Option<WarmGauges>) -> CredentialGauges {
        CredentialGauges {
            credential: "d2l".into(),
            grant: "client_credentials",
            auth_method: "private_key_jwt",
            warm,
            clock_skew: -1.5,
        }
    }

    const WARM: WarmGauges = WarmGauges {
        valid: true,
        expiry: Duration::from_millis(1_767_229_200_500),
        issued: Duration::from_secs(1_767_225_600),
        last_success: Duration::from_secs(1_767_225_601),
        consecutive_failures: 3,
        needs_login: true,
    };

    fn scraped(registry: &Registry) -> String {
        TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    #[test]
    fn every_gauge_speaks_per_credential() {
        let registry = Registry::new();
        let gauges = Gauges::new().unwrap();
        registry.register(Box::new(gauges.clone())).unwrap();
        let watched: Arc<dyn Watched> = Arc::new(Fixed(Mutex::new(vec![d2l(Some(WARM))])));
        gauges.watch(Arc::downgrade(&watched));

        let text = scraped(&registry);
        for sample in [
            "bursar_credential_info{auth_method=\"private_key_jwt\",credential=\"d2l\",grant=\"client_credentials\"} 1\n",
            "bursar_token_valid{credential=\"d2l\"} 1\n",
            "bursar_token_expiry_timestamp_seconds{credential=\"d2l\"} 1767229200.5\n",
            "bursar_token_issued_timestamp_seconds{credential=\"d2l\"} 1767225600\n",
            "bursar_token_last_refresh_success_timestamp_seconds{credential=\"d2l\"} 1767225601\n",
            "bursar_token_refresh_consecutive_failures{credential=\"d2l\"} 3\n",
            "bursar_token_reauth_required{credential=\"d2l\"} 1\n",
            "bursar_clock_skew_seconds{credential=\"d2l\"} -1.5\n",
        ] {
            assert!(text.contains(sample), "{sample}\n{text}");
        }
    }

    // F49.
    #[test]
    fn gauges_are_read_anew_at_each_scrape_and_end_with_what_they_watch() {
        let registry = Registry::new();
        let gauges = Gauges::new().unwrap();
        registry.register(Box::new(gauges.clone())).unwrap();
        let fixed = Arc::new(Fixed(Mutex::new(vec![d2l(Some(WARM))])));
        let watched: Arc<dyn Watched> = fixed.clone();
        gauges.watch(Arc::downgrade(&watched));
        assert!(scraped(&registry).contains("bursar_token_valid{credential=\"d2l\"} 1"));

        fixed.0.lock().unwrap()[0].warm = Some(WarmGauges {
            valid: false,
            ..WARM
        });
        assert!(scraped(&registry).contains("bursar_token_valid{credential=\"d2l\"} 0"));

        drop((fixed, watched));
        assert_eq!(scraped(&registry), "");
    }

    #[test]
    fn a_credential_without_warm_tokens_is_neither_valid_nor_invalid() {
        let registry = Registry::new();
        let gauges = Gauges::new().unwrap();
        registry.register(Box::new(gauges.clone())).unwrap();
        let watched: Arc<dyn Watched> = Arc::new(Fixed(Mutex::new(vec![d2l(None)])));
        gauges.watch(Arc::downgrade(&watched));
        let text = scraped(&registry);
        assert!(!text.contains("bursar_token_valid{"), "{text}");
        assert!(text.contains("bursar_credential_info{"), "{text}");
    }
}
