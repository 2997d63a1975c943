//! What one generation has counted at a moment, as plain data that can be sent, added up and written for Prometheus. PURE.
//! Takes the metrics' library's families, gives sums and both text formats (Prometheus 0.0.4, OpenMetrics 1.0).
//! Surprise: no number here is a float. Sums of durations are kept in billionths, so that what went through JSON is never a hair less than
//! what was shown before, which Prometheus would take for a restart.

use std::collections::BTreeMap;
use std::fmt::Write;

use prometheus::proto::{MetricFamily, MetricType};
use serde::{Deserialize, Serialize};

/// Families by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot(BTreeMap<String, Family>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Family {
    help: String,
    kind: Kind,
    /// By their labels as both formats write them, without braces.
    samples: BTreeMap<String, Sample>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Sample {
    Number(i64),
    Histogram(Histogram),
}

/// Of observations; buckets are cumulative, each under its upper bound as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    pub buckets: Vec<(String, u64)>,
    /// In billionths of the unit.
    pub sum: u64,
    pub count: u64,
}

/// What a scraper can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Prometheus,
    OpenMetrics,
}

impl Snapshot {
    pub fn of(families: &[MetricFamily]) -> Self {
        let known =
            families.iter().filter_map(|family| Some((family.name().to_owned(), Family::of(family)?)));
        Self(known.collect())
    }

    /// One more counter, that is kept elsewhere.
    pub fn count(&mut self, name: &str, help: &str, samples: &[(&str, u64)]) {
        let number = |number: u64| Sample::Number(number.try_into().unwrap_or(i64::MAX));
        let samples = samples.iter().map(|(labels, count)| ((*labels).to_owned(), number(*count)));
        let family = Family { help: help.to_owned(), kind: Kind::Counter, samples: samples.collect() };
        self.0.insert(name.to_owned(), family);
    }

    /// What both have counted together.
    pub fn add(&mut self, other: &Self) {
        for (name, family) in &other.0 {
            match self.0.get_mut(name) {
                Some(own) => own.add(family),
                None => drop(self.0.insert(name.clone(), family.clone())),
            }
        }
    }

    /// What stays of a generation that is gone: what it did, not what it had open.
    pub fn bury(mut self) -> Self {
        self.0.retain(|_, family| family.kind != Kind::Gauge);
        self
    }

    /// A number; 0 where nothing was counted.
    pub fn number(&self, name: &str, labels: &str) -> i64 {
        match self.0.get(name).and_then(|family| family.samples.get(labels)) {
            Some(Sample::Number(number)) => *number,
            _ => 0,
        }
    }

    /// The numbers of a family, with the values of their labels in the order of the labels' names. For values without quotes.
    pub fn numbers(&self, name: &str) -> impl Iterator<Item = (Vec<&str>, i64)> {
        self.0.get(name).into_iter().flat_map(|family| &family.samples).filter_map(|(labels, sample)| {
            let Sample::Number(number) = sample else { return None };
            Some((labels.split('"').skip(1).step_by(2).collect(), *number))
        })
    }

    pub fn histogram(&self, name: &str) -> Option<&Histogram> {
        match self.0.get(name)?.samples.get("")? {
            Sample::Histogram(histogram) => Some(histogram),
            Sample::Number(_) => None,
        }
    }

    pub fn text(&self, format: Format) -> String {
        let mut text = String::with_capacity(16 * 1024);
        for (name, family) in &self.0 {
            // Writing into a string cannot fail.
            let _ = family.write(&mut text, name, format);
        }
        if format == Format::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

impl Family {
    /// `None` for kinds that we do not use.
    fn of(family: &MetricFamily) -> Option<Self> {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => Kind::Counter,
            MetricType::GAUGE => Kind::Gauge,
            MetricType::HISTOGRAM => Kind::Histogram,
            MetricType::SUMMARY | MetricType::UNTYPED => return None,
        };
        let samples = family.get_metric().iter().map(|metric| {
            let labels = metric.get_label().iter().map(|pair| label(pair.name(), pair.value()));
            let sample = match kind {
                Kind::Counter => Sample::Number(metric.get_counter().get_value() as i64),
                Kind::Gauge => Sample::Number(metric.get_gauge().get_value() as i64),
                Kind::Histogram => Sample::Histogram(Histogram::of(metric.get_histogram())),
            };
            (labels.collect::<Vec<_>>().join(","), sample)
        });
        Some(Self { help: family.help().to_owned(), kind, samples: samples.collect() })
    }

    fn add(&mut self, other: &Self) {
        for (labels, sample) in &other.samples {
            match (self.samples.get_mut(labels), sample) {
                (Some(Sample::Number(own)), Sample::Number(more)) => *own = own.saturating_add(*more),
                (Some(Sample::Histogram(own)), Sample::Histogram(more)) => own.add(more),
                _ => drop(self.samples.insert(labels.clone(), sample.clone())),
            }
        }
    }

    fn write(&self, out: &mut String, name: &str, format: Format) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // OpenMetrics calls a counter's family by the name without the ending of its samples.
        let called = match format {
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            Format::Prometheus => name,
        };
        writeln!(out, "# HELP {called} {}", self.help)?;
        writeln!(out, "# TYPE {called} {kind}")?;
        if let Some(unit) = ["seconds", "bytes"].into_iter().find(|unit| called.ends_with(unit))
            && format == Format::OpenMetrics
        {
            writeln!(out, "# UNIT {called} {unit}")?;
        }
        for (labels, sample) in &self.samples {
            match sample {
                Sample::Number(number) if labels.is_empty() => writeln!(out, "{name} {number}")?,
                Sample::Number(number) => writeln!(out, "{name}{{{labels}}} {number}")?,
                Sample::Histogram(histogram) => histogram.write(out, name, labels)?,
            }
        }
        Ok(())
    }
}

impl Histogram {
    fn of(histogram: &prometheus::proto::Histogram) -> Self {
        let buckets = histogram.get_bucket().iter();
        Self {
            buckets: buckets
                .map(|one| (format!("{:?}", one.upper_bound()), one.cumulative_count()))
                .collect(),
            sum: (histogram.get_sample_sum() * 1e9).round() as u64,
            count: histogram.get_sample_count(),
        }
    }

    /// The bounds are the program's own, so both have the same.
    fn add(&mut self, other: &Self) {
        for ((_, own), (_, more)) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += more;
        }
        self.sum += other.sum;
        self.count += other.count;
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) -> std::fmt::Result {
        let (comma, braced) = match labels {
            "" => ("", String::new()),
            labels => (",", format!("{{{labels}}}")),
        };
        for (bound, count) in &self.buckets {
            writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}")?;
        }
        writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}", self.count)?;
        writeln!(out, "{name}_sum{braced} {}.{:09}", self.sum / 1_000_000_000, self.sum % 1_000_000_000)?;
        writeln!(out, "{name}_count{braced} {}", self.count)
    }
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    format!("{name}=\"{value}\"")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use prometheus::{HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

    use super::*;

    fn generation(requests: u64, open: i64, took: f64) -> Snapshot {
        let registry = Registry::new();
        let counter = IntCounterVec::new(Opts::new("r_total", "Requests"), &["route"]).unwrap();
        let gauge = IntGauge::new("open", "Open").unwrap();
        let opts = HistogramOpts::new("d_seconds", "Took").buckets(vec![0.0005, 1.0]);
        let histogram = prometheus::Histogram::with_opts(opts).unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        registry.register(Box::new(gauge.clone())).unwrap();
        registry.register(Box::new(histogram.clone())).unwrap();
        counter.with_label_values(&["a\"b\\"]).inc_by(requests);
        gauge.set(open);
        histogram.observe(took);
        Snapshot::of(&registry.gather())
    }

    #[test]
    fn generations_are_added_up_and_the_dead_have_nothing_open() {
        let mut sum = generation(3, 2, 0.1);
        sum.add(&generation(4, 1, 2.0));
        sum.add(&generation(10, 9, 0.0001).bury());
        let text = sum.text(Format::Prometheus);
        let expected = "# HELP d_seconds Took\n# TYPE d_seconds histogram\n\
            d_seconds_bucket{le=\"0.0005\"} 1\nd_seconds_bucket{le=\"1.0\"} 2\nd_seconds_bucket{le=\"+Inf\"} 3\n\
            d_seconds_sum 2.100100000\nd_seconds_count 3\n\
            # HELP open Open\n# TYPE open gauge\nopen 3\n\
            # HELP r_total Requests\n# TYPE r_total counter\nr_total{route=\"a\\\"b\\\\\"} 17\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn open_metrics_names_units_and_ends() {
        let mut snapshot = generation(1, 0, 0.1);
        snapshot.count("c_total", "Of elsewhere", &[("kind=\"x\"", 7)]);
        let text = snapshot.text(Format::OpenMetrics);
        for line in
            ["# TYPE c counter\nc_total{kind=\"x\"} 7\n", "# UNIT d_seconds seconds\n", "# TYPE open gauge\n"]
        {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }

    #[test]
    fn nothing_is_lost_on_the_way() {
        let snapshot = generation(u64::from(u32::MAX), -1, 0.1 + 0.2);
        let sent = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&sent).unwrap(), snapshot);
        assert_eq!(snapshot.histogram("d_seconds").unwrap().sum, 300_000_000);
        assert_eq!(snapshot.number("open", ""), -1);
    }
}
