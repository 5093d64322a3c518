//! Figures from an engine's own Prometheus metrics.

/// The sum of all series of a metric that counts things, in the text format
/// (<https://prometheus.io/docs/instrumenting/exposition_formats/>); `None` where there is no series.
#[must_use]
pub fn count(body: &[u8], name: &str) -> Option<u32> {
    let text = std::str::from_utf8(body).ok()?;
    let series = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            // A label's value may hold anything, also a brace; the series' value holds none.
            Some(labelled) => labelled.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        let value = value.split_whitespace().next()?.parse::<f64>().ok()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        Some(value.round() as u32)
    };
    text.lines().filter_map(series).fold(None, |sum, it| Some(sum.unwrap_or(0).saturating_add(it)))
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn series_of_one_metric_are_summed_and_others_left_alone() {
        let body =
            b"# HELP run x\n# TYPE run gauge\nrun{a=\"}1\",b=\"\"} 2.0\nrun{a=\"2\"} 1.0 1700\n\
                     run_total{a=\"1\"} 9\nwait 4\nbroken{a=\"1\"} x\n";
        assert_eq!(count(body, "run"), Some(3));
        assert_eq!(count(body, "wait"), Some(4));
        assert_eq!((count(body, "none"), count(body, "broken")), (None, None));
    }
}
