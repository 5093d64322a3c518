//! Three drawings, as plain SVG: waits by tenant, share over time, and what is resident.

use std::fmt::Write;
use std::path::Path;

use orchestrator_core::TenantId;
use serde_json::Value;

use crate::figures::percentile;
use crate::scenarios::{Settings, backlog, core, flood, seconds, swap, windows};
use crate::world::World;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 50.0;
const COLOURS: [&str; 6] = ["#4063d8", "#389826", "#cb3c33", "#9558b2", "#d88c20", "#555555"];

/// One line, or one row of bars.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

pub(crate) fn draw(all: &Value, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let flooded = flood::world(Settings::new(all, "flood"), 1, core(), true);
    let waits = lines("waits of light tenants under flood", "percent", "s", &waits(&flooded));
    std::fs::write(folder.join("waits.svg"), waits)?;
    let settings = Settings::new(all, "weights");
    let weighted = backlog::world(settings, 1, core(), &[1, 2, 3, 4, 5], false);
    let shares = lines("share of tokens by weight", "s", "share", &shares(&weighted));
    std::fs::write(folder.join("shares.svg"), shares)?;
    let settings = Settings::new(all, "swap");
    let swapped = swap::world(settings, 1, core(), settings.duration() / 8);
    std::fs::write(folder.join("swaps.svg"), lines("model loads", "s", "model", &loads(&swapped)))
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn waits(world: &World) -> Vec<Series> {
    let of = |tenant: u32| {
        let tasks = world.tasks.iter().filter(|it| it.tenant.0 == tenant);
        let mut waits: Vec<u64> = tasks.map(|it| it.wait(world.now)).collect();
        let points = (1..=99).map(|it| (it as f64, seconds(percentile(&mut waits, it)))).collect();
        Series { name: format!("tenant {tenant}"), points }
    };
    (1..=5).map(of).collect()
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn shares(world: &World) -> Vec<Series> {
    let tenants: Vec<TenantId> = (1..=5).map(TenantId).collect();
    let windows = windows(world, &tenants, (0, 60));
    let of = |index: usize| {
        let points = windows.iter().enumerate().step_by(10).map(|(second, window)| {
            (second as f64, window[index] / window.iter().sum::<f64>().max(1.0))
        });
        Series { name: format!("weight {}", index + 1), points: points.collect() }
    };
    (0..5).map(of).collect()
}

fn loads(world: &World) -> Vec<Series> {
    let mut points = vec![(0.0, 0.0)];
    for (at, model) in &world.stats.loads {
        let last = points.last().map_or(0.0, |it| it.1);
        points.push((seconds(*at), last));
        points.push((seconds(*at), f64::from(model.0)));
    }
    vec![Series { name: "resident".into(), points }]
}

fn lines(title: &str, x_name: &str, y_name: &str, series: &[Series]) -> String {
    let all = || series.iter().flat_map(|it| &it.points);
    let x_max = all().map(|it| it.0).fold(1e-9, f64::max);
    let y_max = all().map(|it| it.1).fold(1e-9, f64::max);
    let x = |value: f64| MARGIN + value / x_max * (WIDTH - 2.0 * MARGIN);
    let y = |value: f64| HEIGHT - MARGIN - value / y_max * (HEIGHT - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n<text x=\"{MARGIN}\" y=\"25\" font-size=\"15\">{title}</text>\n"
    );
    let (left, bottom) = (MARGIN, HEIGHT - MARGIN);
    let axes = format!(
        "<path d=\"M{left} {MARGIN}V{bottom}H{}\" stroke=\"black\" fill=\"none\"/>\n\
         <text x=\"{}\" y=\"{}\">{x_max:.0} {x_name}</text>\n\
         <text x=\"5\" y=\"{}\">{y_max:.2} {y_name}</text>\n",
        WIDTH - MARGIN,
        WIDTH - MARGIN - 60.0,
        bottom + 20.0,
        MARGIN - 8.0,
    );
    svg.push_str(&axes);
    for ((index, it), colour) in (0_u8..).zip(series).zip(COLOURS.iter().cycle()) {
        let path: Vec<String> =
            it.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let line = format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\"/>\n\
             <text x=\"{}\" y=\"{}\" fill=\"{colour}\">{}</text>\n",
            path.join(" "),
            WIDTH - MARGIN - 70.0,
            MARGIN + 16.0 * f64::from(index),
            it.name,
        );
        write!(svg, "{line}").expect("a string takes every line");
    }
    svg.push_str("</svg>\n");
    svg
}
