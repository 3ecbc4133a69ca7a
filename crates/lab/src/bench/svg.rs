//! The report as bars on a logarithmic scale: time at the left, peak memory at the right.

use std::fmt::{self, Write};

use super::report::{Cell, Report};
use super::{DeviceKind, Measure, Shape};

const WIDTH: f64 = 960.0;
const TOP: f64 = 56.0;
const BAR: f64 = 13.0;
const GROUP_HEAD: f64 = 24.0;
/// Where names end and the bars of the two panels begin, and how long the longest bar is.
const NAMES: f64 = 84.0;
const PANELS: [f64; 2] = [92.0, 564.0];
const PANEL_WIDTH: f64 = 310.0;

/// Colours of both modes of the viewer; ours stands out.
const STYLE: &str = "\
text { font: 11px system-ui, sans-serif; fill: #24292f }
.head { font-weight: 600; font-size: 12px }
.name { text-anchor: end }
.grid { stroke: #d0d7de; stroke-width: 1 }
.null { fill: #afb8c1 } .margay { fill: #cf4b1f } .bird2 { fill: #2f6fb3 } .frr { fill: #3d8b5f }
.gobgp { fill: #8a63c9 } .openbgpd { fill: #b58a14 } .over { fill-opacity: 0.45 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .grid { stroke: #3d444d }
.null { fill: #656c76 } .margay { fill: #ff7b4d } .bird2 { fill: #5ea3ea } .frr { fill: #5fbf8a }
.gobgp { fill: #b295ea } .openbgpd { fill: #dcb144 }
}
";

/// A group of bars: one of each device.
struct Group {
    title: String,
    shape: Shape,
    time: Measure,
    /// Beside the first time of a shape.
    memory: bool,
}

/// What a bar shows: seconds or MiB.
struct Bar {
    value: f64,
    label: String,
    over: bool,
}

/// A logarithmic axis from one power of ten to another.
struct Axis {
    from: f64,
    to: f64,
}

pub(super) fn plot(report: &Report) -> String {
    let groups: Vec<Group> = report.shapes().into_iter().flat_map(groups).collect();
    let devices: Vec<DeviceKind> = report.versions.keys().copied().collect();
    let time = |group: &Group, device| bar(report, group.shape, device, group.time);
    let memory = |group: &Group, device| bar(report, group.shape, device, Measure::PeakMib).filter(|_| group.memory);
    let all = |of: &dyn Fn(&Group, DeviceKind) -> Option<Bar>| {
        Axis::over(groups.iter().flat_map(|group| devices.iter().filter_map(|&device| Some(of(group, device)?.value))))
    };
    let (time_axis, memory_axis) = (all(&time), all(&memory));
    let height = TOP + groups.len() as f64 * (GROUP_HEAD + devices.len() as f64 * BAR) + 12.0;
    let mut text = String::new();
    put(
        &mut text,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Time and peak memory of BGP speakers\">\n<style>\n{STYLE}</style>"
        ),
    );
    for (axis, left, title) in
        [(&time_axis, PANELS[0], "time, s (logarithmic)"), (&memory_axis, PANELS[1], "peak memory, MiB (logarithmic)")]
    {
        axis.draw(&mut text, left, height, title);
    }
    let mut y = TOP;
    for group in &groups {
        put(&mut text, format_args!("<text class=\"head\" x=\"12\" y=\"{}\">{}</text>", y + 16.0, group.title));
        y += GROUP_HEAD;
        for &device in &devices {
            put(&mut text, format_args!("<text class=\"name\" x=\"{NAMES}\" y=\"{}\">{device}</text>", y + 10.0));
            if let Some(bar) = time(group, device) {
                bar.draw(&mut text, &time_axis, PANELS[0], y, device);
            }
            if let Some(bar) = memory(group, device) {
                bar.draw(&mut text, &memory_axis, PANELS[1], y, device);
            }
            y += BAR;
        }
    }
    text + "</svg>\n"
}

fn groups(shape: Shape) -> Vec<Group> {
    let group = |what: &str, time, memory| Group { title: format!("{shape}: {what}"), shape, time, memory };
    let mut groups = vec![group("announce", Measure::AnnounceSeconds, true)];
    match shape {
        Shape::Ten100kSame => groups.push(group("best peer down", Measure::DownSeconds, false)),
        Shape::Reflector500 => groups.push(group("one change, p50", Measure::ChangeP50Ms, false)),
        _ => {}
    }
    groups
}

fn bar(report: &Report, shape: Shape, device: DeviceKind, measure: Measure) -> Option<Bar> {
    let Cell { spread, exceeded, .. } = report.cell(shape, device, measure)?;
    if let Some(limit) = exceeded {
        return Some(Bar { value: report.limit_seconds as f64, label: limit.replace('>', "&gt;"), over: true });
    }
    let median = (*spread)?.median;
    let value = if measure == Measure::ChangeP50Ms { median / 1000.0 } else { median };
    // Three digits that say something.
    let digits = (2 - value.max(1e-4).log10().floor() as i32).clamp(0, 4) as usize;
    let label = format!("{value:.digits$}");
    Some(Bar { value, label, over: false })
}

impl Bar {
    fn draw(&self, text: &mut String, axis: &Axis, left: f64, y: f64, device: DeviceKind) {
        let length = axis.length(self.value);
        let over = if self.over { " over" } else { "" };
        put(
            text,
            format_args!(
                "<rect class=\"{device}{over}\" x=\"{left}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" rx=\"2\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
                y + 1.0,
                BAR - 2.0,
                left + length + 4.0,
                y + 10.0,
                self.label
            ),
        );
    }
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>) -> Axis {
        let (mut from, mut to) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|&value| value > 0.0) {
            from = from.min(value.log10().floor());
            to = to.max(value.log10().ceil());
        }
        if from < to { Axis { from, to } } else { Axis { from: 0.0, to: 1.0 } }
    }

    fn length(&self, value: f64) -> f64 {
        let part = (value.max(f64::MIN_POSITIVE).log10() - self.from) / (self.to - self.from);
        PANEL_WIDTH * part.clamp(0.005, 1.0)
    }

    fn draw(&self, text: &mut String, left: f64, height: f64, title: &str) {
        put(text, format_args!("<text class=\"head\" x=\"{left}\" y=\"20\">{title}</text>"));
        let mut power = self.from;
        while power <= self.to {
            let x = left + PANEL_WIDTH * (power - self.from) / (self.to - self.from);
            put(
                text,
                format_args!(
                    "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"44\" y2=\"{}\"/>\
                 <text x=\"{x:.1}\" y=\"38\" text-anchor=\"middle\">{}</text>",
                    height - 8.0,
                    10f64.powf(power)
                ),
            );
            power += 1.0;
        }
    }
}

fn put(text: &mut String, line: fmt::Arguments) {
    writeln!(text, "{line}").expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::{report, run};

    #[test]
    fn a_bar_ten_times_as_long_in_time_is_one_power_further() {
        let axis = Axis::over([0.02, 30.0].into_iter());
        assert_eq!((axis.from, axis.to), (-2.0, 2.0));
        assert!((axis.length(1.0) - axis.length(0.1) - PANEL_WIDTH / 4.0).abs() < 1e-6);
    }

    #[test]
    fn every_device_has_a_bar_of_time_and_one_of_memory() {
        let plot = report(vec![run(DeviceKind::Margay, 1, 0.05, 40.0), run(DeviceKind::Bird, 1, 0.12, 20.0)]).svg();
        assert_eq!(plot.matches("<rect class=\"margay\"").count(), 2, "{plot}");
        assert_eq!(plot.matches("<rect class=\"bird2\"").count(), 2);
        assert!(plot.contains("prefers-color-scheme: dark") && plot.ends_with("</svg>\n"));
        assert_eq!(plot.matches("<text").count(), plot.matches("</text>").count());
    }
}
