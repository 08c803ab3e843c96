//! Passive counters and histograms, read by snapshot.
