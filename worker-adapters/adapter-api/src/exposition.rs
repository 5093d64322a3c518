//! Figures from an engine's own Prometheus metrics.

/// The sum of all series of a metric that counts things, in the text format
/// (<https://prometheus.io/docs/instrumenting/exposition_formats/>); `None` where there is no series.
#[must_use]
pub fn count(body: &[u8], name: &str) -> Option<u32> {
    let add = |sum: Option<u32>, value: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        Some(sum.unwrap_or(0).saturating_add(value.round() as u32))
    };
    samples(body, name).fold(None, add)
}

/// The highest of all series of a metric that is a share, from 0 to 1; `None` where there is no series.
#[must_use]
pub fn share(body: &[u8], name: &str) -> Option<f64> {
    samples(body, name).filter(|it| (0.0..=1.0).contains(it)).reduce(f64::max)
}

fn samples<'a>(body: &'a [u8], name: &'a str) -> impl Iterator<Item = f64> + 'a {
    let sample = move |line: &str| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            // A label's value may hold anything, also a brace; the series' value holds none.
            Some(labelled) => labelled.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split_whitespace().next()?.parse::<f64>().ok()
    };
    std::str::from_utf8(body).unwrap_or_default().lines().filter_map(sample)
}

#[cfg(test)]
mod tests {
    use super::{count, share};

    #[test]
    fn series_of_one_metric_are_summed_and_others_left_alone() {
        let body =
            b"# HELP run x\n# TYPE run gauge\nrun{a=\"}1\",b=\"\"} 2.0\nrun{a=\"2\"} 1.0 1700\n\
                     run_total{a=\"1\"} 9\nwait 4\nbroken{a=\"1\"} x\n";
        assert_eq!(count(body, "run"), Some(3));
        assert_eq!(count(body, "wait"), Some(4));
        assert_eq!((count(body, "none"), count(body, "broken")), (None, None));
        let body = b"full{e=\"0\"} 0.25\nfull{e=\"1\"} 0.75\nfull{e=\"2\"} NaN\n";
        assert_eq!((share(body, "full"), share(body, "none")), (Some(0.75), None));
    }
}
