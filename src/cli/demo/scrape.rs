//! Reads numbers out of a Prometheus text exposition (format 0.0.4).

/// One answer of `/metrics`.
pub(super) struct Scrape {
    text: String,
}

impl Scrape {
    pub(super) fn new(text: String) -> Self {
        Self { text }
    }

    /// The sum over the series of `name` that carry all of `labels`; 0 where there is none.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series(name, labels)
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            // Not `sum()`: that of no series is -0.
            .fold(0.0, |sum, value| sum + value)
    }

    /// Those series as they stand.
    pub(super) fn series<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = &'a str> {
        self.text.lines().filter(move |line| {
            let Some(rest) = line.strip_prefix(name) else {
                return false;
            };
            let carries = |(key, value): &(&str, &str)| {
                let label = format!("{key}=\"{value}\"");
                rest.contains(&format!("{{{label}")) || rest.contains(&format!(",{label}"))
            };
            rest.starts_with(['{', ' ']) && labels.iter().all(carries)
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_labels() {
        let scrape = Scrape::new(
            "# HELP a_total Something.\n\
             a_total{kind=\"x\",side=\"left\"} 2\n\
             a_total{kind=\"x\",side=\"right\"} 3\n\
             a_total{kind=\"y\",side=\"left\"} 10\n\
             a_total_other{kind=\"x\"} 100\n\
             plain 0.5\n"
                .to_owned(),
        );
        let same = |actual: f64, expected: f64| (actual - expected).abs() < f64::EPSILON;
        assert!(same(scrape.sum("a_total", &[("kind", "x")]), 5.0));
        assert!(same(scrape.sum("a_total", &[("side", "left")]), 12.0));
        assert!(same(
            scrape.sum("a_total", &[("side", "left"), ("kind", "y")]),
            10.0
        ));
        assert!(same(scrape.sum("plain", &[]), 0.5));
        assert!(same(scrape.sum("absent", &[]), 0.0));
    }
}
