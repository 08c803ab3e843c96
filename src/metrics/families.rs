//! Metric families as the prometheus crate wants them.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as HistogramProto, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::stats::{HISTOGRAM_BOUNDS, Histogram};

/// A metric's labels, by name.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// Families, in the order in which they were first named.
#[derive(Debug, Default)]
pub(super) struct Families(Vec<MetricFamily>);

impl Families {
    /// Adds a gauge.
    pub(super) fn gauge(&mut self, name: &str, help: &str, labels: Labels<'_>, value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = labelled(labels);
        metric.set_gauge(gauge);
        self.add(name, help, MetricType::GAUGE, metric);
    }

    /// Adds a counter; its name ends in `_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str, labels: Labels<'_>, value: f64) {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = labelled(labels);
        metric.set_counter(counter);
        self.add(name, help, MetricType::COUNTER, metric);
    }

    /// Adds a histogram of seconds.
    pub(super) fn histogram(&mut self, name: &str, help: &str, labels: Labels<'_>, histogram: &Histogram) {
        let mut metric = labelled(labels);
        metric.set_histogram(cumulative(histogram));
        self.add(name, help, MetricType::HISTOGRAM, metric);
    }

    /// All families, none of them empty.
    pub(super) fn into_vec(self) -> Vec<MetricFamily> {
        self.0
    }

    fn add(&mut self, name: &str, help: &str, kind: MetricType, metric: Metric) {
        if let Some(family) = self.0.iter_mut().find(|family| family.name() == name) {
            family.mut_metric().push(metric);
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(vec![metric]);
        self.0.push(family);
    }
}

fn labelled(labels: Labels<'_>) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

/// Prometheus counts in each bucket what is in those below it too. The last, without a bound, goes without saying.
fn cumulative(histogram: &Histogram) -> HistogramProto {
    let mut below = 0;
    let bucket = |(bound, count): (&f64, &u64)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(below);
        bucket
    };
    let buckets = HISTOGRAM_BOUNDS
        .iter()
        .zip(histogram.counts())
        .map(bucket)
        .collect();
    let mut proto = HistogramProto::default();
    proto.set_bucket(buckets);
    proto.set_sample_count(histogram.count());
    proto.set_sample_sum(histogram.sum_seconds());
    proto
}
