//! The standard `process_*` families, read from `/proc/self` when scraped.

use std::{collections::HashMap, fs, time::Duration};

use prometheus::{
    core::{Collector, Desc},
    proto::{Counter, Gauge, Metric, MetricFamily, MetricType},
};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// Collects them all at once.
pub(super) struct ProcessCollector {
    descs: Vec<Desc>,
    started_at: Duration,
}

/// One family: its name, its help, its type, and how its value is read. `None`: not to be had here.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    read: fn(&Snapshot) -> Option<f64>,
}

const FAMILIES: [Family; 7] = [
    Family {
        name: "process_cpu_seconds_total",
        help: "Total user and system CPU time spent in seconds.",
        kind: MetricType::COUNTER,
        read: |_| Some(cpu_seconds()),
    },
    Family {
        name: "process_open_fds",
        help: "Number of open file descriptors.",
        kind: MetricType::GAUGE,
        read: |_| open_fds(),
    },
    Family {
        name: "process_max_fds",
        help: "Maximum number of open file descriptors.",
        kind: MetricType::GAUGE,
        read: |_| max_fds(),
    },
    Family {
        name: "process_resident_memory_bytes",
        help: "Resident memory size in bytes.",
        kind: MetricType::GAUGE,
        read: |snapshot| snapshot.kibibytes("VmRSS"),
    },
    Family {
        name: "process_virtual_memory_bytes",
        help: "Virtual memory size in bytes.",
        kind: MetricType::GAUGE,
        read: |snapshot| snapshot.kibibytes("VmSize"),
    },
    Family {
        name: "process_threads",
        help: "Number of threads.",
        kind: MetricType::GAUGE,
        read: |snapshot| snapshot.number("Threads"),
    },
    Family {
        name: "process_start_time_seconds",
        help: "Start time of the process since the Unix epoch in seconds.",
        kind: MetricType::GAUGE,
        read: |snapshot| Some(snapshot.started_at.as_secs_f64()),
    },
];

impl ProcessCollector {
    /// `started_at`: since the Unix epoch.
    pub(super) fn new(started_at: Duration) -> Result<Self, prometheus::Error> {
        let descs = FAMILIES
            .iter()
            .map(|family| {
                Desc::new(
                    family.name.to_owned(),
                    family.help.to_owned(),
                    Vec::new(),
                    HashMap::new(),
                )
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { descs, started_at })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let snapshot = Snapshot {
            status: fs::read_to_string("/proc/self/status").unwrap_or_default(),
            started_at: self.started_at,
        };
        FAMILIES
            .iter()
            .filter_map(|family| Some(family.sample((family.read)(&snapshot)?)))
            .collect()
    }
}

impl Family {
    fn sample(&self, value: f64) -> MetricFamily {
        let mut metric = Metric::default();
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind);
        family.set_metric(vec![metric]);
        family
    }
}

/// What several families are read from.
struct Snapshot {
    /// `/proc/self/status`: lines of `Name:  value`.
    status: String,
    started_at: Duration,
}

impl Snapshot {
    fn number(&self, name: &str) -> Option<f64> {
        self.status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?
            .split_ascii_whitespace()
            .next()?
            .parse()
            .ok()
    }

    /// The kernel says `kB` and means KiB.
    fn kibibytes(&self, name: &str) -> Option<f64> {
        self.number(name).map(|number| number * 1024.0)
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "exact for 285 million years")]
    let seconds = time.tv_sec as f64;
    #[expect(clippy::cast_precision_loss, reason = "below 10^9")]
    let fraction = time.tv_nsec as f64 / 1e9;
    seconds + fraction
}

fn open_fds() -> Option<f64> {
    // Reading the directory opens one itself.
    let open = fs::read_dir("/proc/self/fd")
        .ok()?
        .count()
        .saturating_sub(1);
    u32::try_from(open).ok().map(f64::from)
}

fn max_fds() -> Option<f64> {
    let limit = getrlimit(Resource::Nofile).current;
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 descriptors")]
    limit.map(|limit| limit as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled() -> HashMap<String, f64> {
        let collector = ProcessCollector::new(Duration::from_secs(1_767_225_600)).unwrap();
        collector
            .collect()
            .into_iter()
            .map(|family| {
                let metric = &family.get_metric()[0];
                let value = match family.get_field_type() {
                    MetricType::COUNTER => metric.get_counter().get_value(),
                    _ => metric.get_gauge().get_value(),
                };
                (family.name().to_owned(), value)
            })
            .collect()
    }

    #[test]
    fn every_standard_family_is_there_and_makes_sense() {
        let samples = sampled();
        assert_eq!(samples.len(), FAMILIES.len());
        let at_least = |name: &str, least: f64| {
            assert!(samples[name] >= least, "{name} is {}", samples[name]);
        };
        at_least("process_cpu_seconds_total", f64::MIN_POSITIVE);
        at_least("process_open_fds", 1.0);
        at_least("process_max_fds", samples["process_open_fds"]);
        at_least("process_resident_memory_bytes", 64.0 * 1024.0);
        at_least(
            "process_virtual_memory_bytes",
            samples["process_resident_memory_bytes"],
        );
        at_least("process_threads", 1.0);
        assert_eq!(samples["process_start_time_seconds"], 1_767_225_600.0);
    }

    #[test]
    fn an_open_file_is_counted_when_scraped() {
        // Other tests open files at the same time: enough of them that those do not matter.
        let before = sampled()["process_open_fds"];
        let files: Vec<_> = (0..200)
            .map(|_| fs::File::open("/proc/self/status").unwrap())
            .collect();
        assert!(sampled()["process_open_fds"] >= before + 100.0);
        drop(files);
    }
}
